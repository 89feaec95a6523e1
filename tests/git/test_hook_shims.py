"""The shims that git runs: written for this Python, and closed where it is gone."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from forging import git, work_tree

from safepoint.errors import UserError
from safepoint.git.hook_shims import install_hooks
from safepoint.git.repositories import GitRepository, create
from safepoint.interpreter import START
from safepoint.state.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    install_hooks(home)
    return home


def test_both_hooks_are_there(home: Home) -> None:
    """Executable, whole, and nothing beside them."""
    assert sorted(each.name for each in home.hooks.iterdir()) == ["pre-receive", "proc-receive"]
    for hook in home.hooks.iterdir():
        assert hook.stat().st_mode & 0o777 == 0o755
        text = hook.read_text()
        assert text.startswith("#!/bin/sh\n")
        assert "@" not in text.replace("$@", "")
        assert f'exec "$python" -I -S {shlex.quote(START)} safepoint.git.hooks {hook.name}\n' in text
        assert subprocess.run(["sh", "-n", hook]).returncode == 0


def test_writing_them_again_touches_nothing(home: Home) -> None:
    """Only what differs is replaced: text, mode or absence."""
    pre, proc = home.hooks / "pre-receive", home.hooks / "proc-receive"
    before = [(path.stat().st_ino, path.stat().st_ctime_ns) for path in (pre, proc)]
    install_hooks(home)
    assert [(path.stat().st_ino, path.stat().st_ctime_ns) for path in (pre, proc)] == before
    whole = pre.read_text()
    pre.write_text("#!/bin/sh\n")
    proc.chmod(0o644)
    install_hooks(home)
    assert pre.read_text() == whole
    assert proc.stat().st_mode & 0o777 == 0o755
    proc.unlink()
    install_hooks(home)
    assert proc.exists()


def test_a_python_with_a_difficult_path(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a virtual environment may have anything in it; it reaches exec as one word, with its arguments."""
    python = tmp_path / 'it\'s $HOME `x` "y"\n' / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    install_hooks(home)
    done = subprocess.run([home.hooks / "pre-receive"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"-I|-S|{START}|safepoint.git.hooks|pre-receive|", "")


def test_a_python_that_is_gone_refuses_the_push(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and nothing is moved, on any branch."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    install_hooks(home)
    create(home, "shop", "main")
    work_tree(tmp_path / "work", {"a": b"1"})
    for target in ("main", "other"):
        said = git(tmp_path / "work", "push", home.repository("shop"), f"main:refs/heads/{target}", status=1)
        lines = [line for line in said.splitlines() if line.startswith("remote:")]
        assert [line.rstrip() for line in lines] == [
            "remote: safepoint: this push is refused, because the server's /nonexistent/python is gone"
        ]
        assert GitRepository(home.repository("shop")).branch(target) == ""


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """A file in the way is one sentence."""
    (tmp_path / "hooks").write_text("")
    with pytest.raises(UserError, match="cannot write the hook"):
        install_hooks(Home(tmp_path))
