"""The hook's side of the `proc-receive` protocol (githooks(5)): what git asks, how it is answered. Decides nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping

from safepoint.core.refs import ProtocolError, RefUpdate, parse_line
from safepoint.git import pktline
from safepoint.hints import BinaryIO
from safepoint.record import Record

MAX_REQUEST = 4 * 1024 * 1024
"""Bytes of commands, and of push options, that are read."""
MAX_REASON = 400
"""Characters of a reason that are passed on."""


class Request(Record):
    commands: tuple[RefUpdate, ...]
    """In git's order. Only those that match `receive.procReceiveRefs`."""
    push_options: tuple[str, ...]
    """As pushed, bytes that are not UTF-8 replaced: quote them before you show them."""
    atomic: bool
    """The client wants all or nothing."""


def read_request(source: BinaryIO, sink: BinaryIO) -> Request:
    """Shake hands and read what is asked. Git waits for the handshake's answer on `sink`, the hook's stdout.

    Raises ProtocolError, and BrokenPipeError where git is gone. An exit without an answer refuses the push.
    """
    features = _negotiate(source, sink)
    commands = tuple(parse_line(line) for line in pktline.read_until_flush(source, MAX_REQUEST))
    options: tuple[str, ...] = ()
    if b"push-options" in features:
        options = tuple(line.decode(errors="replace") for line in pktline.read_until_flush(source, MAX_REQUEST))
    return Request(commands, options, b"atomic" in features)


def answer(sink: BinaryIO, results: Mapping[str, str]) -> None:
    """Ref to an empty text, which says that it was moved, or to the reason why it was not; in the request's order.

    The client shows the reason in `! [remote rejected] main -> main (REASON)`. Raises BrokenPipeError.
    """
    for ref, reason in results.items():
        line = b"ng %b %b" % (os.fsencode(ref), _one_line(reason).encode()) if reason else b"ok " + os.fsencode(ref)
        pktline.write(sink, line)
    pktline.write_flush(sink)


def _negotiate(source: BinaryIO, sink: BinaryIO) -> frozenset[bytes]:
    lines = list(pktline.read_until_flush(source, pktline.MAX_BYTES))
    version, _, features = lines[0].partition(b"\0") if lines else (b"", b"", b"")
    if version != b"version=1":
        raise ProtocolError(f"git speaks {ascii(version[:40])[1:]} to proc-receive, not 'version=1'")
    offered = frozenset(features.split())
    # Asking for push options makes git send that section, so it is asked for only where there are some.
    pktline.write(sink, b"version=1\0push-options" if b"push-options" in offered else b"version=1")
    pktline.write_flush(sink)
    return offered


def _one_line(reason: str) -> str:
    """Printable characters of one line: a control character would reach the client's terminal."""
    line = " ".join("".join(each if each.isprintable() else " " for each in reason).split())
    return line[:MAX_REASON] or "refused"
