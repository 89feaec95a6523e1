"""The supervisord process of one home: starting it detached, finding it, ending it. Knows nothing of groups."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safepoint.core.failures import StepError
from safepoint.errors import UserError
from safepoint.hints import TYPE_CHECKING
from safepoint.processes import detach
from safepoint.state.paths import Home

if TYPE_CHECKING:
    from safepoint.drivers.supervisord_rpc import Client

START_TIMEOUT = 60.0
"""Seconds until a new supervisord has to answer; it takes 0.3 on an idle machine."""

# Paths of supervisord's own are relative to its working directory, `run`, or go through /proc/self/cwd where it would
# make them absolute: a socket's address has 107 bytes (unix(7)), and a home's name may hold % and ; and [ that this
# format gives a meaning to.
_CONFIGURATION = """\
[supervisord]
nodaemon=true
silent=true
nocleanup=true
logfile=../supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile=supervisord.pid
childlogdir=.

[unix_http_server]
file=/proc/self/cwd/supervisor.sock
chmod=0600

[supervisorctl]
serverurl=unix:///proc/self/cwd/supervisor.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:safepoint]
supervisor.rpcinterface_factory=safepoint.drivers.supervisord_plugin:Plugin

[include]
files=/proc/self/cwd/supervisor.d/*.conf
"""

_SUPERVISORD = ("-P", "-m", "supervisor.supervisord", "-n", "-c", "supervisord.conf")
"""Arguments of Python. -P: the working directory is no place to import modules from."""

# supervisord takes the shell's place, and its pid; $1 is a pipe to us. Nothing but errors comes on stderr.
_IN_RUN = """\
umask 077
cd -- "$0" && echo $$ >"$1" && shift && exec "$@" 2>../supervisord.err
"""


class Daemon:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._socket = home.run / "supervisor.sock"

    def client(self) -> Client:
        from safepoint.drivers.supervisord_rpc import Client  # 25 ms, which a worker pays only when it gets here

        return Client(self._socket)

    def pid(self) -> int | None:
        """The process that listens at the socket."""
        found = self._find()
        if found is None:
            return None
        pid, process = found
        os.close(process)
        return pid

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by who starts or ends supervisord. The file is never unlinked: that would make two locks of it."""
        descriptor = os.open(self._home.run / "supervisord.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def ready(self) -> int | None:
        """Its pid where it runs and takes calls; None once it is seen dead. Under the lock.

        Waits for one that is shutting down already. Raises UserError where it runs and does not answer.
        """
        from safepoint.drivers.supervisord_rpc import NotRunning

        found = self._find()
        if found is None:
            return None
        pid, process = found
        try:
            with self.client() as call:
                call("supervisor.getState")
            return pid
        except NotRunning:
            _wait_dead(process, None)
        except StepError:
            raise UserError(
                f"supervisord (process {pid}) does not answer", f"end it with `kill -KILL {pid}` and try again"
            ) from None
        finally:
            os.close(process)
        return None

    def launch(self) -> int:
        """Start one where none runs, under the lock. Returns its pid once it answers; raises UserError."""
        run = self._home.run
        (run / "supervisor.d").mkdir(mode=0o700, exist_ok=True)
        (run / "supervisord.conf").write_text(_CONFIGURATION)
        # supervisord removes a stale socket too, but then sleeps for 0.3 s.
        self._socket.unlink(missing_ok=True)
        reader, writer = os.pipe()
        with open(reader, "rb") as pipe:  # noqa: PTH123  a descriptor
            try:
                detach.spawn(
                    ("/bin/sh", "-c", _IN_RUN, str(run), f"/proc/self/fd/{writer}", sys.executable, *_SUPERVISORD),
                    environment=_environment(),
                    pass_fds=(writer,),
                )
            finally:
                os.close(writer)
            pid = int(pipe.readline() or 0)
        return self._answering(pid)

    def terminate(self, timeout: float) -> None:
        """Stop all its processes, then it; killed after `timeout` seconds. Returns when it is seen dead. Idempotent."""
        from safepoint.drivers.supervisord_rpc import NotRunning

        found = self._find()
        if found is None:
            return
        _, process = found
        try:
            with suppress(NotRunning, StepError), self.client() as call:
                # By itself it would stop one group after the other, each with its grace.
                call("supervisor.stopAllProcesses", False)
                call("supervisor.shutdown")
            if not _wait_dead(process, timeout):
                signal.pidfd_send_signal(process, signal.SIGKILL)
                _wait_dead(process, None)
        finally:
            os.close(process)

    def _answering(self, pid: int) -> int:
        from safepoint.drivers.supervisord_rpc import NotRunning

        errors = self._home.root / "supervisord.err"
        deadline = time.monotonic() + START_TIMEOUT
        try:
            process = os.pidfd_open(pid)
        except OSError:  # gone already; EINVAL where there was no pid to be read
            raise _did_not_start(errors) from None
        try:
            while time.monotonic() < deadline:
                with suppress(NotRunning, StepError), self.client() as call:
                    call("supervisor.getState")
                    return pid
                # Its death is an event; that it listens is not one that can be waited for.
                if _wait_dead(process, 0.02):
                    raise _did_not_start(errors)
            signal.pidfd_send_signal(process, signal.SIGKILL)
            _wait_dead(process, None)
        finally:
            os.close(process)
        raise UserError(f"supervisord did not answer within {START_TIMEOUT:.0f} seconds", f"see {errors}")

    def end_unheard(self) -> None:
        """Under the lock, where none is ready: end what was launched by somebody who died before it listened.

        It would run the groups beside the next one. No lock could tell of it: supervisord closes what it inherits.
        """
        for name in os.listdir("/proc"):  # noqa: PTH208 - no Path for each of a thousand
            with suppress(OSError):
                if not name.isdigit() or not Path(f"/proc/{name}/cwd").samefile(self._home.run):
                    continue
                process = os.pidfd_open(int(name))
                try:
                    # Read after the descriptor was opened: it is about the same process.
                    command = Path(f"/proc/{name}/cmdline").read_bytes()
                    if b"\0supervisor.supervisord\0" in command and Path(f"/proc/{name}/cwd").samefile(self._home.run):
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                        _wait_dead(process, None)
                finally:
                    os.close(process)

    def _find(self) -> tuple[int, int] | None:
        """Its pid and a pidfd of it, to be closed.

        The kernel says who listens; a pid from a pidfile, or from an answer, may be somebody else's by now.
        """
        from safepoint.drivers.supervisord_rpc import connect

        try:
            connection = connect(self._socket)
        except (ConnectionError, FileNotFoundError):
            return None
        with connection:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid: int = struct.unpack("3i", credentials)[0]
            try:
                process = os.pidfd_open(pid)
            except ProcessLookupError:
                return None
            # Still connected: so it lived when the pidfd was opened, and the pid was not given to another yet.
            hung_up = select.poll()
            hung_up.register(connection, 0)
            if hung_up.poll(0):
                os.close(process)
                return None
            return pid, process


def _environment() -> dict[str, str]:
    """Of supervisord itself. What the caller has is not for it: its children would inherit that."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.environ.get("PATH", os.defpath), **kept}


def _did_not_start(errors: Path) -> UserError:
    lines = errors.read_text(errors="replace").splitlines() if errors.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip() and "help" not in line), "it ended at once")
    return UserError(f"cannot start supervisord: {last}", f"see {errors}")


def _wait_dead(process: int, timeout: float | None) -> bool:
    """Whether the process of this pidfd is dead within `timeout` seconds; None waits for it. A zombie is dead."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))
