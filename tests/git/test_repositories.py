"""The apps' bare repositories, with real pushes."""

import os
import random
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from forging import FILE, Forge, commit_files, git, work_tree

from safepoint.core.failures import StepError
from safepoint.errors import UserError
from safepoint.git.repositories import MAX_PACKS, GitRepository, create, destroy
from safepoint.state.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home of 'deploys'")
    home.create()
    create(home, "shop", "main")
    return home


@pytest.fixture
def path(home: Home) -> Path:
    return home.repository("shop")


def contents(root: Path) -> dict[str, bytes]:
    return {str(each.relative_to(root)): each.read_bytes() for each in root.rglob("*") if each.is_file()}


def accept_on_deploy_branch(home: Home) -> None:
    """A stand-in for Safepoint's hook: says yes, and moves nothing."""
    hook = home.hooks / "proc-receive"
    script = home.root / "hook.py"
    script.write_text(
        "import sys\n"
        "from safepoint.git import proc_receive as p\n"
        "request = p.read_request(sys.stdin.buffer, sys.stdout.buffer)\n"
        "p.answer(sys.stdout.buffer, {each.ref: '' for each in request.commands})\n"
    )
    hook.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(script))}\n")
    hook.chmod(0o755)


def test_a_new_repository(home: Home, path: Path) -> None:
    """Bare, private, empty, on the deploy branch, with Safepoint's hooks and nothing from templates."""
    assert git(path, "rev-parse", "--is-bare-repository") == "true"
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(path, "config", "core.hooksPath") == str(home.hooks)
    assert git(path, "config", "receive.procReceiveRefs") == "refs/heads/main"
    assert sorted(each.name for each in path.iterdir()) == ["HEAD", "config", "objects", "refs"]
    assert path.stat().st_mode & 0o077 == 0
    assert GitRepository(path).branch("main") == ""
    git(path, "fsck", "--strict")


def test_making_it_again_changes_nothing(home: Home, path: Path, tmp_path: Path) -> None:
    """Also with commits in it."""
    accept_on_deploy_branch(home)
    work_tree(tmp_path / "work", {"a": b"1"})
    git(tmp_path / "work", "push", path, "main:refs/heads/other")
    before = contents(path)
    create(home, "shop", "main")
    assert contents(path) == before


def test_another_deploy_branch(home: Home, path: Path) -> None:
    """The app can be made again with another branch; names with quotes are names."""
    create(home, "shop", 'it"s/live')
    assert git(path, "symbolic-ref", "HEAD") == 'refs/heads/it"s/live'
    assert git(path, "config", "receive.procReceiveRefs") == 'refs/heads/it"s/live'


@pytest.mark.parametrize("missing", ["HEAD", "config", "objects", "refs"])
def test_half_a_repository_is_completed(home: Home, path: Path, missing: str) -> None:
    """Whatever a crash left out, and whatever locks it left behind."""
    whole = contents(path)
    (path / missing).rename(home.root / "gone")
    for lock in ("config.lock", "HEAD.lock"):
        (path / lock).touch()
    create(home, "shop", "main")
    assert contents(path) == whole
    assert (path / "objects").is_dir()


def test_a_place_that_cannot_be_used(home: Home) -> None:
    """A file in the way is one sentence."""
    home.repository("blog").write_text("")
    with pytest.raises(UserError, match="cannot make the repository"):
        create(home, "blog", "main")


def test_only_the_hook_moves_the_deploy_branch(home: Home, path: Path, tmp_path: Path) -> None:
    """Git moves other branches and tags, and leaves the deploy branch to Safepoint even where the push succeeds."""
    accept_on_deploy_branch(home)
    commit = work_tree(tmp_path / "work", {"a": b"1"})
    git(tmp_path / "work", "push", path, "main", "main:refs/heads/mainline", "main:refs/tags/v1")
    repository = GitRepository(path)
    assert repository.has(commit)
    assert repository.branch("main") == ""
    assert repository.branch("mainline") == commit
    assert git(path, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/mainline", "refs/tags/v1"]


def test_without_hooks_the_deploy_branch_is_closed(path: Path, tmp_path: Path) -> None:
    """Fail closed: where the hooks are gone git refuses, rather than moving the branch by itself."""
    work_tree(tmp_path / "work", {"a": b"1"})
    assert "[remote rejected] main -> main" in git(tmp_path / "work", "push", path, "main", status=1)
    assert GitRepository(path).branch("main") == ""


def test_a_shallow_push_is_refused(home: Home, path: Path, tmp_path: Path) -> None:
    """Git would not record where the history ends, and the repository would be broken."""
    accept_on_deploy_branch(home)
    work_tree(tmp_path / "work", {"a": b"1"})
    commit_files(tmp_path / "work", {"a": b"2"})
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{tmp_path}/work", "shallow")
    assert "shallow update not allowed" in git(tmp_path / "shallow", "push", path, "main", status=1)
    git(path, "fsck", "--strict")


def test_a_hostile_tree_is_refused_at_the_door(home: Home, path: Path, tmp_path: Path) -> None:
    """Git checks what is pushed: a tree that names .git does not get in."""
    accept_on_deploy_branch(home)
    work_tree(tmp_path / "work", {"a": b"1"})
    forge = Forge(tmp_path / "work" / ".git")
    commit = forge.commit_of((FILE, b".git", b"x"))
    assert "hasDotgit" in git(tmp_path / "work", "push", path, f"{commit}:refs/heads/main", status=1)


def test_old_histories_are_let_in(home: Home, path: Path, tmp_path: Path) -> None:
    """What old tools wrote wrongly and harmlessly does not keep an app from being deployed."""
    accept_on_deploy_branch(home)
    work_tree(tmp_path / "work", {"a": b"1"})
    forge = Forge(tmp_path / "work" / ".git")
    commit = forge.commit(forge.tree([(b"040000", b"lib", forge.tree([]))]))
    git(tmp_path / "work", "push", path, f"{commit}:refs/heads/main")
    assert GitRepository(path).has(commit)


def test_a_replacement_ref_replaces_nothing(home: Home, path: Path, tmp_path: Path) -> None:
    """It may be pushed, and has no effect."""
    work = tmp_path / "work"
    first = work_tree(work, {"a": b"1"})
    second = commit_files(work, {"a": b"2"})
    git(work, "push", path, "main:refs/heads/other", f"{second}:refs/replace/{first}")
    assert git(path, "show", f"{first}:a") == "1"


def pushed(home: Home, tmp_path: Path) -> tuple[str, str]:
    """Two commits that are in the repository, on no branch."""
    accept_on_deploy_branch(home)
    first = work_tree(tmp_path / "work", {"a": b"1"})
    second = commit_files(tmp_path / "work", {"a": b"2"})
    git(tmp_path / "work", "push", home.repository("shop"), "main")
    return first, second


def test_the_branch_goes_where_it_is_moved(home: Home, path: Path, tmp_path: Path) -> None:
    """Forwards, backwards, and again; each move is in the log."""
    first, second = pushed(home, tmp_path)
    repository = GitRepository(path)
    for commit in (second, first, first, second):
        repository.move("main", commit)
        assert repository.branch("main") == commit
    log = (path / "logs/refs/heads/main").read_text().splitlines()
    assert [line.split()[:2] for line in log] == [["0" * 40, second], [second, first], [first, second]]
    assert all("Safepoint <safepoint@localhost>" in line and line.endswith("safepoint: publish") for line in log)


def test_a_packed_branch(home: Home, path: Path, tmp_path: Path) -> None:
    """Where git keeps its refs in one file, the branch is found and moved as well."""
    first, second = pushed(home, tmp_path)
    repository = GitRepository(path)
    repository.move("main", first)
    git(path, "pack-refs", "--all")
    assert not (path / "refs/heads/main").exists()
    assert repository.branch("main") == first
    repository.move("main", second)
    assert repository.branch("main") == second


def test_moving_to_what_is_not_here(home: Home, path: Path, tmp_path: Path) -> None:
    """The branch stays, and the reason is one clause."""
    first, _ = pushed(home, tmp_path)
    repository = GitRepository(path)
    repository.move("main", first)
    tree = git(path, "rev-parse", f"{first}^{{tree}}")
    for oid in ("1" * 40, tree):
        with pytest.raises(StepError, match=r"the branch main could not be moved: .+"):
            repository.move("main", oid)
    for word in ("", "main", first[:8], "--stdin", "0" * 39):
        with pytest.raises(StepError, match="not a full commit id"):
            repository.move("main", word)
    assert repository.branch("main") == first


def test_a_branch_below_is_another_branch(home: Home, path: Path, tmp_path: Path) -> None:
    """main/x is not main; while it exists main cannot, and the reason says so."""
    first, _ = pushed(home, tmp_path)
    git(path, "update-ref", "refs/heads/main/x", first)
    repository = GitRepository(path)
    assert repository.branch("main") == ""
    with pytest.raises(StepError, match="main/x"):
        repository.move("main", first)


def test_the_lock_of_a_killed_git_is_broken(home: Home, path: Path, tmp_path: Path) -> None:
    """A power cut in the middle of a move does not keep recovery from finishing it."""
    first, second = pushed(home, tmp_path)
    repository = GitRepository(path)
    repository.move("main", first)
    locks = [path / "refs/heads/main.lock", path / "HEAD.lock"]
    for lock in locks:
        lock.write_text("half")
    repository.move("main", second)
    assert repository.branch("main") == second
    assert not any(lock.exists() for lock in locks)


def test_a_move_whose_git_is_killed_is_made_again(
    home: Home, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the commit there is nobody to whom it could be a failure."""
    first, second = pushed(home, tmp_path)
    repository = GitRepository(path)
    repository.move("main", first)
    git_itself = shutil.which("git")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "git"
    lock = shlex.quote(str(path / "refs/heads/main.lock"))
    script.write_text(f'#!/bin/sh\nrm -f "$0"\n: >{lock}\nkill -KILL $$\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert shutil.which("git") != git_itself
    repository.move("main", second)
    assert not script.exists()
    assert repository.branch("main") == second


def test_nobody_else_s_configuration_or_hooks(
    home: Home, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move is no push: no hook runs. What the caller's environment says of git does not matter."""
    first, _ = pushed(home, tmp_path)
    hook = home.hooks / "reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(tmp_path / 'ran'))}\nexit 1\n")
    hook.chmod(0o755)
    (tmp_path / "config").write_text("[core]\n\thooksPath = /nowhere\n[garbage")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_NAMESPACE", "x")
    GitRepository(path).move("main", first)
    assert GitRepository(path).branch("main") == first
    assert not (tmp_path / "ran").exists()


def test_packing_loses_nothing(home: Home, path: Path, tmp_path: Path) -> None:
    """Many packs become one, with the commits that are on no branch: a release may still be made of them."""
    first, second = pushed(home, tmp_path)
    repository = GitRepository(path)
    for number in range(MAX_PACKS + 1):
        blob = git(path, "hash-object", "-w", "--stdin", stdin=b"%d" % number)
        git(path, "pack-objects", "--quiet", "objects/pack/pack", stdin=blob.encode())
    repository.pack()
    assert len(list((path / "objects/pack").glob("*.pack"))) == 1
    assert repository.has(first)
    assert repository.has(second)
    before = contents(path)
    repository.pack()
    assert contents(path) == before


def test_destroying(home: Home, path: Path, tmp_path: Path) -> None:
    """Nothing is left, also of an earlier try that was cut short; gone already is gone."""
    pushed(home, tmp_path)
    path.rename(path.with_name(".shop.git.removed"))
    create(home, "shop", "main")
    destroy(home, "shop")
    assert list((home.root / "repositories").iterdir()) == []
    destroy(home, "shop")


def test_a_ref_of_a_thousand_levels(home: Home, path: Path, tmp_path: Path) -> None:
    """It can be pushed, and neither the sweep nor the removal stumbles over its directories."""
    work_tree(tmp_path / "work", {"a": b"1"})
    git(tmp_path / "work", "push", path, "main:refs/heads/" + "d/" * 1500 + "x")
    GitRepository(path).sweep()
    destroy(home, "shop")
    assert list((home.root / "repositories").iterdir()) == []


def test_no_repository_is_one_sentence(home: Home) -> None:
    """Asking a repository that is not there."""
    nowhere = GitRepository(home.repository("none"))
    with pytest.raises(UserError, match="there is no repository"):
        nowhere.branch("main")
    home.repository("none").mkdir()
    with pytest.raises(UserError, match="cannot read"):
        nowhere.branch("main")


WHO = b"A U Thor <author@example.com> 1700000000 +0000"
OLD = {
    "a zero before a mode": (b"0100644", WHO),
    "no space before the date": (b"100644", b"A U Thor <author@example.com>1700000000 +0000"),
    "a time zone of no place": (b"100644", b"A U Thor <author@example.com> 1700000000 +51800"),
}
BAD = {
    "a directory out of the tree": (b"..", "hasDotdot"),
    "git's own directory": (b".git", "hasDotgit"),
    "the same, as Windows has it": (b"git~1", "hasDotgit"),
    "the same, as macOS has it": (b".g\xe2\x80\x8cit", "hasDotgit"),
    "a path for a name": (b"a/b", "fullPathname"),
    "no name": (b"", "empty filename in tree entry"),
}


def push_forged(path: Path, mode: bytes, name: bytes, who: bytes, status: int) -> str:
    """What git says to a push of such a commit to a branch that is not deployed."""
    source = path.parent / "source"
    git(path.parent, "init", "--quiet", "--bare", source)
    forge = Forge(source)
    tree = forge.tree([(mode, name, forge.blob(b"x"))])
    commit = forge.raw_commit(b"tree %b\nauthor %b\ncommitter %b\n\nold\n" % (tree.encode(), who, who))
    return git(source, "push", path, f"{commit}:refs/heads/old", status=status)


@pytest.mark.parametrize("what", OLD)
def test_old_histories_can_be_pushed(path: Path, what: str) -> None:
    """Nobody can mend what old tools wrote without changing every id after it."""
    mode, who = OLD[what]
    assert "[new branch]" in push_forged(path, mode, b"file", who, 0)


@pytest.mark.parametrize("what", BAD)
def test_hostile_trees_are_refused_at_the_door(path: Path, what: str) -> None:
    """Before an operation is opened, by git's own checks; the export would refuse them too."""
    name, message = BAD[what]
    assert message in push_forged(path, b"100644", name, WHO, 1)
    assert GitRepository(path).branch("old") == ""


def test_a_push_has_a_limit_that_is_the_operators(path: Path, tmp_path: Path) -> None:
    """In the repository's own configuration, so it holds at every door."""
    assert git(path, "config", "--type=int", "receive.maxInputSize") == str(2 * 1024**3)
    git(path, "config", "receive.maxInputSize", "1k")
    work_tree(tmp_path / "work", {"file": random.Random(1).randbytes(5000)})
    said = git(tmp_path / "work", "push", path, "main:other", status=1)
    assert "pack exceeds maximum allowed size" in said
