"""Processes that cannot be confused with a later one of the same number. Reads /proc, sends signals by pidfd."""

from __future__ import annotations

import errno
import os
import select
import signal as signals
from contextlib import suppress
from functools import cache
from pathlib import Path

from safepoint.core.plan import ProcessIdentity
from safepoint.record import Record

_AT_ONCE = 1 << 16
"""Bytes. Of a file in /proc a read that gives less has come to its end: it is made up as it is asked for."""


class Reading(Record):
    """What /proc/PID/stat says of a process now."""

    identity: ProcessIdentity
    parent: int
    dead: bool
    """A zombie is dead."""


def read(pid: int) -> Reading | None:
    """None where there is no such process."""
    try:
        text = contents(pid, "stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Field 2 is the program's own choice, with spaces and parentheses: count from the last one (proc(5)).
    state, parent, *rest = text.rpartition(b")")[2].split()
    return Reading(ProcessIdentity(pid, int(rest[17]), _boot()), int(parent), state in {b"Z", b"X"})


def contents(pid: int, file: str) -> bytes:
    """Of one of the files in /proc/PID. Raises OSError.

    By system calls alone: whoever looks at all processes does it a thousand times, and a Path costs more than the rest.
    """
    descriptor = os.open(f"/proc/{pid}/{file}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = part = os.read(descriptor, _AT_ONCE)
        while len(part) == _AT_ONCE:
            part = os.read(descriptor, _AT_ONCE)
            found += part
        return found
    finally:
        os.close(descriptor)


def of(pid: int) -> ProcessIdentity | None:
    """None where there is no such process. A zombie still has an identity."""
    found = read(pid)
    return None if found is None else found.identity


def alive(identity: ProcessIdentity) -> bool:
    """False for a zombie, for a number that was used again, and for a process of another boot."""
    found = read(identity.pid)
    return found is not None and found.identity == identity and not found.dead


def open_pidfd(identity: ProcessIdentity) -> int | None:
    """A pidfd of exactly this process, for the caller to close; None where it is dead."""
    if identity.pid <= 0:
        return None
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError as error:
        if error.errno in {errno.ESRCH, errno.EINVAL, errno.ENOENT}:
            return None  # nobody's number now, or that of another process's thread
        raise
    # The descriptor comes first: from now on its process keeps the number, so what /proc says is about it.
    if alive(identity):
        return descriptor
    os.close(descriptor)
    return None


def signal(identity: ProcessIdentity, sig: int) -> bool:
    """Whether it was sent. Raises PermissionError where the process is someone else's."""
    descriptor = open_pidfd(identity)
    if descriptor is None:
        return False
    try:
        signals.pidfd_send_signal(descriptor, sig)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def kill_and_wait(pidfd: int, timeout: float) -> bool:
    """SIGKILL, and whether it is dead within `timeout` seconds. Closes the descriptor. Raises PermissionError.

    What waits in the kernel for a disk or a mount that does not answer dies when that does, if ever.
    """
    try:
        with suppress(ProcessLookupError):
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
        # Not select(2): it cannot watch a descriptor above 1023.
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(pidfd)


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
