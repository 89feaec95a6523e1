"""paramiko's transport with the bounds that it lacks: on a packet, on what comes before authentication, on a window.

Each is a hole that a client could fill our memory through. This is the one file that touches paramiko's inside.
"""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import suppress
from typing import Any, ClassVar

import paramiko
from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_REQUEST
from paramiko.packet import Packetizer

MAX_PACKET = 256 * 1024
"""Bytes, with room for the header. RFC 4253 asks for 35,000; OpenSSH takes as much as this."""
MAX_BEFORE_AUTHENTICATION = 1024 * 1024
"""Bytes."""
WINDOW = 2 * 1024 * 1024
"""Bytes that a client may send on a channel before they were read."""
REKEY_TIMEOUT = 600.0
"""Seconds. A client that reads slowly, or was stopped by Ctrl-Z, takes as long to answer."""

LOG = "safepoint.ssh.paramiko"
"""paramiko's own log, with its tracebacks, goes here and no further; the server logs what matters itself."""

_OLD = {  # SHA-1, MD5 and CBC: newer versions of paramiko have dropped most of them
    "keys": ("ssh-rsa", "ssh-dss"),
    "pubkeys": ("ssh-rsa", "ssh-dss"),
    "kex": (
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group-exchange-sha1",
    ),
    "macs": ("hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"),
    "ciphers": ("3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc", "blowfish-cbc"),
}


class BoundedSocket(socket.socket):
    """A client's socket that does not read more than it should."""

    unlimited = False
    _received = 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        # paramiko asks for whatever length a packet claims, up to 4 GB, before anything about it was verified.
        if size > MAX_PACKET + 1024:
            # With a number: paramiko takes OSError's two arguments for granted, and its thread would die of that.
            raise OSError(errno.EMSGSIZE, f"the client announced a packet of {size} bytes")
        data = super().recv(size, flags)
        if not self.unlimited:
            self._received += len(data)
            if self._received > MAX_BEFORE_AUTHENTICATION:
                raise OSError(errno.EMSGSIZE, "the client sent too much before it authenticated")
        return data

    def close(self) -> None:
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)  # close() alone does not wake the thread that reads
        super().close()


class _Packetizer(Packetizer):
    def start_handshake(self, timeout: float) -> None:
        """No timer of paramiko's: it is a thread, and outlives a failed handshake by 15 s. The server has deadlines."""


class Server(paramiko.ServerInterface):
    def begin(self, channel: paramiko.Channel) -> None:
        """A request of `channel` has been answered."""


class Transport(paramiko.Transport):
    _channel_handler_table: ClassVar[dict[int, Any]]

    def __init__(self, sock: BoundedSocket) -> None:
        super().__init__(sock, default_window_size=WINDOW, disabled_algorithms=_OLD, packetizer_class=_Packetizer)
        self.set_log_channel(LOG)
        self.clear_to_send_timeout = REKEY_TIMEOUT


def _data(channel: paramiko.Channel, message: paramiko.Message) -> None:
    channel._feed(message)  # type: ignore[attr-defined]
    if len(channel.in_buffer) > WINDOW:  # paramiko counts the window that it gives and never checks it
        raise paramiko.SSHException("the client ignores the window")


def _extended_data(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """A client has no stderr to send; paramiko would keep it for ever."""


def _request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    channel._handle_request(message)  # type: ignore[attr-defined]
    # Only now has the client been told that its request was accepted: data that comes earlier confuses some.
    server = channel.get_transport().server_object
    if isinstance(server, Server):
        server.begin(channel)


Transport._channel_handler_table = {
    **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
    MSG_CHANNEL_DATA: _data,
    MSG_CHANNEL_EXTENDED_DATA: _extended_data,
    MSG_CHANNEL_REQUEST: _request,
}


def _silence() -> None:
    logger = logging.getLogger(LOG)
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())


_silence()
