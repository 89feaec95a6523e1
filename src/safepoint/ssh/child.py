"""One session's child process, which leads a process group of its own: started, waited for, and ended as a group.

A worker that was launched from inside it is a session of its own, and nothing here reaches it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import suppress

from safepoint.hints import IO
from safepoint.ssh.sessions import Session

GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL when the client has gone."""


class Child:
    """Used by several threads at once, except for `close`."""

    def __init__(self, session: Session, *, pipes: bool) -> None:
        """Start it, on pipes or on this process's own stdio. Raises OSError."""
        end = subprocess.PIPE if pipes else None
        self._process = subprocess.Popen(
            session.argv,
            env=dict(session.environment),
            cwd=session.directory,
            stdin=end,
            stdout=end,
            stderr=end,
            bufsize=0,
            process_group=0,
        )
        self._lock = threading.Lock()
        self.pidfd = -1
        """Readable from when the child has ended on."""
        try:
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError:  # no descriptors are left: nor may the child be
            self.reap()
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def pipes(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """Its stdin, stdout and stderr."""
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise ValueError("it runs on our own stdio")
        return stdin, stdout, stderr

    def ended(self, timeout: float | None) -> bool:
        """Wait for it, at most `timeout` seconds. It is not reaped."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000))

    def end(self, grace: float = GRACE) -> None:
        """Ask its group to end, wait for the child, at most `grace` seconds, and reap it."""
        if not self.ended(0):
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # one that is stopped would not see the other
            self.ended(grace)
        self.reap()

    def reap(self) -> int:
        """Kill whatever is left of the group and return the child's status as a shell has it. Idempotent."""
        with self._lock:
            if self._process.returncode is None:
                # Before the wait: until then the child, a zombie perhaps, keeps the group's number from strangers.
                self._kill(signal.SIGKILL)
                self._process.wait()
            code = self._process.returncode
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """After `reap`, and when no thread uses its pipes any more."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)

    def _signal(self, number: int) -> None:
        with self._lock:
            if self._process.returncode is None:
                self._kill(number)

    def _kill(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
