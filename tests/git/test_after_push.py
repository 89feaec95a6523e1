"""Safepoint's hooks in a repository that is hosted elsewhere: put in and taken out, with what was there kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from forging import commit_files, git, work_tree

from safepoint.core.app import App
from safepoint.errors import UserError
from safepoint.git import foreign_hooks, repositories
from safepoint.git.bringing import bring
from safepoint.git.hook_shims import install_hooks
from safepoint.git.repositories import GitRepository
from safepoint.state.paths import Home
from safepoint.state.store import Store

DEPLOYABLE = {"Procfile": b"web: true\n"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "it's home")
    with Store.create(home) as store:
        for name in ("shop", "blog"):
            store.create_app(name, "main")
            repositories.create(home, name, "main")
    install_hooks(home)
    return home


@pytest.fixture
def shop(home: Home) -> App:
    with Store.open(home) as store:
        return store.need_app("shop")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    path = tmp_path / "else where.git"
    git(tmp_path, "init", "--quiet", "--bare", "--template=", path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    work_tree(tmp_path / "work", DEPLOYABLE)
    return tmp_path / "work"


def hook(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def everything(directory: Path) -> dict[str, bytes | str]:
    """Each file with its contents, each link with its target."""
    files = {each for each in directory.rglob("*") if each.is_symlink() or not each.is_dir()}
    return {
        str(each.relative_to(directory)): os.readlink(each) if each.is_symlink() else each.read_bytes()  # noqa: PTH115
        for each in files
    }


def test_installing_and_removing_leaves_the_repository_as_it_was(home: Home, shop: App, elsewhere: Path) -> None:
    """Byte for byte, also where both are done twice; and whatever core.hooksPath was."""
    for setting in (None, "my hooks", "/srv/hooks of all"):
        if setting is not None:
            git(elsewhere, "config", "core.hooksPath", setting)
        before = everything(elsewhere)
        for _ in range(2):
            assert foreign_hooks.install(home, shop, elsewhere) == ""
        assert git(elsewhere, "rev-parse", "--git-path", "hooks/pre-receive") == "safepoint-hooks/pre-receive"
        found = foreign_hooks.remove(elsewhere)
        assert found is not None
        assert (found.app, found.previous) == ("shop", setting)
        assert foreign_hooks.remove(elsewhere) is None
        assert everything(elsewhere) == before
        assert not (elsewhere / "safepoint-hooks").exists()


def test_what_a_try_that_was_cut_short_has_left(home: Home, shop: App, elsewhere: Path) -> None:
    """Nothing has changed for pushes until core.hooksPath does; a second try, or the removal, finishes it."""
    before = everything(elsewhere)
    foreign_hooks.install(home, shop, elsewhere)
    git(elsewhere, "config", "--unset", "core.hooksPath")
    (elsewhere / "safepoint-hooks" / "post-receive").unlink()
    foreign_hooks.install(home, shop, elsewhere)
    assert (elsewhere / "safepoint-hooks" / "post-receive").exists()
    git(elsewhere, "config", "--unset", "core.hooksPath")
    foreign_hooks.remove(elsewhere)
    assert everything(elsewhere) == before


def test_a_setting_that_somebody_has_changed_since_is_theirs(home: Home, shop: App, elsewhere: Path) -> None:
    """The removal leaves it alone, and a new installation builds on it."""
    foreign_hooks.install(home, shop, elsewhere)
    git(elsewhere, "config", "core.hooksPath", "theirs")
    foreign_hooks.install(home, shop, elsewhere)
    found = foreign_hooks.remove(elsewhere)
    assert found is not None
    assert (found.before, found.previous) == ("theirs", "theirs")
    foreign_hooks.install(home, shop, elsewhere)
    git(elsewhere, "config", "core.hooksPath", "/theirs")
    foreign_hooks.remove(elsewhere)
    assert git(elsewhere, "config", "core.hooksPath") == "/theirs"


@pytest.mark.parametrize("place", ["hooks", "my hooks", "../shared hooks"])
def test_hooks_that_are_there_still_run(home: Home, shop: App, elsewhere: Path, tree: Path, place: str) -> None:
    """All of them, where they are, with their own names, input and arguments; also one that comes later."""
    directory = Path(os.path.normpath(elsewhere / place))
    if place != "hooks":
        git(elsewhere, "config", "core.hooksPath", directory if place.startswith("..") else place)
    log = tree / "log"
    script = f'. "$(dirname "$0")/library"; echo "$(basename "$0") $# $* <$(cat)>" >>"{log}"'
    names = ("pre-receive", "update", "post-receive", "post-update")
    for name in names:
        hook(directory / name, script)
    hook(directory / "library", "true")
    hook(directory / "reference-transaction", "exit 0")
    foreign_hooks.install(home, shop, elsewhere)
    hook(directory / "pre-auto-gc", "exit 1")

    commit = git(tree, "rev-parse", "HEAD")
    git(tree, "push", elsewhere, "main:topic")

    line = f"{'0' * 40} {commit} refs/heads/topic"
    assert log.read_text().splitlines() == [
        f"pre-receive 0  <{line}>",
        f"update 3 refs/heads/topic {'0' * 40} {commit} <>",
        f"post-receive 0  <{line}>",
        "post-update 1 refs/heads/topic <>",
    ]
    assert (elsewhere / "safepoint-hooks" / "pre-auto-gc").exists(), "the one that came later"


def test_hooks_that_are_there_still_refuse(home: Home, shop: App, elsewhere: Path, tree: Path) -> None:
    """And what they refuse is no deploy: nothing of it has come to Safepoint."""
    hook(elsewhere / "hooks" / "pre-receive", "echo never on a Friday; exit 3")
    foreign_hooks.install(home, shop, elsewhere)
    commit = git(tree, "rev-parse", "HEAD")
    said = git(tree, "push", elsewhere, "main", status=1)
    assert "never on a Friday" in said
    assert "safepoint" not in said
    assert not GitRepository(home.repository("shop")).has(commit)
    (elsewhere / "hooks" / "pre-receive").chmod(0o644)
    hook(elsewhere / "hooks" / "update", 'test "$1" != refs/heads/topic')
    foreign_hooks.install(home, shop, elsewhere)
    said = git(tree, "push", elsewhere, "main:topic", status=1)
    assert "hook declined" in said


def test_a_hook_that_reads_nothing(home: Home, shop: App, elsewhere: Path, tree: Path) -> None:
    """Many refs are more than a pipe holds; nobody complains."""
    for name in ("pre-receive", "post-receive"):
        hook(elsewhere / "hooks" / name, f"exec <&-; echo {name} was here")
    foreign_hooks.install(home, shop, elsewhere)
    said = git(tree, "push", elsewhere, *(f"main:refs/heads/{'x' * 150}{number}" for number in range(500)))
    assert "pre-receive was here" in said
    assert "post-receive was here" in said
    assert "error" not in said.lower()
    assert "broken pipe" not in said.lower()


def test_a_repository_that_is_moved_keeps_its_hooks(home: Home, shop: App, elsewhere: Path, tree: Path) -> None:
    """Ours, and those that were there."""
    hook(elsewhere / "hooks" / "pre-receive", "echo old one")
    foreign_hooks.install(home, shop, elsewhere)
    moved = elsewhere.rename(elsewhere.with_name("moved.git"))
    said = git(tree, "push", moved, "main:topic")
    assert "old one" in said
    commit_files(tree, {"Procfile": b"nonsense\n"})
    assert "Refused: Procfile line 1" in git(tree, "push", moved, "main", status=1)


def test_what_pre_receive_refuses(home: Home, shop: App, elsewhere: Path, tree: Path) -> None:
    """With one sentence, before anything has moved: a bad commit, an option that cannot be, and no branch at all."""
    git(elsewhere, "config", "receive.advertisePushOptions", "true")
    git(elsewhere, "config", "receive.denyDeleteCurrent", "ignore")
    git(tree, "push", elsewhere, "main")
    foreign_hooks.install(home, shop, elsewhere)
    commit = commit_files(tree, {"safepoint.toml": b"[watch\n"})
    said = git(tree, "push", elsewhere, "main", status=1)
    assert "remote: safepoint | Refused: safepoint.toml is not valid TOML" in said
    assert not GitRepository(home.repository("shop")).has(commit)
    said = git(tree, "push", "-o", "attach", "-o", "merge_request.create", elsewhere, "main", status=1)
    assert "Refused: the push option attach is not for this repository" in said
    said = git(tree, "push", elsewhere, ":main", status=1)
    assert "Refused: main is what shop deploys and cannot be deleted" in said
    assert "hooks:remove" in said
    assert "safepoint" not in git(tree, "push", elsewhere, "main:topic"), "other branches are none of its business"


def test_pre_receive_fails_closed_and_post_receive_open(
    home: Home, shop: App, elsewhere: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its app, its home or its Python, one sentence refuses the push; after the push it is only said."""
    hook(elsewhere / "hooks" / "post-receive", "echo old one")
    foreign_hooks.install(home, shop, elsewhere)
    gone = home.root.rename(tree / "gone")
    said = git(tree, "push", elsewhere, "main", status=1)
    assert f"Refused: {home.root} is not a Safepoint home" in said
    # A push whose pre-receive was put out of the way.
    ours = elsewhere / "safepoint-hooks" / "pre-receive"
    ours.chmod(0o644)
    said = git(tree, "push", elsewhere, "main")
    assert f"Not deployed: {home.root} is not a Safepoint home" in said
    assert "old one" in said
    gone.rename(home.root)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    foreign_hooks.install(home, shop, elsewhere)
    commit_files(tree, {"a": b"1"})
    said = git(tree, "push", elsewhere, "main", status=1)
    assert "safepoint: this push is refused, because the server's /nonexistent/python is gone" in said
    ours.chmod(0o644)
    said = git(tree, "push", elsewhere, "main")
    assert "safepoint: nothing is deployed, because the server's /nonexistent/python is gone" in said
    assert "old one" in said


def test_an_app_that_is_gone(home: Home, shop: App, elsewhere: Path, tree: Path) -> None:
    """Its pushes are refused until the hooks are taken out."""
    foreign_hooks.install(home, shop, elsewhere)
    with Store.open(home) as store:
        store.delete_app("shop")
    assert "Refused: there is no app named shop" in git(tree, "push", elsewhere, "main", status=1)
    foreign_hooks.remove(elsewhere)
    git(tree, "push", elsewhere, "main")


def test_what_is_no_repository_for_it(home: Home, shop: App, elsewhere: Path, tree: Path, tmp_path: Path) -> None:
    """Each is one sentence, and changes nothing."""
    (tmp_path / "empty").mkdir()
    git(tmp_path, "init", "--quiet", "--bare", "--object-format=sha256", "sha256.git")
    git(tmp_path, "init", "--quiet", "--bare", "twice.git")
    for _ in range(2):
        git(tmp_path / "twice.git", "config", "--add", "core.hooksPath", "x")
    for path, sentence in {
        tmp_path / "nothing": "there is no repository",
        tmp_path / "empty": "is no git repository",
        tree: "is not a bare repository",
        tree / ".git": "is not a bare repository",
        tree / "Procfile": "there is no repository",
        tmp_path / "sha256.git": "has object ids of SHA-256",
        tmp_path / "twice.git": "core.hooksPath is there more than once",
        home.repository("shop"): "is Safepoint's own",
    }.items():
        before = everything(path)
        with pytest.raises(UserError, match=sentence):
            foreign_hooks.install(home, shop, path)
        assert everything(path) == before
    foreign_hooks.install(home, shop, elsewhere)
    with Store.open(home) as store:
        blog = store.need_app("blog")
    with pytest.raises(UserError, match=r"deploy shop of .* already; `hooks:remove .*` first"):
        foreign_hooks.install(home, blog, elsewhere)


def test_a_commit_is_brought_with_its_history(home: Home, elsewhere: Path, tree: Path) -> None:
    """What is there already is not sent again, and what the source forgets is kept."""
    first = git(tree, "rev-parse", "HEAD")
    target = home.repository("shop")
    git(tree, "push", elsewhere, "main")
    bring(elsewhere, first, target)
    for number in range(3):
        last = commit_files(tree, {"a": b"%d" % number})
    git(tree, "push", elsewhere, "main")
    bring(elsewhere, last, target)
    git(target, "fsck", "--strict", "--no-dangling")
    packs = [pack.with_suffix(".idx") for pack in (target / "objects" / "pack").glob("*.pack")]
    assert len(packs) == 2
    assert git(target, "rev-list", "--count", last) == "4"
    bring(elsewhere, last, target)
    assert len(list((target / "objects" / "pack").glob("*.pack"))) == 2
    git(elsewhere, "update-ref", "-d", "refs/heads/main")
    git(elsewhere, "gc", "--quiet", "--prune=now")
    other = commit_files(work_tree_of(tree.with_name("other")), {"b": b"1"})
    git(tree.with_name("other"), "push", elsewhere, "main")
    bring(elsewhere, other, target)
    git(target, "fsck", "--strict", "--no-dangling")
    with pytest.raises(UserError, match="cannot be taken over from"):
        bring(elsewhere, "1" * 40, target)


def work_tree_of(path: Path) -> Path:
    work_tree(path, DEPLOYABLE | {"c": b"2"})
    return path
