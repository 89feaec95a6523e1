"""Removing what strangers had a hand in: whatever they made of the directory, it goes, and nothing else does."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from breaking import NOBODY, without_privilege

from safepoint.trees import remove_tree


def test_a_directory_of_3000_levels_is_removed(tmp_path: Path) -> None:
    """No recursion, and no path that is longer than the kernel takes."""
    doomed = tmp_path / "v1"
    doomed.mkdir()
    here = os.open(doomed, os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("a-directory", dir_fd=here)
        below = os.open("a-directory", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(doomed)
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    """Neither below the directory nor in its place. To remove it again is no error."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    doomed = tmp_path / "v1"
    doomed.mkdir()
    (doomed / "out").symlink_to(precious)
    (doomed / os.fsdecode(b"-rf \xff\n")).touch()
    remove_tree(doomed)
    remove_tree(doomed)
    doomed.symlink_to(precious)
    remove_tree(doomed)
    doomed.touch()
    remove_tree(doomed)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (precious / "file").exists()


def test_directories_without_write_permission_are_removed() -> None:
    """As Go's module cache makes them. What belongs to somebody else stays, and the error says so."""
    with tempfile.TemporaryDirectory() as place:
        if os.geteuid() == 0:
            os.chown(place, NOBODY, -1)
        doomed = Path(place) / "v1"
        with without_privilege():
            (doomed / "a" / "b").mkdir(parents=True)
            (doomed / "a" / "b" / "file").touch()
            for directory in (doomed / "a" / "b", doomed / "a", doomed):
                directory.chmod(0o500)
            (doomed / "a" / "b").chmod(0)
            remove_tree(doomed)
            assert not doomed.exists()
            doomed.mkdir()
            Path(place).chmod(0o500)
            with pytest.raises(OSError, match=r"Permission denied: .*/v1"):
                remove_tree(doomed)
            Path(place).chmod(0o700)


def test_what_cannot_be_removed() -> None:
    """The reason is rm's, as one clause."""
    with pytest.raises(OSError, match=r"not permitted|denied") as caught:
        remove_tree(Path("/proc/version"))
    assert caught.value.filename == "/proc/version"
