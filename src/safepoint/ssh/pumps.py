"""Moving bytes between one channel of the embedded server and its child's pipes, with bounded memory.

Nothing is read before what was read last has been taken: a slow client, or a slow child, slows the other side.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress
from typing import IO

import paramiko

CHUNK = 128 * 1024
"""Bytes."""

LOST = (OSError, EOFError, paramiko.SSHException)
"""What paramiko raises where the connection or the channel is gone, or does not move any more."""


def pump_out(pipe: IO[bytes], ended: int, send: Callable[[bytes], object]) -> None:
    """From the child, until the pipe's end, or until the child has ended (`ended` is readable) and the pipe is empty.

    A grandchild that keeps the pipe open must not keep the client waiting. Raises LOST.
    """
    descriptor = pipe.fileno()
    os.set_blocking(descriptor, False)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.register(ended, select.POLLIN)
    while True:
        over = any(found == ended for found, _ in poller.poll())  # before the read: what it wrote is in the pipe
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            if over:
                return
            continue
        if not data:
            return
        send(data)


def pump_in(channel: paramiko.Channel, pipe: IO[bytes], ended: int) -> None:
    """To the child, until the client's end of input, or until the child has ended or closed its stdin."""
    with pipe, suppress(*LOST):
        descriptor = pipe.fileno()
        os.set_blocking(descriptor, False)
        while data := channel.recv(CHUNK):
            if not _write(descriptor, data, ended):
                return


def _write(descriptor: int, data: bytes, ended: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    poller.register(ended, select.POLLIN)
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            if any(found == ended for found, _ in poller.poll()):
                return False
    return True
