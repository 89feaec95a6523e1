"""What HAProxy and Safepoint share in the home: a few small files and two locks. It may touch those alone."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safepoint.record import Record
from safepoint.state.paths import Home

_PLACE = 4096
LOCK_TIMEOUT = 60.0
"""Seconds."""


class Trouble(Exception):
    """One clause for people about an HAProxy that does not do as it is told."""


class Files(Record):
    """No name in here can be an app's control socket or pidfile: those end in `.sock` and `.pid`."""

    home: Home

    @property
    def directory(self) -> Path:
        """HAProxy's working directory too: its own names for these files are short, however long the home's is."""
        return self.home.run

    @property
    def routes(self) -> Path:
        return self.directory / "routes.map"

    @property
    def socket(self) -> Path:
        return self.directory / "haproxy.socket"

    @property
    def configuration(self) -> Path:
        return self.directory / "haproxy.cfg"

    @property
    def listen(self) -> Path:
        return self.directory / "haproxy.listen"

    @property
    def life(self) -> Path:
        """HAProxy holds its flock for as long as it lives; the text is its pid."""
        return self.directory / "haproxy.lock"

    @property
    def log(self) -> Path:
        return self.home.root / "haproxy.log"

    def read_routes(self) -> dict[str, int]:
        """Without the lock of `change` too: what has become the next text's place meanwhile is read again."""
        while True:
            try:
                with self.routes.open() as file:
                    before = _state(os.fstat(file.fileno()))
                    text = file.read()
                if _state(self.routes.stat()) == before:
                    break
            except FileNotFoundError:
                return {}
        return {app: int(port) for app, port in map(str.split, text.splitlines())}

    def write_routes(self, routes: Mapping[str, int]) -> None:
        self.write(self.routes, "".join(f"{app} {port}\n" for app, port in sorted(routes.items())))

    def read_listen(self) -> tuple[str, int] | None:
        """Address and port of the last start."""
        try:
            address, port = self.listen.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return address, int(port)

    def write(self, path: Path, text: str) -> None:
        """Durable; at any instant the file has the old text or the new. Under the lock of `change`.

        The old one's place on the disk is kept, for the next: the undo of a switch must not need space on a full disk.
        """
        new, old = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")
        with open(os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:  # noqa: PTH123  a descriptor
            file.write(text)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        old.unlink(missing_ok=True)
        if path.exists():
            old.hardlink_to(path)
            new.replace(path)
            old.replace(new)
        else:
            new.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        _keep_place(new)  # only now: before, a power cut could have left the old one as the file itself

    @contextmanager
    def change(self) -> Iterator[None]:
        """One change of routes, one start or one end at a time, from whatever process or thread. Raises Trouble."""
        lock = os.open(self.directory / "routes.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_TIMEOUT  # its holder may have got a SIGSTOP
        try:
            while not _locked(lock, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise Trouble("another change of the routes does not come to its end")
                time.sleep(0.002)
            yield
        finally:
            os.close(lock)

    def alive(self) -> bool:
        """Whether an HAProxy of this home lives. Under the lock of `change`, or a start may be disturbed."""
        try:
            lock = os.open(self.life, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)


def _state(found: os.stat_result) -> tuple[int, ...]:
    """Tells a file that was written or renamed from the same file before."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _keep_place(path: Path) -> None:
    """For a text of a few thousand bytes, whatever is there now. Where there is no space it has what it has."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):
            os.posix_fallocate(file, 0, _PLACE)
    finally:
        os.close(file)


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
