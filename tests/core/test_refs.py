"""Updates of refs, as git hands them to hooks."""

import os

import pytest

from safepoint.core.refs import ProtocolError, RefUpdate, collide, is_oid, parse_lines

A, B, ZERO = "a" * 40, "b" * 40, "0" * 40


def line(old: str, new: str, ref: bytes) -> bytes:
    return f"{old} {new} ".encode() + ref + b"\n"


def test_lines_become_updates_in_order() -> None:
    """Each line is one update, in git's order."""
    data = line(ZERO, A, b"refs/heads/main") + line(A, B, b"refs/heads/x") + line(B, ZERO, b"refs/tags/v1")
    assert parse_lines(data) == (
        RefUpdate(ZERO, A, "refs/heads/main"),
        RefUpdate(A, B, "refs/heads/x"),
        RefUpdate(B, ZERO, "refs/tags/v1"),
    )
    assert [(each.creates, each.deletes) for each in parse_lines(data)] == [
        (True, False),
        (False, False),
        (False, True),
    ]


def test_nothing_is_no_update() -> None:
    """Git may call the hook with nothing to say."""
    assert parse_lines(b"") == ()


def test_sha256_ids_and_their_zero_id() -> None:
    """Ids of 64 digits are as good."""
    (update,) = parse_lines(line("0" * 64, "c" * 64, b"refs/heads/main"))
    assert update.creates
    assert not update.deletes


def test_a_ref_that_is_not_utf8_survives() -> None:
    """A ref is bytes; decoded as file names are, it comes out as it went in."""
    (update,) = parse_lines(line(A, B, b"refs/heads/\xff"))
    assert os.fsencode(update.ref) == b"refs/heads/\xff"


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"garbage\n",
        f"{A} {B}\n".encode(),
        f"{A} {B} main\n".encode(),
        f"{A} {'b' * 64} refs/heads/main\n".encode(),
        f"{A.upper()} {B} refs/heads/main\n".encode(),
        f"{A} {B} refs/heads/a b\n".encode(),
        f"{A} {B} refs/heads/a\0b\n".encode(),
        f"{A} {B} refs/heads/main\n\n".encode(),
        f"{A} {B} refs/heads/main\r\n".encode(),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    """A line that git cannot have written is a protocol error that quotes it."""
    with pytest.raises(ProtocolError, match="is not an update of a ref"):
        parse_lines(data)


def test_refs_that_are_in_each_others_way() -> None:
    """A ref and one below it cannot both exist; the same ref and neighbours can."""
    assert collide("refs/heads/main", "refs/heads/main/x")
    assert collide("refs/heads/main/x", "refs/heads/main")
    assert not collide("refs/heads/main", "refs/heads/main")
    assert not collide("refs/heads/main", "refs/heads/mainline")


def test_only_a_full_id_is_an_id() -> None:
    """An abbreviation, or an id with a newline after it, is none."""
    assert is_oid(A)
    assert is_oid("a" * 64)
    assert not any(is_oid(text) for text in ("", "a" * 39, "a" * 41, A + "\n", "g" * 40, "A" * 40))
