"""Calls to supervisord over its Unix socket, by XML-RPC. Imported only when needed: xmlrpc.client takes 25 ms."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from pathlib import Path

from safepoint.core.failures import StepError
from safepoint.hints import Any, Self
from safepoint.state.paths import short

SHUTDOWN_STATE, BAD_NAME, STILL_RUNNING, CANNOT_REREAD = 6, 10, 91, 92
"""Fault codes of supervisor.xmlrpc.Faults, which takes 100 ms to import."""

TIMEOUT = 60.0
"""Seconds. No call of ours waits for a process, so it only has to cover a machine that is very busy."""


class NotRunning(Exception):
    """Nobody listens at the socket, or who does is on the way out: it starts nothing any more."""


class Refused(StepError):
    """supervisord answered with a fault."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"supervisord refused: {text}")
        self.code = code


class Client:
    """One connection, for several calls. Calls raise NotRunning, Refused, and StepError where no answer comes."""

    def __init__(self, path: Path) -> None:
        self._transport = _Transport(path)
        # The URL is for the parser only; the transport knows where to connect to.
        self._proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=self._transport)

    def __call__(self, method: str, *arguments: str | bool) -> Any:
        try:
            return getattr(self._proxy, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == SHUTDOWN_STATE:
                raise NotRunning from None
            raise Refused(fault.faultCode, fault.faultString) from None
        except TimeoutError:
            raise StepError(f"supervisord does not answer within {TIMEOUT:.0f} seconds") from None
        except (ConnectionError, FileNotFoundError, http.client.HTTPException) as error:
            raise NotRunning from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()


def connect(path: Path) -> socket.socket:
    """Raises ConnectionError or FileNotFoundError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(TIMEOUT)
        with short(path) as name:
            connection.connect(name)
    except BaseException:
        connection.close()
        raise
    return connection


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._kept: _Connection | None = None

    def make_connection(self, host: Any) -> _Connection:
        if self._kept is None:
            self._kept = _Connection(self._path)
        return self._kept

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
