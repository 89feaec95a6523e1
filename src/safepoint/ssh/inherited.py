"""Running a session's child on our own stdio, as a forced command of sshd does, and noticing that the client has gone.

When the client of sshd dies, nothing signals us: sshd closes its ends of the pipes, and who never writes never knows.
Worse, a hook that goes on writing to git's side band hangs for ever once the pipe is full, since receive-pack does
not read it any more. So this process stays, watches its own stdout, and ends the child when nobody reads it.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from safepoint.ssh.child import GRACE, Child
from safepoint.ssh.sessions import Session

_STDOUT = 1
_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_inherited(session: Session, grace: float = GRACE) -> int:
    """The child's exit status, 128+n for signal n. SIGTERM, SIGINT and SIGHUP to this process end the child.

    `grace` is in seconds. To be called in the main thread. Raises OSError where the child cannot be started.
    """
    with _signals() as signalled:
        child = Child(session, pipes=False)
        try:
            poller = select.poll()
            poller.register(_STDOUT, 0)  # POLLERR for a pipe, POLLHUP for a socket: both come unasked (poll(2))
            poller.register(signalled, select.POLLIN)
            poller.register(child.pidfd, select.POLLIN)
            poller.poll()
            child.end(grace)
            return child.reap()
        finally:
            child.end(grace=0)
            child.close()


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that is readable once one of our signals has come."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    previous_descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    previous = {number: signal.signal(number, _nothing) for number in _OURS}
    try:
        yield reader
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_descriptor)
        os.close(reader)
        os.close(writer)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, unlike SIG_IGN, is not inherited by the child."""
