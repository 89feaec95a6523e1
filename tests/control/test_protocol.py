"""The frames of the control socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.control.protocol import BadFrame, decode, encode

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.dictionaries(st.text(), JSON))
def test_a_message_is_one_line_and_comes_back(message: dict[str, object]) -> None:
    """Whatever is in it: a reason may have line breaks."""
    frame = encode(message)
    assert frame.count(b"\n") == 1
    assert frame.endswith(b"\n")
    assert decode(frame) == message


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"hello", b"[1]", b"null", b"\xff\xfe", b"{", b"[" * 30_000, b'{"a": ' * 30_000, b"9" * 5000]
)
def test_anything_else_is_refused_with_a_sentence(line: bytes) -> None:
    """No garbage ends the thread that reads it."""
    with pytest.raises(BadFrame, match=r"^the request is not (JSON|an object)$"):
        decode(line)
