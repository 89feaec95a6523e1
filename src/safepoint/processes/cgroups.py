"""One cgroup (version 2) and the cgroups that its processes made inside it: who is in it, ending it, removing it."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_FREEZING = 0.1
"""Seconds that processes have to be frozen before they are signalled all the same: one may be deep in the kernel."""

_AT_ONCE = 24
"""Descriptors. To double its table of them, from 64 on, takes a process with threads 10 ms each (synchronize_rcu)."""


def populated(cgroup: Path) -> bool:
    """Whether a live process is in it or beneath; a zombie is not (cgroups(7)). False where there is no cgroup."""
    try:
        return "populated 1" in (cgroup / "cgroup.events").read_text(encoding="ascii")
    except OSError as error:
        if _gone(error):
            return False
        raise


def members(cgroup: Path) -> set[int]:
    """The pids in it and beneath."""
    found: set[int] = set()
    for each in _family(cgroup):
        # A threaded cgroup cannot be read (EOPNOTSUPP); its processes are in an ancestor's list.
        with suppress(OSError):
            found.update(map(int, (each / "cgroup.procs").read_text(encoding="ascii").split()))
    return found - {0}  # 0: of a PID namespace that we cannot see; kill(0) would hit our own group


def terminate(cgroup: Path) -> bool:
    """SIGTERM every process in it; whether there was one."""
    with _frozen(cgroup):
        return _terminate(cgroup)


@contextmanager
def _frozen(cgroup: Path) -> Iterator[None]:
    """Nothing in it runs meanwhile, so that all get the signal at one moment.

    Without it, of `migrate && restart` the first could be dead and the second begun before the shell got its own. What
    is killed here leaves it frozen, and cgroup.kill ends the frozen too (cgroups(7)).
    """
    freeze = cgroup / "cgroup.freeze"
    try:
        freeze.write_text("1")
    except OSError:  # it is gone
        yield
        return
    try:
        deadline = time.monotonic() + _FREEZING
        with suppress(OSError):
            while "frozen 1" not in (cgroup / "cgroup.events").read_text() and time.monotonic() < deadline:
                time.sleep(0.001)
        yield
    finally:
        with suppress(OSError):
            freeze.write_text("0")


def _terminate(cgroup: Path) -> bool:
    pids = sorted(members(cgroup))
    few = (pids[at : at + _AT_ONCE] for at in range(0, len(pids), _AT_ONCE))
    return sum(_terminate_few(cgroup, each) for each in few) > 0


def _terminate_few(cgroup: Path, pids: Sequence[int]) -> bool:
    descriptors: dict[int, int] = {}
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                descriptors[pid] = os.pidfd_open(pid)
        # Read again: a number that is still listed was not used again elsewhere before its descriptor was opened.
        confirmed = members(cgroup) & descriptors.keys()
        for pid in confirmed:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(descriptors[pid], signal.SIGTERM)
        return bool(confirmed)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def kill(cgroup: Path) -> None:
    """SIGKILL everything in it and beneath, whatever it forks meanwhile. Returns before it is dead."""
    try:
        (cgroup / "cgroup.kill").write_text("1", encoding="ascii")
    except OSError as error:
        if not _gone(error):
            raise


@contextmanager
def events(cgroup: Path) -> Iterator[int | None]:
    """A descriptor for poll(2) with POLLPRI: `populated` may have changed. Read it to wait for the next change."""
    try:
        descriptor = os.open(cgroup / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def wait_empty(cgroup: Path, deadline: float) -> bool:
    """False where something in it lives at `deadline`, in seconds of time.monotonic()."""
    with events(cgroup) as descriptor:
        poll = select.poll()
        if descriptor is not None:
            poll.register(descriptor, select.POLLPRI)
        while populated(cgroup):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # A second at most, so that a lost event costs a second and not the deadline.
            poll.poll(min(left, 1.0) * 1000)
            acknowledge(descriptor)
    return True


def acknowledge(descriptor: int | None) -> None:
    if descriptor is not None:
        with suppress(OSError):
            os.pread(descriptor, 1, 0)


def remove(cgroup: Path) -> None:
    """Remove it, the cgroups beneath, and our empty parent. Nothing may live in it."""
    for each in _family(cgroup):
        with suppress(FileNotFoundError):
            each.rmdir()
    with suppress(OSError):  # another scope of this home is in it
        cgroup.parent.rmdir()


def _family(cgroup: Path) -> list[Path]:
    """Itself and all beneath, the deepest first. A cgroup that goes while we look is left out."""
    return [Path(directory) for directory, _, _ in os.walk(cgroup, topdown=False)]


def _gone(error: OSError) -> bool:
    return error.errno in {errno.ENOENT, errno.ENODEV}
