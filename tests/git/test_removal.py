"""Removing what strangers had a hand in."""

import os
from pathlib import Path

import pytest

from safepoint.git.removal import remove


def test_whatever_is_there(tmp_path: Path) -> None:
    """A deep tree with odd names, a file, a link to what has to stay, and nothing at all."""
    (tmp_path / "kept").mkdir()
    directory = tmp_path / "-rf"
    directory.mkdir()
    (directory / "a\nb\udcff").write_text("")
    (directory / "link").symlink_to(tmp_path / "kept")
    at = os.open(directory, os.O_DIRECTORY)
    for _ in range(2000):
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    remove(directory)
    (tmp_path / "file").write_text("")
    remove(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_what_cannot_be_removed() -> None:
    """The reason is rm's, as one clause."""
    with pytest.raises(OSError, match=r"not permitted|denied") as caught:
        remove(Path("/proc/version"))
    assert caught.value.filename == "/proc/version"
