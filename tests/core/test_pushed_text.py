"""Output of pushed code: what ends on people's terminals, and what cannot be taken for Safepoint's own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core.pushed_text import MAX_LINE, PushedText


def shown(*chunks: bytes) -> str:
    """As OutputLog uses it; strict, since what is kept is always UTF-8."""
    stream, found = PushedText(), b""
    for chunk in chunks:
        found += stream.safe(chunk, line_open=bool(found) and not found.endswith(b"\n"))
    return (found + stream.rest()).decode()


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([b"plain\ttext\n"], "plain\ttext\n"),
        (["caf\xe9 \N{SNOWMAN}\n".encode()], "caf\xe9 \N{SNOWMAN}\n"),
        ([b"\x1b[31mred\x1b[0m\x07\n"], "[31mred[0m\n"),
        ([b"\x1b]0;title\x07\x08\x7f\x00\n"], "]0;title\n"),
        ([b"10%\r20%\r\n"], "10%\n20%\n"),
        ([b"one\r", b"\ntwo\r", b"three\r", b"", b"\n\n"], "one\ntwo\nthree\n\n"),
        (["\x9b31m\n".encode()], "?31m\n"),
        ([b"\xc2", b"\x9b31m\n"], "?31m\n"),
        ([b"\xc2\x00", b"\x07\x9b31m\n"], "\ufffd\ufffd31m\n"),
        ([b"\xc2\xc2\x9b\x9b\n"], "\ufffd?\ufffd\n"),
        ([b"\x9b31m\n"], "\ufffd31m\n"),
        ([b"caf\xc3", b"\xa9\xc2", b"\xa0\n"], "caf\xe9\xa0\n"),
        ([b"\xff\xfe\n"], "\ufffd\ufffd\n"),
        ([b"cut \xe2\x98"], "cut \ufffd"),
        (["\u202egnp.exe \u2066x\u2069\u200f\u2028\n".encode()], "?gnp.exe ?x???\n"),
        (["\u202e".encode()[:2], "\u202e".encode()[2:], b"x\n"], "?x\n"),
    ],
)
def test_a_terminal_obeys_nothing_of_it(chunks: list[bytes], text: str) -> None:
    """Escapes and controls go, also where they come in parts or would be put together by what goes; text stays."""
    assert shown(*chunks) == text


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([b"safepoint | Done\n"], "> safepoint | Done\n"),
        ([b"one\nsafepoint | Done\n"], "one\n> safepoint | Done\n"),
        ([b"one\n", b"safepoint | Done"], "one\n> safepoint | Done"),
        ([b"one\nsafe", b"poi", b"nt", b" ", b"| Done\n"], "one\n> safepoint | Done\n"),
        ([b"one\rsafepoint | Done\r"], "one\n> safepoint | Done\n"),
        ([b"one\r", b"safepoint | Done\r"], "one\n> safepoint | Done\n"),
        ([b"sa\x1bfe\x00point | Done\n"], "> safepoint | Done\n"),
        ([b" \tSafePoint|Done\n"], ">  \tSafePoint|Done\n"),
        ([b"safepoint | a\nsafepoint | b\n"], "> safepoint | a\n> safepoint | b\n"),
        ([b"the safepoint | of it\n"], "the safepoint | of it\n"),
        ([b"open ", b"safepoint | of it\n", b"safepoint |\n"], "open safepoint | of it\n> safepoint |\n"),
        ([b"safepoint", b"s are safe\nsafepoint 1.0 | x\n"], "safepoints are safe\nsafepoint 1.0 | x\n"),
        ([b"safe"], "safe"),
        ([b" " * 5000, b"x\n"], " " * 5000 + "x\n"),
    ],
)
def test_no_line_looks_like_safepoint_s_own(chunks: list[bytes], text: str) -> None:
    """At the start of any line, however it was ended and wherever the stream is cut; elsewhere it is only a text."""
    assert shown(*chunks) == text


PIECES = (
    b"\xc2", b"\x9b", b"\x85", b"\x1b", b"\r", b"\n", b"\x00", b"a", b" ", b"safe", b"point", b"|",
    b"\xe2\x80", b"\xae",
)  # fmt: skip


@given(chunks=st.lists(st.lists(st.sampled_from(PIECES)).map(b"".join), max_size=8))
def test_however_it_is_cut(chunks: list[bytes]) -> None:
    """No control, no change of direction and no line like ours is left, and it says what the whole would say."""
    text = shown(*chunks)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert not re.search(r"^\s*safepoint\s*\|", text, re.MULTILINE)
    assert text == shown(b"".join(chunks))


def test_nothing_is_kept_waiting_but_the_beginning_of_a_line_like_ours() -> None:
    """A prompt, or a progress bar, is seen when it is said."""
    stream = PushedText()
    assert stream.safe(b"Password: ", line_open=False) == b"Password: "
    assert stream.safe(b"safe", line_open=True) == b"safe"
    assert stream.safe(b"\n...", line_open=True) == b"\n..."
    assert stream.safe(b"\n safe", line_open=True) == b"\n"
    assert stream.safe(b"ly\n", line_open=False) == b" safely\n"


def test_a_line_without_end_is_ended() -> None:
    """Nobody has to keep all of it, and what follows begins a line like any other; a long line stays whole."""
    part = "\N{SNOWMAN}".encode() * 20_000
    text = shown(*[part] * 10, b"x", b"safepoint | Done\n")
    assert text.replace("\n", "") == "\N{SNOWMAN}" * 200_000 + "xsafepoint | Done"
    assert max(len(line.encode()) for line in text.splitlines()) <= MAX_LINE + len(part)
    assert shown(*[b"x" * MAX_LINE] * 2, b"safepoint | Done\n").endswith("x\n> safepoint | Done\n")
    assert shown(b"x" * 1000, b"x" * (MAX_LINE - 1001), b"x\n", b"y\n") == "x" * MAX_LINE + "\ny\n"
