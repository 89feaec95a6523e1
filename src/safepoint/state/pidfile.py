"""The pidfile of an app's running operation, and its lock.

The flock is the truth about liveness: the kernel lets go of it when its last holder is dead, whatever killed it. The
text is for people and for SIGTERM: the pid on the first line, then who that is, to catch a pid that was used again.
Three rules, each of which is a bug somebody had: the file is opened without truncation, it is never unlinked, and
the lock is let go only when the work is seen dead.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path

from safepoint.core.plan import ProcessIdentity
from safepoint.hints import Self
from safepoint.record import Record, asdict


class Lock(Record):
    """A held lock. It is inherited by whoever inherits the descriptor, and lives as long as the last of them."""

    fd: int

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> Self | None:
        """None where somebody holds it; with `wait`, once it is free."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    def sign(self, identity: ProcessIdentity, operation: int) -> None:
        """Write down who holds it; on a full disk nobody does, and it can be had without."""
        text = f"{identity.pid}\n{json.dumps({'operation': operation, **asdict(identity)})}\n".encode()
        with suppress(OSError):
            os.pwrite(self.fd, text, 0)
            os.ftruncate(self.fd, len(text))

    def close(self) -> None:
        os.close(self.fd)


def read(path: Path) -> tuple[ProcessIdentity, int] | None:
    """Who signed it last and for which operation; None where nobody did, or the text is damaged."""
    try:
        fields = json.loads(path.read_bytes().partition(b"\n")[2])
        pid, started, boot, operation = (fields[name] for name in ("pid", "started", "boot", "operation"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(type(number) is int for number in (pid, started, operation)) or not isinstance(boot, str):
        return None
    return ProcessIdentity(pid, started, boot), operation
