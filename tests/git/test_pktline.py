"""pkt-lines on binary streams."""

import io
import os

import pytest

from safepoint.core.refs import ProtocolError
from safepoint.git import pktline


def test_what_is_written_can_be_read() -> None:
    """A packet and a flush survive the round trip, at every size that fits."""
    for size in (1, 2, 1000, pktline.MAX_BYTES - 4):
        stream = io.BytesIO()
        pktline.write(stream, b"x" * size)
        pktline.write_flush(stream)
        stream.seek(0)
        assert pktline.read(stream) == b"x" * size
        assert pktline.read(stream) is None


def test_the_format_is_git_s() -> None:
    """The length counts itself, in four hex digits (gitprotocol-common(5))."""
    stream = io.BytesIO()
    pktline.write(stream, b"a\n")
    pktline.write_flush(stream)
    assert stream.getvalue() == b"0006a\n0000"


@pytest.mark.parametrize("size", [0, pktline.MAX_BYTES - 3])
def test_what_does_not_fit_is_not_written(size: int) -> None:
    """Too much, or nothing at all, is a mistake of the caller's."""
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="do not fit"):
        pktline.write(stream, b"x" * size)
    assert stream.getvalue() == b""


@pytest.mark.parametrize(
    "data",
    [b"", b"00", b"0008abc", b"zzzz", b"+0a1abc", b"0_a1", b" 0a1", b"-001", b"0001", b"0002", b"0004", b"fff1x"],
)
def test_malformed_packets_are_refused(data: bytes) -> None:
    """A length that is none, a packet too long, empty or cut short is a protocol error."""
    with pytest.raises(ProtocolError):
        pktline.read(io.BytesIO(data))


def test_a_pipe_that_delivers_in_pieces() -> None:
    """Short reads of an unbuffered pipe are put together."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb", buffering=0) as sink:
        for piece in (b"00", b"09", b"he"):
            sink.write(piece)
        pieces = iter((b"ll", b"o"))

        class Slow(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                if size <= 3 and (piece := next(pieces, None)):
                    sink.write(piece)
                return source.read(1)

        assert pktline.read(Slow()) == b"hello"  # type: ignore[arg-type]


def test_a_section_is_bounded() -> None:
    """More than the limit is refused before all of it has been read."""
    stream = io.BytesIO(b"0009hello" * 3 + b"0000")
    with pytest.raises(ProtocolError, match="more than 10 bytes"):
        list(pktline.read_until_flush(stream, 10))
    assert stream.read() == b"0000"
