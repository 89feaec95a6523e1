"""What the machine refuses is told from what is a defect of ours."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from breaking import small_disk

from safepoint import machine


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "", "/srv/x"), "No space left on device: /srv/x; free some, and try again"),
        (OSError(errno.EMFILE, ""), "Too many open files; raise the limit of open files (`ulimit -n`), and try again"),
        (FileNotFoundError(errno.ENOENT, "", "/srv/x"), None),
        (ValueError("x"), None),
    ],
)
def test_its_refusals_are_sentences(error: Exception, sentence: str | None) -> None:
    """What happened, and what to do; anything else is for the log."""
    found = machine.trouble(error)
    assert (None if found is None else str(found)) == sentence


def test_a_disk_is_looked_at(tmp_path: Path) -> None:
    """Whether it is full, or read-only; what is not there is neither."""
    with small_disk(tmp_path / "disk", 2) as disk:
        assert not machine.is_full(disk.path)
        disk.fill()
        assert machine.is_full(disk.path)
        assert not machine.is_read_only(disk.path)
        disk.read_only()
        assert machine.is_read_only(disk.path)
    assert not machine.is_full(tmp_path / "nothing")
    assert not machine.is_read_only(tmp_path / "nothing")
