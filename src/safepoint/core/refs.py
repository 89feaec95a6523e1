"""Updates of refs, as git hands them to its hooks. Pure."""

from __future__ import annotations

import os
import re

from safepoint.record import Record

_LINE = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) (refs/[^\x00-\x20\x7f]+)")

MAX_UPDATES = 64 * 1024 * 1024
"""Bytes of one push's updates: a mirror of half a million refs."""


class ProtocolError(Exception):
    """Git, or somebody in its place, said what its protocol does not allow. The text is one clause."""


class RefUpdate(Record):
    """One ref to be moved. A zero id, of either length (SHA-1 or SHA-256), stands for no commit.

    `ref` is decoded as file names are (PEP 383), since a ref need not be UTF-8: quote it before you show it.
    """

    old: str
    new: str
    ref: str

    @property
    def creates(self) -> bool:
        return is_zero(self.old)

    @property
    def deletes(self) -> bool:
        return is_zero(self.new)


def is_zero(oid: str) -> bool:
    return not oid.strip("0")


def is_oid(text: str) -> bool:
    """Whether `text` is a full object id in hex. An abbreviated one is not an id but a question."""
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) is not None


def branch_ref(branch: str) -> str:
    return f"refs/heads/{branch}"


def collide(ref: str, other: str) -> bool:
    """Whether the two cannot both exist, because one would be a directory of the other: `a` and `a/b`.

    A stranger who creates one of them keeps the other from being created ever after.
    """
    return ref.startswith(f"{other}/") or other.startswith(f"{ref}/")


def parse_lines(data: bytes) -> tuple[RefUpdate, ...]:
    """What pre-receive reads: `<old> SP <new> SP <ref> LF` each (githooks(5)). Raises ProtocolError."""
    if len(data) > MAX_UPDATES:
        raise ProtocolError(f"a push of more than {MAX_UPDATES // 1024**2} MiB of names is too much at once")
    return tuple(parse_line(line) for line in data.removesuffix(b"\n").split(b"\n")) if data else ()


def parse_line(line: bytes) -> RefUpdate:
    """Raises ProtocolError."""
    match = _LINE.fullmatch(line)
    if match is None or len(match[1]) != len(match[2]):
        raise ProtocolError(f"{ascii(line[:80])[1:]} is not an update of a ref")
    return RefUpdate(match[1].decode(), match[2].decode(), os.fsdecode(match[3]))
