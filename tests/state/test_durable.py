"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from safepoint.state import durable


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """Text and mode, whatever was there, and nothing beside it."""
    path = tmp_path / "config"
    for data, mode in ((b"one", 0o600), (b"", 0o755)):
        durable.write(path, data, mode)
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (data, mode)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    """What it points to stays."""
    (tmp_path / "other").write_text("kept")
    (tmp_path / "config").symlink_to(tmp_path / "other")
    durable.write(tmp_path / "config", b"new", 0o600)
    assert (tmp_path / "other").read_text() == "kept"
    assert not (tmp_path / "config").is_symlink()


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    """A directory in the way stays as it was."""
    (tmp_path / "config" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        durable.write(tmp_path / "config", b"new", 0o600)
    assert [each.name for each in tmp_path.iterdir()] == ["config"]
