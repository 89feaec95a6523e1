"""The control socket's client: asks the worker of one operation, and says plainly when nobody answers."""

from __future__ import annotations

import socket
from contextlib import suppress

from safepoint.control.protocol import MAX_FRAME, BadFrame, decode, encode
from safepoint.hints import Any, Self
from safepoint.state.paths import Home, short

ANSWER_SECONDS = 5.0
"""A worker answers in less than a millisecond; one that needs so long is stopped or hung."""


class NoAnswer(Exception):
    """There is no worker, or it is wedged: `refused` tells which."""

    def __init__(self, *, refused: bool) -> None:
        super().__init__("nobody listens" if refused else "no answer")
        self.refused = refused


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def to(cls, home: Home, slot: str, timeout: float = ANSWER_SECONDS) -> Self:
        """Raises NoAnswer."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            with short(home.control_socket(slot)) as address:
                sock.connect(address)
        except OSError as error:
            sock.close()
            raise NoAnswer(refused=not isinstance(error, TimeoutError)) from None
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def ask(self, verb: str, operation: int, **more: Any) -> dict[str, Any]:
        """Raises NoAnswer; BadFrame where the worker refuses the request, with its sentence."""
        try:
            self._socket.sendall(encode({"verb": verb, "operation": operation, **more}))
            line = b""
            while not line.endswith(b"\n"):
                part = self._socket.recv(1)  # no more than the answer: what follows belongs to the follower
                if not part or len(line) > MAX_FRAME:
                    raise NoAnswer(refused=True)
                line += part
        except OSError as error:
            raise NoAnswer(refused=not isinstance(error, TimeoutError)) from None
        answer = decode(line)
        if "error" in answer:
            raise BadFrame(answer["error"])
        return answer

    def fileno(self) -> int:
        return self._socket.fileno()

    def gone(self) -> bool:
        """Take what has arrived; whether that was the end of the stream. For use when the descriptor is readable."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                try:
                    if not self._socket.recv(4096):
                        return True
                except ConnectionError:
                    return True
        return False

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
