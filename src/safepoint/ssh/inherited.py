"""Running a session's child on our own stdio, as a forced command of sshd does, and noticing that the client has gone.

When the client of sshd dies, nothing signals us: sshd closes its ends of the pipes, and who never writes never knows.
Worse, a hook that goes on writing to git's side band hangs for ever once the pipe is full, since receive-pack does
not read it any more. So this process stays, watches its own stdout, and ends the child when nobody reads it.
"""

from __future__ import annotations

import select
import signal

from safepoint.signals import readable_on
from safepoint.ssh.child import GRACE, Child
from safepoint.ssh.sessions import Session

_STDOUT = 1
_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_inherited(session: Session, grace: float = GRACE) -> int:
    """The child's exit status, 128+n for signal n. SIGTERM, SIGINT and SIGHUP to this process end the child.

    `grace` is in seconds. To be called in the main thread. Raises OSError where the child cannot be started.
    """
    with readable_on(*_OURS) as signalled:
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
