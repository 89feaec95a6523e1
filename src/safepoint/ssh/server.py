"""The embedded ssh server: it listens, and keeps the limits on connections. What one may do is in `connection`."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from safepoint.errors import UserError
from safepoint.record import Record
from safepoint.ssh.connection import Connection, OnLog
from safepoint.ssh.host_key import host_key
from safepoint.ssh.sessions import Session, Visit, decide
from safepoint.ssh.transport import BoundedSocket
from safepoint.state.paths import Home


class Limits(Record):
    connections: int = 256
    """A push has one from its start to its end: this is how many people may push at the same time."""
    unauthenticated: int = 128
    """So many may arrive at once, since handshakes take a while. Then `first_to_go` makes room for the next."""
    authentication: float = 30.0
    """Seconds from the connection to the proof of a key."""
    channels: int = 10
    """Open at a time, a connection."""


DEFAULT = Limits()


def first_to_go(peers: Sequence[str]) -> int:
    """Of connections without a key, the oldest first: the index of the one that makes room for another.

    The oldest from where most of them come: a flood from one place drops its own, and nobody else's.
    """
    places = [_network(peer) for peer in peers]
    counts = Counter(places)
    return max(range(len(places)), key=lambda index: (counts[places[index]], -index))


def _network(address: str) -> str:
    """An address of IPv4, or the /64 that whoever has one address of IPv6 has all of."""
    found = ipaddress.ip_address(address)
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


class SshServer:
    """`start` returns when it listens; `close` when nothing of it is left. A worker is not of it."""

    def __init__(
        self,
        home: Home,
        address: str,
        port: int,
        on_log: OnLog,
        *,
        limits: Limits = DEFAULT,
        decide: Callable[[Visit], Session] = decide,
    ) -> None:
        """`port` may be 0: any that is free."""
        self._decide = decide
        self._home = home
        self._address = (address, port)
        self._on_log = on_log
        self._limits = limits
        self._connections: list[Connection] = []
        self._listener: socket.socket | None = None
        self._wake = -1
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        if self._listener is None:
            raise RuntimeError("the ssh server has not been started")
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Raises UserError where the port or the host key cannot be used."""
        self._host_key = host_key(self._home.host_key)
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        try:
            self._listener = socket.create_server(self._address, family=family, backlog=256)
        except (OSError, OverflowError) as error:
            host, port = self._address
            number = getattr(error, "errno", None) or 0  # its strerror says in brackets what the sentence says anyway
            reason = os.strerror(number) if number > 0 else str(error)
            raise UserError(f"cannot listen for ssh on {host} port {port}: {reason}", "choose another port") from None
        self._listener.setblocking(False)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, args=(self._listener,), name="ssh server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every connection and what it runs, gently at first. Idempotent."""
        if self._listener is None or self._thread is None:
            return
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._listener.close()
        self._listener = None
        os.close(self._wake)
        for connection in self._connections:
            connection.drop()
        for connection in self._connections:
            connection.join()
        self._connections = []

    def _run(self, listener: socket.socket) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(listener, select.POLLIN)
        while True:
            ready = [found for found, _ in poller.poll(self._until_next_deadline())]
            if self._wake in ready:
                return
            self._drop_late()
            if ready and not self._accept(listener):
                # No descriptors, most likely: the listener stays readable, and asking again at once would spin.
                pause = select.poll()
                pause.register(self._wake, select.POLLIN)
                pause.poll(1000)

    def _accept(self, listener: socket.socket) -> bool:
        """False where it has to be tried again later."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return True  # it has gone already
        except OSError as error:
            self._on_log("ssh connection refused", reason=error.strerror)
            return False
        sock = BoundedSocket(fileno=accepted.detach())
        try:
            self._admit(sock)
        except Exception as error:  # one client's trouble must not end the server
            sock.close()
            self._on_log("ssh connection refused", reason=repr(error))
        return True

    def _admit(self, sock: BoundedSocket) -> None:
        _notice_silence(sock)
        self._connections = [each for each in self._connections if not each.over]
        if len(self._connections) >= self._limits.connections:
            self._on_log("ssh connection refused", peer=sock.getpeername()[0], reason="too many connections")
            with suppress(OSError):
                sock.send(b"too many connections\r\n")
            sock.close()
            return
        waiting = self._unauthenticated()
        if len(waiting) >= self._limits.unauthenticated:
            # Not the new one: whoever only holds connections open keeps nobody out.
            victim = waiting[first_to_go([each.peer for each in waiting])]
            self._on_log("ssh connection dropped", peer=victim.peer, reason="too many without a key")
            victim.drop()
        self._connections.append(
            Connection(
                self._home, sock, self._host_key, self._on_log, channels=self._limits.channels, decide=self._decide
            )
        )

    def _unauthenticated(self) -> list[Connection]:
        """Oldest first."""
        return [each for each in self._connections if each.transport.is_active() and not each.authenticated]

    def _drop_late(self) -> None:
        for connection in self._unauthenticated():
            if time.monotonic() - connection.since >= self._limits.authentication:
                self._on_log("ssh connection dropped", peer=connection.peer, reason="no key in time")
                connection.drop()

    def _until_next_deadline(self) -> float | None:
        """Milliseconds."""
        waiting = self._unauthenticated()
        if not waiting:
            return None
        left = waiting[0].since + self._limits.authentication - time.monotonic()
        return max(left, 0) * 1000 + 1


def _notice_silence(sock: socket.socket) -> None:
    """Have the kernel find out, in about 90 seconds, that a client has vanished; a silent one that is there stays.

    Not TCP_USER_TIMEOUT: it would cut off a client that was stopped by Ctrl-Z with data on the way.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
