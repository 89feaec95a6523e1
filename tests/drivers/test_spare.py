"""An export that begins with the spare tree is the export that would have been made without it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from breaking import FILE_SYSTEMS, disk_of, without_privilege
from forging import ENVIRONMENT, git
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safepoint.core.failures import StepError
from safepoint.drivers.checkout import Checkout
from safepoint.drivers.spare import Spare
from safepoint.engine.latch import CancelLatch

Tree = dict[str, tuple[str, bytes]]
"""Path to mode and contents."""

NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join) | st.sampled_from(
    [".gitattributes", "a/.gitattributes", ".gitignore"]
)
CONTENTS = st.sampled_from([b"", b"one\n", b"two\r\n", b"../x", b"* text eol=crlf\n", b"* -text\n", b"*.c ident\n"])
TREES = st.dictionaries(NAMES, st.tuples(st.sampled_from(["100644", "100755", "120000"]), CONTENTS), max_size=8)


class Bench:
    def __init__(self, directory: Path, latch: CancelLatch) -> None:
        self.directory = directory
        self.repository = directory / "app.git"
        self.latch = latch
        self.spare = Spare(directory / "spare", worthwhile=1)
        directory.mkdir(exist_ok=True)
        git(directory, "init", "--quiet", "--bare", "--template=", self.repository)
        self._number = 0

    def commit(self, tree: Tree) -> str:
        """Where a name is a file and a directory, the directory wins; links and attributes are what they can be."""
        index = self.directory / "index"
        index.unlink(missing_ok=True)
        env = {"GIT_INDEX_FILE": str(index)}
        for path, (mode, data) in sorted(tree.items()):
            if any(other.startswith(f"{path}/") for other in tree) or (
                mode == "120000" and (not data or ".git" in path)
            ):
                continue
            blob = git(self.repository, "hash-object", "-w", "--stdin", stdin=data)
            git(self.repository, "update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", env=env)
        written = git(self.repository, "write-tree", env=env)
        return git(self.repository, "commit-tree", written, "-m", "work")

    def export(self, commit: str, spare: Spare | None) -> Path:
        self._number += 1
        directory = self.directory / f"v{self._number}"
        Checkout(spare).export(self.repository, commit, directory, self.latch)
        return directory

    def prepare(self, commit: str) -> None:
        Checkout(self.spare).prepare(self.repository, commit, self.latch)


def found(directory: Path) -> dict[str, tuple[str, bytes]]:
    """Everything below, by path: its mode, and its bytes or where it points."""
    result = {}
    for path in [directory, *directory.rglob("*")]:
        mode = path.lstat().st_mode
        data = os.fsencode(path.readlink()) if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else b""
        result[str(path.relative_to(directory))] = (stat.filemode(mode), data)
    return result


@pytest.fixture
def bench(tmp_path: Path, latch: CancelLatch) -> Bench:
    return Bench(tmp_path, latch)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TREES, after=TREES)
def test_any_tree_from_any_other(latch: CancelLatch, before: Tree, after: Tree) -> None:
    """Names become files, directories and links; modes and attributes change: the same bytes as a whole export."""
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), latch)
        old, new = bench.commit(before), bench.commit(after)
        bench.prepare(old)
        assert found(bench.export(new, bench.spare)) == found(bench.export(new, None))


def test_it_is_taken_once(bench: Bench) -> None:
    """The release is the spare itself, moved; the next export has none, and writes everything."""
    commit = bench.commit({"a": ("100644", b"one\n")})
    bench.prepare(commit)
    inode = (bench.spare.directory / commit / "a").stat().st_ino
    first, second = bench.export(commit, bench.spare), bench.export(commit, bench.spare)
    assert (first / "a").stat().st_ino == inode
    assert found(first) == found(second)
    assert not (first / ".git").exists()


def write_in_place(directory: Path) -> int:
    """Into every file, with nothing but what each was given: no file is made anew. How many."""
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in files:
        path.chmod(0o777)
        with path.open("r+b") as file:
            file.write(b"ruined")
    return len(files)


@pytest.fixture(params=FILE_SYSTEMS)
def disk(request: pytest.FixtureRequest, tmp_path: Path, outside: Path) -> Iterator[Path]:
    """A directory in a file system of that kind, which every user can reach."""
    with disk_of(request.param, outside / "disk", tmp_path / "image"):
        yield outside / "disk"


@pytest.mark.parametrize("privilege", [nullcontext, without_privilege], ids=["root", "nobody"])
def test_nothing_is_shared(
    disk: Path, latch: CancelLatch, privilege: Callable[[], AbstractContextManager[None]]
) -> None:
    """A build that writes in place into every file that it was given changes no other release, and no spare."""
    files: Tree = {f"d{n % 7}/{n}": ("100755" if n % 3 else "100644", bytes([n]) * n * 500) for n in range(1, 21)}
    with privilege():
        bench = Bench(disk / "bench", latch)
        before: dict[Path, object] = {}
        for number in range(3):
            files |= {f"d{n % 7}/{n}": ("100644", b"changed in %d\n" % number) for n in (number + 1, number + 11)}
            commit = bench.commit(files)
            release, spare = bench.export(commit, bench.spare), bench.spare.directory / commit
            bench.prepare(commit)
            before |= {spare: found(spare)}
            assert write_in_place(release) == len(files)
            assert {each: found(each) for each in before} == before
            before |= {release: found(release)}
            del before[spare]
        git(bench.repository, "fsck", "--strict", "--no-dangling")


def test_git_need_not_read_it_again(bench: Bench) -> None:
    """Its index is of a later second than its files: else git hashes each of them, to be sure (racy-git.txt)."""
    commit = bench.commit({"a": ("100644", b"one\n"), "b/c": ("100755", b"two\n")})
    bench.prepare(commit)
    spare = bench.spare.directory / commit
    files = (spare / "a", spare / "b" / "c")
    assert int((spare / ".git" / "index").stat().st_mtime) > max(int(path.stat().st_mtime) for path in files)


def test_small_trees_have_none(bench: Bench) -> None:
    """Not worth a second copy."""
    spare = Spare(bench.spare.directory, worthwhile=2)
    commit = bench.commit({"a": ("100644", b"one\n")})
    Checkout(spare).prepare(bench.repository, commit, bench.latch)
    assert not spare.directory.exists()


def test_what_a_killed_maker_left(bench: Bench) -> None:
    """What has no commit's name is not taken, and the next maker replaces it."""
    commit = bench.commit({"a": ("100644", b"one\n")})
    (bench.spare.directory / "making").mkdir(parents=True)
    (bench.spare.directory / "making" / "half").touch()
    assert set(found(bench.export(commit, bench.spare))) == {".", "a"}
    bench.prepare(commit)
    assert [each.name for each in bench.spare.directory.iterdir()] == [commit]


def test_its_commit_is_gone(bench: Bench) -> None:
    """A spare of a commit that the repository has lost, or that is no spare at all, is written over whole."""
    commit = bench.commit({"a": ("100644", b"one\n")})
    wrong = bench.spare.directory / ("1" * 40)
    wrong.mkdir(parents=True)
    (wrong / "left").touch()
    assert set(found(bench.export(commit, bench.spare))) == {".", "a"}


def test_hostile_trees_are_refused_as_before(bench: Bench) -> None:
    """The check of all names comes first, whatever there is to begin with."""
    commit = bench.commit({"a": ("100644", b"one\n")})
    bench.prepare(commit)
    blob = git(bench.repository, "hash-object", "-w", "--stdin", stdin=b"x")
    tree = git(bench.repository, "mktree", stdin=f"160000 commit {'1' * 40}\tsub\n100644 blob {blob}\ta\n".encode())
    hostile = git(bench.repository, "commit-tree", tree, "-m", "x", env=ENVIRONMENT)
    with pytest.raises(StepError, match="submodules"):
        bench.export(hostile, bench.spare)
    assert (bench.spare.directory / commit).exists()
