"""The router, on HAProxy: which port answers for which app. It may touch HAProxy and its files in the home.

One backend serves every app: HAProxy looks the first label of the Host header up in a map and connects to that port of
127.0.0.1. So neither a switch nor a new app needs a reload, which would lose requests; `set server addr` would leave
pooled connections on the old address. The map is there twice, in HAProxy and in the file that a restarted one reads.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from safepoint.core.failures import StepError
from safepoint.drivers.haproxy_daemon import Daemon
from safepoint.drivers.haproxy_files import Files, Trouble
from safepoint.drivers.haproxy_socket import NotRunning, StatsSocket
from safepoint.errors import UserError
from safepoint.hints import Protocol
from safepoint.record import Record
from safepoint.state.paths import Home

_ESTABLISHED, _SYN_SENT = "01", "02"
_CLEAR_LOOKS = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25


class Latch(Protocol):
    def is_set(self) -> bool: ...

    def fileno(self) -> int: ...


class HAProxy(Record):
    """Satisfies `engine.ports.Router`. Any number of them, in any processes, may work on one home."""

    home: Home
    patience: float = 5.0
    """Seconds for which a switch waits for an HAProxy that may be being started again."""

    def switch(self, app: str, port: int | None) -> None:
        """New requests for `APP.*` go to `port`, or get a 404. Durable and idempotent; loses no request.

        While no HAProxy runs, only a removal or the route that is in the file already can be switched to. So the undo
        of a switch that failed for want of HAProxy succeeds. Raises StepError; then nothing has changed.
        """
        _check(app, port)
        deadline = time.monotonic() + self.patience
        while True:
            try:
                with self._files.change():
                    return self._switch(app, port)
            except NotRunning as trouble:
                if time.monotonic() >= deadline:
                    raise StepError(str(trouble)) from None
            except Trouble as trouble:
                raise StepError(str(trouble)) from None
            time.sleep(0.05)  # without the lock: whoever starts HAProxy needs it

    def route(self, app: str) -> int | None:
        return self.routes().get(app)

    def routes(self) -> dict[str, int]:
        """App to port, as in the file."""
        return self._files.read_routes()

    def drain(self, port: int, timeout: float, latch: Latch | None = None) -> bool:
        """Wait until no connection to 127.0.0.1:`port` is left; False where some are after `timeout` seconds.

        A latch that is set ends the wait early. A connection that the app has closed does not count.
        """
        deadline = time.monotonic() + timeout
        poll = select.poll()
        if latch is not None:
            poll.register(latch, select.POLLIN)
        clear, pause = 0, _FIRST_PAUSE
        while True:
            if _connected(port):
                clear, pause = 0, min(pause * 1.5, _LONGEST_PAUSE)
            else:
                clear, pause = clear + 1, _FIRST_PAUSE
            left = deadline - time.monotonic()
            # More than one look: a request may be between map and connection, and /proc/net/tcp is not read at once.
            if clear == _CLEAR_LOOKS or left <= 0 or (latch is not None and latch.is_set()):
                return clear > 0
            poll.poll(min(pause, left) * 1000)

    def ensure_running(
        self, http_port: int, address: str = "127.0.0.1", routes: Mapping[str, int] | None = None
    ) -> int:
        """The pid of an HAProxy that answers and takes requests on `http_port`; started, detached, where needed.

        Port 0 is any free one: the last one, where it can be had again. `routes` replaces every route; without it
        they are those of the file, which knows of switches of deploys that are still on their way. Raises UserError.
        """
        for app, port in (routes or {}).items():
            _check(app, port)
        files, daemon = self._files, Daemon(self._files)
        files.directory.mkdir(mode=0o700, exist_ok=True)
        try:
            with files.change():
                files.write_routes(self.routes() if routes is None else routes)
                return daemon.running(address, http_port) or daemon.start(address, http_port)
        except Trouble as trouble:
            raise UserError(str(trouble), f"HAProxy's log is {files.log}") from None

    def listening(self) -> tuple[str, int] | None:
        """The address and the port on which HAProxy takes requests; None where it does not run."""
        try:
            StatsSocket(self._files.socket).connect().close()
        except (NotRunning, FileNotFoundError):
            return None
        except OSError:  # it lives and is too busy to say so
            pass
        return self._files.read_listen()

    def shutdown(self, grace: float = 5.0) -> None:
        """End HAProxy: no new connections, `grace` seconds for running requests, SIGKILL. Idempotent.

        Returns when it is seen dead. Raises UserError where that does not come to pass.
        """
        if not self._files.directory.is_dir():
            return
        try:
            with self._files.change():
                Daemon(self._files).end(grace)
        except Trouble as trouble:
            raise UserError(str(trouble)) from None

    @property
    def _files(self) -> Files:
        return Files(self.home)

    def _switch(self, app: str, port: int | None) -> None:
        before = self.routes()
        after = {name: at for name, at in before.items() if name != app} | ({} if port is None else {app: port})
        stats = StatsSocket(self._files.socket)
        try:
            # HAProxy first: where it refuses, nothing has changed. After a crash before the file is written the switch
            # is still to be done, and recovery does it, or undoes it, again.
            stats.route(app, port, stats.routes().get(app))
        except NotRunning:
            if port is not None and before != after:
                raise
        self._files.write_routes(after)


def _check(app: str, port: int | None) -> None:
    """Both end up in a command and in a file of lines. Wrong ones are a defect of the caller."""
    if not re.fullmatch(r"[a-z0-9_-]+", app) or not (port is None or 0 < port < 65536):
        raise ValueError(f"not an app and a port: {app!r}, {port!r}")


def _connected(port: int) -> bool:
    """Whether a connection from this machine to 127.0.0.1:`port` is open or being opened (proc_net_tcp.txt)."""
    address = int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder)
    wanted = f"{address:08X}:{port:04X}"
    with Path("/proc/net/tcp").open() as table:
        next(table)
        for row in table:
            _, _, remote, state = row.split(None, 4)[:4]
            if remote == wanted and state in (_ESTABLISHED, _SYN_SENT):
                return True
    return False
