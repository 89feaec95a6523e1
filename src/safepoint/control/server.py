"""The control socket's server: one thread of the worker, which answers while the worker does its one thing.

It never blocks on a client: a slow one, a silent one and one that sends garbage cost a descriptor each and no more.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from threading import Thread

from safepoint.control.protocol import MAX_FRAME, BadFrame, decode, encode
from safepoint.hints import Any

_MAX_CLIENTS = 200
_TURN = 4096
"""Bytes that are taken from one client before the others have their turn: each line in them costs an answer."""
_OWN = {"signal", "detached"}
"""What happens to the worker, and is not for clients to ask for."""

Handler = Callable[[dict[str, Any]], dict[str, Any]]
"""Answers one request. Runs in the server's thread."""


class ControlServer:
    def __init__(
        self,
        listener: socket.socket,
        operation: int,
        handlers: dict[str, Handler],
        *,
        on_defect: Callable[[str], str],
        watch_signals: bool = False,
    ) -> None:
        """`listener` is bound and listening already. `handlers`: by verb; `follow` is the server's own.

        With `watch_signals`, a SIGTERM that Python's wakeup descriptor reports is a request to cancel, handled as
        {"verb": "signal"}. `on_defect` logs the exception that is being handled, and returns a clause for people.
        """
        self._on_defect = on_defect
        self._operation = operation
        self._handlers = handlers
        self._selector = selectors.DefaultSelector()
        self._grown = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._clients: dict[socket.socket, bytearray] = {}
        self._followers: set[socket.socket] = set()
        self.signals: int | None = None
        if watch_signals:
            self.signals, self._signal_read = _pipe()
            self._selector.register(self._signal_read, selectors.EVENT_READ, self._signalled)
        self.add(listener)
        self._selector.register(self._grown, selectors.EVENT_READ, self._wake_followers)
        self._selector.register(self._stop, selectors.EVENT_READ)
        self._thread = Thread(target=self._serve, name="control", daemon=True)

    def add(self, listener: socket.socket) -> None:
        """Answer on another socket too. Safe from any thread: epoll takes it at once (epoll_ctl(2))."""
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def watch(self, descriptor: int, verb: str) -> None:
        """Handle {"verb": verb} when the descriptor becomes readable, once. Before `start`."""

        def happened() -> None:
            self._selector.unregister(descriptor)
            self._call(verb)

        self._selector.register(descriptor, selectors.EVENT_READ, happened)

    def start(self) -> None:
        self._thread.start()

    def grown(self) -> None:
        """Tell every follower that there is more output. Cheap, and safe from any thread."""
        os.eventfd_write(self._grown, 1)

    def close(self) -> None:
        """Followers see the end of the stream."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()
        for fd in (self._grown, self._stop, *((self.signals, self._signal_read) if self.signals is not None else ())):
            os.close(fd)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._stop:
                    return
                key.data()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            # It has gone again, or no descriptor is free: the next event tries again, and it is there at once.
            time.sleep(0.01)
            return
        client.setblocking(False)
        if len(self._clients) >= _MAX_CLIENTS or not _is_ours(client):
            client.close()
            return
        self._clients[client] = bytearray()
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        try:
            data = client.recv(_TURN)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        buffer = self._clients[client]
        buffer += data
        if b"\n" in data:
            *lines, rest = bytes(buffer).split(b"\n")
            buffer[:] = rest
            for line in lines:
                if client in self._clients:  # it may go while it is being answered
                    self._answer(client, line)
        if len(buffer) >= MAX_FRAME:
            self._send(client, encode({"error": f"a request has less than {MAX_FRAME} bytes"}))
            self._drop(client)

    def _answer(self, client: socket.socket, line: bytes) -> None:
        try:
            request = decode(line)
            answer = self._handle(client, request)
        except BadFrame as error:
            answer = {"error": str(error)}
        except Exception:  # the thread has to live on: whoever asks next may have more luck
            answer = {"error": self._on_defect("the request could not be handled")}
        self._send(client, encode(answer))

    def _handle(self, client: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("operation") != self._operation:
            raise BadFrame(f"operation {self._operation} is the one that runs here")
        verb = request.get("verb")
        if verb == "follow":
            self._followers.add(client)
            return {"ok": True}
        handler = self._handlers.get(verb) if isinstance(verb, str) else None
        if handler is None or verb in _OWN:
            raise BadFrame("the verbs are " + ", ".join(sorted({*self._handlers, "follow"} - _OWN)))
        return handler(request)

    def _send(self, client: socket.socket, data: bytes) -> None:
        """Whoever does not read has to live with the loss: followers read the file, and are told again."""
        try:
            client.send(data)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _wake_followers(self) -> None:
        os.eventfd_read(self._grown)
        for client in list(self._followers):
            self._send(client, b"\n")

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._signal_read, 4096)
        self._call("signal")

    def _call(self, verb: str) -> None:
        try:
            self._handlers[verb]({})
        except Exception:
            self._on_defect(f"{verb} could not be handled")

    def _drop(self, client: socket.socket) -> None:
        if client in self._clients:
            del self._clients[client]
            self._followers.discard(client)
            self._selector.unregister(client)
            client.close()


def _is_ours(client: socket.socket) -> bool:
    """Whether the peer is the server's own user, or root (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.geteuid())


def _pipe() -> tuple[int, int]:
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    return write, read
