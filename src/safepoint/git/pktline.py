"""Git's pkt-lines on binary streams (gitprotocol-common(5)): four hex digits of length, themselves included, then the
payload. `0000` is a flush."""

from __future__ import annotations

from collections.abc import Iterator

from safepoint.core.refs import ProtocolError
from safepoint.hints import BinaryIO

MAX_BYTES = 65520
"""The longest packet with its length: LARGE_PACKET_MAX in git's pkt-line.h."""

_HEX = frozenset(b"0123456789abcdefABCDEF")  # int(..., 16) alone would take `+0a1`, ` 0a1` and `0_a1`


def read(stream: BinaryIO) -> bytes | None:
    """The payload of the next packet, or None for a flush. Raises ProtocolError, also where the stream ends."""
    head = _exactly(stream, 4)
    if not _HEX.issuperset(head):
        raise ProtocolError(f"{ascii(head)[1:]} is not the length of a packet")
    length = int(head, 16)
    if length == 0:
        return None
    # 0001 to 0003 are delimiters of protocol version 2, which no hook is sent; 0004 is empty and "should not be sent".
    if not 4 < length <= MAX_BYTES:
        raise ProtocolError(f"a packet cannot have the length {length}")
    return _exactly(stream, length - 4)


def read_until_flush(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """The payloads up to a flush, at most `limit` bytes, each without the newline at its end. Raises ProtocolError."""
    total = 0
    while (payload := read(stream)) is not None:
        total += len(payload)
        if total > limit:
            raise ProtocolError(f"there are more than {limit} bytes of packets")
        yield payload.removesuffix(b"\n")


def write(stream: BinaryIO, payload: bytes) -> None:
    """Raises ValueError where `payload` does not fit a packet. The caller flushes the stream."""
    if not 0 < len(payload) <= MAX_BYTES - 4:
        raise ValueError(f"{len(payload)} bytes do not fit a packet")
    stream.write(b"%04x" % (len(payload) + 4) + payload)


def write_flush(stream: BinaryIO) -> None:
    """The flush packet, and the stream's own buffer with it."""
    stream.write(b"0000")
    stream.flush()


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = b""
    while len(data) < count:  # a raw pipe reads short
        chunk = stream.read(count - len(data))
        if not chunk:
            raise ProtocolError("git hung up")
        data += chunk
    return data
