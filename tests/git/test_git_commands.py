"""How git is run, and what it complains about."""

from pathlib import Path

import pytest
from forging import git

from safepoint.errors import NotFound, UserError
from safepoint.git.commands import complaint, git_environment, run_git


def test_nothing_of_git_s_comes_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of a push, of a shell and of an attacker stay out; the rest stays, and what is asked for comes in."""
    for name in ("GIT_DIR", "GIT_QUARANTINE_PATH", "GIT_SSH_COMMAND", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("KEPT", "yes")
    environment = git_environment({"GIT_INDEX_FILE": "x"})
    assert not {"GIT_DIR", "GIT_QUARANTINE_PATH", "GIT_SSH_COMMAND", "GIT_CONFIG_PARAMETERS"} & environment.keys()
    assert environment["KEPT"] == "yes"
    assert environment["GIT_INDEX_FILE"] == "x"
    assert environment["GIT_CONFIG_COUNT"] != "7"


def test_a_repository_of_another_user_can_be_read(tmp_path: Path) -> None:
    """Root looks into what belongs to the deploying user: git's guard is for directories that git found by itself."""
    git(tmp_path, "init", "--quiet", "--bare", "app.git")
    elsewhere = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}  # git's own tests use it, as they cannot change owners either
    assert "dubious ownership" in git(tmp_path / "app.git", "rev-parse", "--git-dir", env=elsewhere, status=128)
    assert git(tmp_path / "app.git", "rev-parse", "--git-dir", env=git_environment(elsewhere)) == "."
    assert run_git(tmp_path / "app.git", "rev-parse", "--git-dir", extra=elsewhere).status == 0


def test_no_git_and_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two different sentences."""
    with pytest.raises(NotFound, match="there is no repository"):
        run_git(tmp_path / "none", "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="cannot run git: No such file or directory; install git"):
        run_git(tmp_path, "version")


@pytest.mark.parametrize(
    ("stderr", "clause"),
    [
        (b"", ""),
        (b"fatal: not a repository\n", "not a repository"),
        (b"warning: x\nerror: first\nfatal: second\n", "first"),
        (b"hint: a\nsomething else\n", "something else"),
        (b"fatal: error: nested\n", "nested"),
        (b"fatal: \x1b[31mred\xff\n", "?[31mred\N{REPLACEMENT CHARACTER}"),
        (b"fatal: cannot open " + b"x" * 1000 + b": no", "cannot open " + "x" * 88 + "..." + "x" * 96 + ": no"),
    ],
)
def test_a_complaint_is_one_clause(stderr: bytes, clause: str) -> None:
    """The first error, without its prefix, printable and cut."""
    assert complaint(stderr) == clause
