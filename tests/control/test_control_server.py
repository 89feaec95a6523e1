"""The control socket's server: nobody who connects can keep it from answering the others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from deploying import wait_until
from processes.trials import AS_NOBODY, python_for_nobody
from ssh.servers import DEADLINE

from safepoint.control.protocol import MAX_FRAME
from safepoint.control.server import ControlServer


@dataclass
class Control:
    """A server at an abstract address, which anybody can reach."""

    stack: ExitStack
    server: ControlServer
    address: bytes
    defects: list[str]
    closed: bool = False

    def close(self) -> None:
        if not self.closed:
            self.server.close()
        self.closed = True

    def connect(self) -> socket.socket:
        sock = self.stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.settimeout(DEADLINE)
        sock.connect(self.address)
        return sock

    def ask(self, verb: str = "greet", **more: object) -> Any:
        with self.connect() as sock:
            return ask(sock, {"verb": verb, "operation": 42, **more})


def ask(sock: socket.socket, request: object) -> Any:
    sock.sendall(json.dumps(request).encode() + b"\n")
    return answer(sock)


def answer(sock: socket.socket) -> Any:
    line = b""
    while not line.endswith(b"\n"):
        part = sock.recv(1)
        if not part:
            raise ConnectionError(f"the stream ended after {line!r}")
        line += part
    return json.loads(line)


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


@pytest.fixture
def control() -> Iterator[Control]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind("")
        listener.listen(128)
        defects: list[str] = []

        def greet(request: dict[str, Any]) -> dict[str, Any]:
            return {"hello": request.get("name", "you")}

        def fail(_request: dict[str, Any]) -> dict[str, Any]:
            raise ZeroDivisionError

        def log(what: str) -> str:
            defects.append(what)
            return what

        server = ControlServer(listener, 42, {"greet": greet, "fail": fail}, on_defect=log)
        server.start()
        control = Control(stack, server, listener.getsockname(), defects)
        stack.callback(control.close)
        yield control


def test_requests_are_answered_in_their_order(control: Control) -> None:
    """Also where several come at once, or one comes in pieces."""
    assert control.ask() == {"hello": "you"}
    sock = control.connect()
    whole = b'{"verb": "greet", "operation": 42, "name": "%d"}\n'
    sock.sendall(b"".join(whole % number for number in range(100)))
    assert [answer(sock) for _ in range(100)] == [{"hello": str(number)} for number in range(100)]
    for byte in whole % 7:
        sock.sendall(bytes([byte]))
        assert byte == 10 or control.ask() == {"hello": "you"}
    assert answer(sock) == {"hello": "7"}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ([], "the request is not an object"),
        ({}, "operation 42 is the one that runs here"),
        ({"verb": "greet", "operation": 41}, "operation 42 is the one that runs here"),
        ({"verb": "greet", "operation": "42"}, "operation 42 is the one that runs here"),
        ({"operation": 42}, "the verbs are fail, follow, greet"),
        ({"verb": ["greet"], "operation": 42}, "the verbs are fail, follow, greet"),
        ({"verb": "signal", "operation": 42}, "the verbs are fail, follow, greet"),
        ({"verb": "fail", "operation": 42}, "the request could not be handled"),
    ],
)
def test_what_is_wrong_is_said_and_the_connection_stays(control: Control, request_: object, error: str) -> None:
    """A defect is logged; the thread lives on."""
    sock = control.connect()
    assert ask(sock, request_) == {"error": error}
    assert ask(sock, {"verb": "greet", "operation": 42}) == {"hello": "you"}
    assert control.defects == (["the request could not be handled"] if "fail" in str(request_) else [])


def test_a_request_without_an_end_is_cut_off(control: Control) -> None:
    """It fills no memory."""
    sock = control.connect()
    try:
        sock.sendall(b"x" * (2 * MAX_FRAME))
        assert answer(sock) == {"error": f"a request has less than {MAX_FRAME} bytes"}
        assert ended(sock)
    except ConnectionError:
        pass  # what had not been read when it was closed resets the connection
    assert control.ask() == {"hello": "you"}


def test_followers_are_told_of_growth_and_of_the_end(control: Control) -> None:
    """Those who do not read, and those who have gone, hold up nobody."""
    reader, sleeper, leaver = (control.connect() for _ in range(3))
    for sock in (reader, sleeper, leaver):
        assert ask(sock, {"verb": "follow", "operation": 42}) == {"ok": True}
    leaver.close()
    for _ in range(5_000):  # the sleeper's buffer holds some hundreds
        control.server.grown()
        assert reader.recv(4096)
    assert control.ask() == {"hello": "you"}
    control.close()
    assert ended(reader)


def test_many_connections_at_once(control: Control) -> None:
    """There is a limit to them; when some go, others get in."""
    crowd = [control.connect()]
    while greeted(crowd[-1]):
        crowd.append(control.connect())
    assert len(crowd) == 201
    for sock in crowd:
        sock.close()
    wait_until(lambda: greeted(control.connect()), "there is room again")


def greeted(sock: socket.socket) -> bool:
    try:
        return bool(ask(sock, {"verb": "greet", "operation": 42}) == {"hello": "you"})
    except ConnectionError:
        return False


CLIENT = """
import socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.connect(bytes.fromhex(sys.argv[1]))
try:
    sock.sendall(b'{"verb": "greet", "operation": 42}\\n')
    print(sock.recv(100).decode().strip())
except ConnectionError:
    print()
"""


@pytest.mark.parametrize("prefix", [(), AS_NOBODY] if os.geteuid() == 0 else [()], ids=lambda each: each and "nobody")
def test_another_user_gets_no_answer(control: Control, prefix: tuple[str, ...]) -> None:
    """The file's permissions keep others out; should those fail, the kernel says who it is."""
    python = python_for_nobody() if prefix else "python3"
    assert python is not None
    done = subprocess.run(
        [*prefix, python, "-I", "-c", CLIENT, control.address.hex()], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ("" if prefix else '{"hello":"you"}')
    assert control.ask() == {"hello": "you"}
