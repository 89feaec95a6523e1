"""The machine under a home: disks that are small, full, read-only or of a kind. Needs root, as mounting does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNS = 0x00020000
NOBODY = 65534
_private = False


def own_mounts() -> None:
    """From now on this process, and what it starts, mounts for itself alone: all of it ends with the process."""
    global _private  # noqa: PLW0603  what is done to a process is done once
    if not _private:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "cannot have mounts of one's own")
        _mount("--make-rprivate", "/")
        _private = True


@dataclass(frozen=True)
class Disk:
    """A file system of its own."""

    path: Path

    def fill(self) -> None:
        """Leave no block free."""
        self.free()
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(512))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def left(self) -> int:
        """Free bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def read_only(self, yes: bool = True) -> None:
        """Nothing open for writing keeps it from that: it is the mount that refuses."""
        _mount("-o", f"remount,bind,{'ro' if yes else 'rw'}", str(self.path))

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"


@contextmanager
def small_disk(path: Path, megabytes: int = 64) -> Iterator[Disk]:
    """A tmpfs at `path`."""
    own_mounts()
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "safepoint-test", str(path))
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def without_privilege() -> Iterator[None]:
    """As nobody, where we are root: root is hindered by no permissions."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


_MAKE = {"ext4": ("/usr/sbin/mkfs.ext4", "-q", "-F"), "xfs": ("/usr/sbin/mkfs.xfs", "-q", "-m", "reflink=1")}
FILE_SYSTEMS = tuple(_MAKE)


@contextmanager
def disk_of(kind: str, path: Path, image: Path) -> Iterator[None]:
    """One of FILE_SYSTEMS at `path`, in which every user may write; it is kept in the file `image`."""
    own_mounts()
    with image.open("wb") as file:
        file.truncate(512 << 20)  # what mkfs.xfs wants at least is 300 MiB; nothing is written to most of it
    subprocess.run([*_MAKE[kind], str(image)], check=True, capture_output=True)
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", kind, "-o", "loop", str(image), str(path))
    try:
        path.chmod(0o777)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@contextmanager
def failing(pid: int, calls: str, error: str) -> Iterator[None]:
    """System calls of a process, and of what it starts from now on, that fail."""
    words = ["-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    with subprocess.Popen(["strace", *words, "-p", str(pid)], stdin=subprocess.DEVNULL) as tracer:
        try:
            _await_traced(pid, tracer)
            yield
        finally:
            tracer.terminate()


def _await_traced(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    """Until each thread has its tracer (proc_pid_status(5))."""
    deadline = time.monotonic() + 60
    while True:
        states = [each.read_text() for each in Path("/proc", str(pid), "task").glob("*/status")]
        if all("TracerPid:\t0\n" not in state for state in states):
            return
        assert tracer.poll() is None, "strace cannot trace it"
        assert time.monotonic() < deadline
        time.sleep(0.01)
