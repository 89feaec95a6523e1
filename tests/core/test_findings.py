"""What doctor makes of bare facts."""

from __future__ import annotations

import pytest

from safepoint.core import findings as f
from safepoint.core.findings import Level


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("git version 2.39.5", Level.OK),
        ("git version 2.29.0", Level.OK),
        ("git version 3.0.0.windows.1", Level.OK),
        ("git version 2.28.1", Level.PROBLEM),
        ("git version 1.99", Level.PROBLEM),
        ("", Level.PROBLEM),
        (None, Level.PROBLEM),
    ],
)
def test_git_is_new_enough(said: str | None, level: Level) -> None:
    """proc-receive came with 2.29."""
    assert f.git(said).level is level


@pytest.mark.parametrize(
    ("kind", "level"),
    [("ext4", Level.OK), ("", Level.OK), ("overlay", Level.OK), ("nfs4", Level.WARNING), ("fuse.sshfs", Level.WARNING),
     ("tmpfs", Level.WARNING)],
)  # fmt: skip
def test_the_file_system_keeps_locks_and_data(kind: str, level: Level) -> None:
    """One over a network and one in memory are warned of."""
    assert f.file_system(kind).level is level


@pytest.mark.parametrize(
    ("free", "files", "level"),
    [
        (10 * 2**30, None, Level.OK),
        (10 * 2**30, 10**6, Level.OK),
        (2**30, 10**6, Level.WARNING),
        (2**20, None, Level.PROBLEM),
        (10 * 2**30, 12, Level.PROBLEM),
    ],
)
def test_there_is_room(free: int, files: int | None, level: Level) -> None:
    """For bytes, and for files."""
    assert f.space(free, files).level is level


@pytest.mark.parametrize(("bits", "wrong"), [(0o100600, False), (0o40700, False), (0o100640, True), (0o40701, True)])
def test_others_are_kept_out(bits: int, *, wrong: bool) -> None:
    """Any bit for anybody else is a problem, and the advice takes it away."""
    found = f.mode("key files", "/srv/host_key", bits)
    assert (found is not None) == wrong
    assert found is None or (found.level, found.advice) == (Level.PROBLEM, "chmod go= /srv/host_key")


def test_only_a_problem_fails() -> None:
    """And the last line counts what was found."""
    fine = [f.ok("a", "b"), f.warning("a", "b"), f.warning("a", "b")]
    assert (f.exit_status(fine), f.summary(fine)) == (0, "no problems, 2 warnings")
    broken = [*fine, f.problem("a", "b")]
    assert (f.exit_status(broken), f.summary(broken)) == (1, "1 problem, 2 warnings")
