"""HAProxy's runtime API, as far as routes need it (HAProxy management guide, 9.3). It may touch its socket alone."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from pathlib import Path

from safepoint.drivers.haproxy_files import Trouble
from safepoint.record import Record
from safepoint.state.paths import short

TIMEOUT = 5.0
"""Seconds for one answer."""


class NotRunning(Trouble):
    """Nobody is there to take a command."""


class StatsSocket(Record):
    path: Path

    def routes(self) -> dict[str, int]:
        """HAProxy's own map. Raises Trouble."""
        reply = self._ask("show map routes.map")
        try:  # lines such as `0x7f4ac0047400 app 20001`
            return {app: int(port) for _, app, port in map(str.split, filter(None, reply.splitlines()))}
        except ValueError:
            raise Trouble(f"the router has no map of routes: {reply[:200]!a}") from None

    def route(self, app: str, port: int | None, now: int | None) -> None:
        """Change the route of `app`, which is `now`, to `port`. Raises Trouble."""
        if port == now:
            return
        if port is None:
            command = f"del map routes.map {app}"
        else:
            # `add` where there is one already would leave the old one beside it.
            command = f"{'add' if now is None else 'set'} map routes.map {app} {port}"
        reply = self._ask(command).strip()
        if reply:
            raise Trouble(f"the router refused the route of {app}: {reply[:200]!a}")

    def connect(self) -> socket.socket:
        """Raises NotRunning, or OSError where HAProxy lives but takes no connection."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(TIMEOUT)
            with short(self.path) as name:
                connection.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            raise NotRunning("the router does not run; `safepoint serve` starts it") from None
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, command: str) -> str:
        deadline = time.monotonic() + TIMEOUT
        reply = bytearray()
        try:
            with closing(self.connect()) as connection:
                connection.sendall(command.encode("ascii") + b"\n")
                while chunk := connection.recv(65536):
                    reply += chunk
                    connection.settimeout(max(deadline - time.monotonic(), 0.001))
        except (ConnectionResetError, BrokenPipeError):
            reply.clear()
        except OSError as error:
            raise Trouble(f"the router does not answer: {error.strerror or error}") from None
        if not reply.endswith(b"\n"):  # even the shortest answer is an empty line
            raise NotRunning("the router went away in the middle of its answer")
        return reply.decode("ascii", "replace")
