"""Health by one HTTP GET. It may open one connection to 127.0.0.1 and believes nothing of what comes back."""

from __future__ import annotations

import re
import socket
import time

MAX_BYTES = 64 * 1024
"""Of an answer that are read."""

POLITE = 0.25
"""Seconds for which the rest of an answer is read once the verdict is known."""

_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})(?: [^\r\n]*)?\r?\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class HttpHealth:
    """Satisfies `engine.ports.Health`. Plain sockets: http.client would cost every worker its import."""

    def check(self, port: int, path: str, expect: str, timeout: float) -> str:
        """One GET of `path` on 127.0.0.1. An empty text is healthy, else one clause that says what is wrong.

        `expect` is "2xx", or "any": whatever HTTP answer. `timeout` is in seconds and for the whole of it, however
        slowly the answer drips. Redirects are answers and are not followed.
        """
        deadline = time.monotonic() + timeout
        try:
            status = _get(port, path, deadline)
        except TimeoutError:
            return f"no answer within {timeout:g}s"
        except ConnectionRefusedError:
            return f"nothing listens on port {port}"
        except (ConnectionError, EOFError):
            return "closed the connection without an answer"
        except _NotHttp:
            return "did not speak HTTP"
        except OSError as error:
            return f"could not be asked: {error.strerror}"
        return f"answered {status}, expected 2xx" if expect == "2xx" and status // 100 != 2 else ""


class _NotHttp(Exception):
    pass


def _get(port: int, path: str, deadline: float) -> int:
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: safepoint-health\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=_left(deadline)) as connection:
        if connection.getsockname() == connection.getpeername():
            # A port that the kernel also gives to clients: the connection met itself (RFC 9293, simultaneous open).
            raise ConnectionRefusedError
        connection.sendall(request.encode("ascii"))
        answer, status = b"", None
        while status is None:
            connection.settimeout(_left(deadline))
            chunk = connection.recv(MAX_BYTES)
            if not chunk:
                raise _NotHttp if answer else EOFError
            answer += chunk
            status, answer = _status(answer)
        _read_on(connection, MAX_BYTES - len(answer), min(deadline, time.monotonic() + POLITE))
        return status


def _status(answer: bytes) -> tuple[int | None, bytes]:
    """The final status, None while it has not come, and the part of the answer that still matters."""
    while True:
        match = _STATUS_LINE.match(answer)
        if match is None:
            if not answer.startswith(b"HTTP/"[: len(answer)]) or b"\n" in answer or len(answer) >= MAX_BYTES:
                raise _NotHttp
            return None, answer
        status = int(match[1])
        if status >= 200 or status == 101:
            return status, answer
        # 100 Continue and its like announce an answer and are none (RFC 9110, 15.2).
        end = _END_OF_HEAD.search(answer, match.end() - 2)
        if end is None:
            if len(answer) >= MAX_BYTES:
                raise _NotHttp
            return None, answer
        answer = answer[end.end() :]


def _read_on(connection: socket.socket, limit: int, deadline: float) -> None:
    """Take the rest: closing with unread data resets the connection, and an app would log an error at each check."""
    try:
        while limit > 0:
            connection.settimeout(_left(deadline))
            chunk = connection.recv(min(limit, 65536))
            if not chunk:
                return
            limit -= len(chunk)
    except OSError:
        return  # the verdict stands


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
