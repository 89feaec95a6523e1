"""One command of one channel of the embedded server: its child, the pumps, and the end of both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import IO

import paramiko

from safepoint.errors import UserError
from safepoint.ssh.child import Child
from safepoint.ssh.pumps import LOST, pump_in, pump_out
from safepoint.ssh.sessions import Session, error_lines


class Execution(threading.Thread):
    """Lives until the channel is closed, by whomever, and nothing of the child is left."""

    def __init__(
        self, channel: paramiko.Channel, session: Callable[[], Session], defect: Callable[[], UserError]
    ) -> None:
        """`session` is asked in this thread for what is to be run, and may raise; `defect` logs what it should not."""
        super().__init__(name=f"ssh channel {channel.get_id()}", daemon=True)
        self.channel = channel
        self._session = session
        self._defect = defect

    def run(self) -> None:
        try:
            child = Child(self._session(), pipes=True)
            try:
                self._serve(child, *child.pipes())
            finally:
                child.close()
        except UserError as error:
            self._refuse(error)
        except Exception:  # fail closed
            self._refuse(self._defect())

    def _refuse(self, error: UserError) -> None:
        try:
            self.channel.sendall_stderr(error_lines(error))
            self.channel.send_exit_status(error.exit_code)
        except LOST:
            return
        finally:
            self._close()

    def _serve(self, child: Child, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        threads: list[threading.Thread] = []
        try:
            errors = self._thread(self._out, child, stderr, self.channel.sendall_stderr)
            threads.append(errors)
            threads.append(self._thread(pump_in, self.channel, stdin, child.pidfd))
            threads.append(self._thread(self._finish, child, stdout, errors))
            # A status never comes from a client: this waits until the channel is closed, by `_finish` or by its loss.
            self.channel.recv_exit_status()
        finally:
            child.end()
            self._close()
            for thread in threads:
                thread.join()

    def _finish(self, child: Child, stdout: IO[bytes], errors: threading.Thread) -> None:
        self._out(child, stdout, self.channel.sendall)
        errors.join()
        child.ended(timeout=None)  # it may have closed its output and live on; `_serve` ends it if the client goes
        try:
            self.channel.send_exit_status(child.reap())
        except LOST:
            return
        finally:
            self._close()

    def _out(self, child: Child, pipe: IO[bytes], send: Callable[[bytes], object]) -> None:
        try:
            pump_out(pipe, child.pidfd, send)
        except LOST:
            self._close()

    def _close(self) -> None:
        """Close the channel, or the whole connection where that cannot be said to the client any more."""
        try:
            self.channel.close()
        except LOST:
            self.channel.get_transport().close()

    @staticmethod
    def _thread(target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, name=f"ssh {target.__name__}", daemon=True)
        thread.start()
        return thread
