"""Health checks against real servers that behave and misbehave."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from safepoint.drivers.http_health import HttpHealth

LONG = 60.0
"""Seconds; no test takes them."""

Behaviour = Callable[[socket.socket, bytes], None]


class Server:
    """Takes connections one by one, reads a request's head, and behaves as it is told."""

    def __init__(self, behave: Behaviour) -> None:
        self.requests: list[bytes] = []
        self.asked_to_end = threading.Event()
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self.asked_to_end.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += connection.recv(4096)
                self.requests.append(request)
                self._behave(connection, request)


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], Server]]:
    """Starts a server of a behaviour."""
    servers: list[Server] = []

    def start(behave: Behaviour) -> Server:
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def say(*parts: bytes) -> Behaviour:
    def behave(connection: socket.socket, _: bytes) -> None:
        for part in parts:
            connection.sendall(part)

    return behave


def check(port: int, expect: str = "2xx", timeout: float = LONG, path: str = "/") -> str:
    return HttpHealth().check(port, path, expect, timeout)


def test_a_2xx_is_healthy(serve: Callable[[Behaviour], Server]) -> None:
    """For both expectations, and the request is one that any server takes."""
    server = serve(say(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert check(server.port, path="/up?deep=1") == ""
    assert check(server.port, "any") == ""
    assert server.requests[0] == (
        b"GET /up?deep=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: safepoint-health\r\nAccept: */*\r\n"
        b"Connection: close\r\n\r\n"
    )


@pytest.mark.parametrize("status", [101, 301, 404, 500, 599])
def test_another_status_is_an_answer_and_no_2xx(serve: Callable[[Behaviour], Server], status: int) -> None:
    """`any` takes it, `2xx` names it. A redirect is not followed."""
    server = serve(say(b"HTTP/1.0 %d \r\nLocation: /elsewhere\r\n\r\n" % status))
    assert check(server.port, "any") == ""
    assert check(server.port) == f"answered {status}, expected 2xx"
    assert len(server.requests) == 2


@pytest.mark.parametrize("line", [b"HTTP/1.1 200\r\n", b"HTTP/1.1 200 \n", b"HTTP/1.0 200 Fine, thank you\r\n"])
def test_the_status_line_alone_is_enough(serve: Callable[[Behaviour], Server], line: bytes) -> None:
    """Whatever follows, or nothing."""
    assert check(serve(say(line)).port) == ""


def test_an_announcement_is_not_the_answer(serve: Callable[[Behaviour], Server]) -> None:
    """100 Continue and 103 Early Hints come before it."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    assert check(serve(say(b"HTTP/1.1 100 Continue\r\n\r\n", hints, b"HTTP/1.1 200 OK\r\n\r\n")).port) == ""
    assert check(serve(say(hints + b"HTTP/1.1 503 No\r\n\r\n")).port) == "answered 503, expected 2xx"
    assert check(serve(say(hints)).port, "any") == "closed the connection without an answer"


def test_nobody_listens() -> None:
    """The port is named."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        port = bound.getsockname()[1]
        assert check(port, "any") == f"nothing listens on port {port}"


def test_nobody_answers(serve: Callable[[Behaviour], Server]) -> None:
    """The deadline is named as it was given."""

    def wait(_connection: socket.socket, _request: bytes) -> None:
        server.asked_to_end.wait(LONG)

    server = serve(wait)
    assert check(server.port, "any", 0.25) == "no answer within 0.25s"


def test_nobody_takes_the_connection() -> None:
    """A listener whose queue is full, as of an app that is stuck."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = []
        try:
            for _ in range(3):  # the kernel queues one more than the backlog
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
                waiting.append(client)
            assert check(listener.getsockname()[1], "any", 0.25) == "no answer within 0.25s"
        finally:
            for client in waiting:
                client.close()


def test_an_answer_that_drips_meets_the_deadline(serve: Callable[[Behaviour], Server]) -> None:
    """The time is for the whole check, not for each byte."""

    def drip(connection: socket.socket, _: bytes) -> None:
        try:
            for byte in b"HTTP/1.1 200 " + b"x" * 100_000:
                connection.sendall(bytes((byte,)))
                if server.asked_to_end.wait(0.01):
                    return
        except OSError:
            return

    server = serve(drip)
    begun = time.monotonic()
    assert check(server.port, "any", 0.5) == "no answer within 0.5s"
    assert time.monotonic() - begun < 30


def test_a_body_without_end_does_not_keep_the_check(serve: Callable[[Behaviour], Server]) -> None:
    """An event stream at the checked path is healthy."""

    def stream(connection: socket.socket, _: bytes) -> None:
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not server.asked_to_end.wait(0.01):
                connection.sendall(b"data: x\n\n" * 100)
        except OSError:
            return

    server = serve(stream)
    begun = time.monotonic()
    assert check(server.port) == ""
    assert time.monotonic() - begun < 30


def test_the_rest_of_an_answer_is_taken(serve: Callable[[Behaviour], Server]) -> None:
    """An app that sends head and body apart sees an orderly end, not a reset that it logs at each check."""
    ends: queue.Queue[bytes] = queue.Queue()

    def behave(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.sendall(b"x" * 1000)
        connection.shutdown(socket.SHUT_WR)
        ends.put(connection.recv(1))

    assert check(serve(behave).port) == ""
    assert ends.get(timeout=LONG) == b""


def test_the_connection_is_closed(serve: Callable[[Behaviour], Server]) -> None:
    """In silence, or with a reset."""
    silent = serve(say())
    assert check(silent.port, "any") == "closed the connection without an answer"

    def reset(connection: socket.socket, _: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert check(serve(reset).port, "any") == "closed the connection without an answer"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",  # a TLS alert
        b"HTTP/1.1 abc\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 20",
        b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 70_000,
        b"HTTP/1.1 103 Hints\r\n" + b"x: y\r\n" * 12_000,
    ],
)
def test_what_is_not_http_is_called_so(serve: Callable[[Behaviour], Server], answer: bytes) -> None:
    """Other protocols, nonsense, halves, and heads without end."""

    def behave(connection: socket.socket, _: bytes) -> None:
        try:
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        except OSError:
            return

    assert check(serve(behave).port, "any") == "did not speak HTTP"


def test_a_worker_pays_for_no_http_client() -> None:
    """Imports are most of a short process's time."""
    code = (
        "import sys, safepoint.drivers.http_health, safepoint.drivers.haproxy\n"
        "print([name for name in ('http', 'asyncio', 'email', 'ssl', 'subprocess') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG)
    assert done.stdout == "[]\n", done.stderr
