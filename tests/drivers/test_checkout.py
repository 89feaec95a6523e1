"""Exports of commits: as a checkout on Linux, or one sentence and nothing outside the directory."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dying import await_death
from forging import DIRECTORY, EXECUTABLE, FILE, LINK, SUBMODULE, Forge, git, work_tree

from safepoint.core.failures import Interrupted, StepError
from safepoint.drivers import checkout
from safepoint.drivers.checkout import MAX_DEPTH, Checkout
from safepoint.engine.latch import CancelLatch

Export = Callable[[str], Path]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "app.git"
    git(tmp_path, "init", "--quiet", "--bare", "--template=", path)
    return path


@pytest.fixture
def forge(repository: Path) -> Forge:
    return Forge(repository)


@pytest.fixture
def export(repository: Path, latch: CancelLatch, tmp_path: Path) -> Export:
    """Export into a new directory, which is returned."""

    def exported(commit: str) -> Path:
        directory = tmp_path / "releases" / f"v{len(list((tmp_path / 'releases').glob('*')))}"
        Checkout().export(repository, commit, directory, latch)
        return directory

    return exported


@pytest.fixture
def refused(export: Export, tmp_path: Path) -> Callable[[str, str], None]:
    """Exporting the commit is refused with this, and writes nothing outside the release's directory."""

    def check(commit: str, reason: str) -> None:
        outside = tmp_path / "outside"
        outside.mkdir(exist_ok=True)
        with pytest.raises(StepError, match=reason) as caught:
            export(commit)
        assert "\n" not in str(caught.value)
        assert str(caught.value).isprintable()
        assert list(outside.iterdir()) == []
        assert sorted(each.name for each in tmp_path.iterdir()) == ["app.git", "outside", "releases"]
        assert all(each.name.startswith("v") for each in (tmp_path / "releases").iterdir())

    return check


def mode(path: Path) -> str:
    return stat.filemode(path.lstat().st_mode)


def test_files_modes_and_links(export: Export, forge: Forge) -> None:
    """Bytes, executable bits, directories and links of every kind are as committed."""
    data = bytes(range(256)) * 10
    sub = forge.tree([(FILE, b"deep", forge.blob(data)), (EXECUTABLE, b"run", forge.blob(b"#!"))])
    tree = forge.tree(
        [
            (LINK, b"absolute", forge.blob(b"/etc/passwd")),
            (LINK, b"dangling", forge.blob(b"../../x")),
            (FILE, b"empty", forge.blob(b"")),
            (b"100664", b"old-mode", forge.blob(b"x")),
            (DIRECTORY, b"sub", sub),
        ]
    )
    found = export(forge.commit(tree))
    assert sorted(str(each.relative_to(found)) for each in found.rglob("*")) == [
        "absolute", "dangling", "empty", "old-mode", "sub", "sub/deep", "sub/run",
    ]  # fmt: skip
    assert (found / "sub/deep").read_bytes() == data
    assert (found / "absolute").readlink() == Path("/etc/passwd")
    assert (found / "dangling").readlink() == Path("../../x")
    assert [mode(found / name) for name in (".", "sub", "sub/deep", "sub/run", "empty", "old-mode")] == [
        "drwxr-xr-x", "drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "-rw-r--r--", "-rw-r--r--",
    ]  # fmt: skip


def test_the_caller_s_umask_does_not_matter(export: Export, forge: Forge) -> None:
    """A worker that was started privately does not write releases that nobody can read."""
    before = os.umask(0o077)
    try:
        found = export(forge.commit_of((EXECUTABLE, b"run", b"x")))
    finally:
        os.umask(before)
    assert (mode(found), mode(found / "run")) == ("drwxr-xr-x", "-rwxr-xr-x")


def test_an_empty_tree(export: Export, forge: Forge) -> None:
    """The directory is there and empty."""
    assert list(export(forge.commit(forge.tree([]))).iterdir()) == []


def test_difficult_names(export: Export, forge: Forge) -> None:
    """Names are bytes: not UTF-8, with quotes, colons, newlines, backslashes, leading dashes, or nearly .git."""
    names = [b"--all", b".gitignore", b".git-x", b"a\nb", b'a"b', b"a:b", b"a\\b", b"a b", b"caf\xe9", b"caf\xc3\xa9"]
    names += [b"...", b"..a", b"git", b"x" * 255, b":(top)x"]
    found = export(forge.commit_of(*((FILE, name, name) for name in sorted(names))))
    assert {os.fsencode(each.name): each.read_bytes() for each in found.iterdir()} == {name: name for name in names}


def test_names_that_trouble_other_systems(export: Export, forge: Forge, tmp_path: Path) -> None:
    """Devices of Windows, names that differ in case alone, and links to anywhere, which nothing here follows."""
    names = [b"CON", b"NUL.txt", b"aux", b"COM1", b"README", b"ReadMe", b"readme", b"a ", b"b.", b"\xe2\x80\xaex"]
    links = {b"absolute": b"/etc/passwd", b"device": b"/dev/zero", b"loop": b"loop", b"up": b"../../outside"}
    outside = tmp_path / "outside"
    outside.mkdir()
    entries = [(FILE, name, name) for name in names] + [(LINK, name, target) for name, target in links.items()]
    found = export(forge.commit_of(*sorted(entries, key=lambda entry: entry[1])))
    assert {os.fsencode(each.name) for each in found.iterdir()} == {*names, *links}
    assert {name: os.fsencode((found / os.fsdecode(name)).readlink()) for name in links} == links
    assert list(outside.iterdir()) == []


def test_a_name_without_an_end(refused: Callable[[str, str], None], forge: Forge) -> None:
    """Megabytes of one name are not collected to be looked at."""
    refused(forge.commit_of((FILE, b"x" * 5_000_000, b"x")), "longer than any path can be")


def test_many_files(export: Export, repository: Path) -> None:
    """20,000 files, written by two processes, are all there."""
    stream = [b"commit refs/heads/main\ncommitter a <a@b> 1700000000 +0000\ndata 1\nx\n"]
    stream += [b"M 100644 inline d%d/e%d/f%d\ndata 6\n%06d\n" % (i % 20, i % 200, i, i) for i in range(20_000)]
    git(repository, "fast-import", "--quiet", stdin=b"".join(stream))
    found = export(git(repository, "rev-parse", "main"))
    assert {each.name for each in found.rglob("f*")} == {f"f{i}" for i in range(20_000)}
    for i in (0, 1, 9_999, 19_999):
        assert (found / f"d{i % 20}/e{i % 200}/f{i}").read_bytes() == b"%06d" % i
    assert not (found / ".git").exists()


@pytest.mark.parametrize("files", [2, 3, 10, 41])
def test_halves_of_a_tree(repository: Path, latch: CancelLatch, tmp_path: Path, files: int) -> None:
    """Wherever the middle is, below directories that both halves have or not, and whatever the names look like."""
    names = ["-a", '"b', "c\nd", "d-e", "d/e/f/g", "d/e/f/h", "d/e/f-", "d/e/f0", "d/i", "d0"]
    names += [f"e/f/{number:02}" for number in range(15)] + [f"e/g/{number:02}" for number in range(16)]
    wanted = {name: name.encode() for name in names[:files]}
    commit = work_tree(tmp_path / "work", wanted)
    git(tmp_path / "work", "push", "--quiet", repository, "main")
    Checkout(many=2).export(repository, commit, tmp_path / "v1", latch)
    found = list((tmp_path / "v1").rglob("*"))
    assert {str(each.relative_to(tmp_path / "v1")): each.read_bytes() for each in found if each.is_file()} == wanted
    assert {mode(each) for each in found} <= {"-rw-r--r--", "drwxr-xr-x"}


def test_half_of_a_tree_that_cannot_be_read(forge: Forge, latch: CancelLatch, tmp_path: Path) -> None:
    """Either half's complaint is the export's, and the other has ended too."""
    for place in (10, 290):
        entries = [(FILE, b"f%03d" % number, forge.blob(b"%d" % number)) for number in range(300)]
        entries[place] = (FILE, entries[place][1], "12" * 20)
        directory = tmp_path / f"v{place}"
        with pytest.raises(StepError, match="could not be written out"):
            Checkout(many=2).export(forge.repository, forge.commit(forge.tree(entries)), directory, latch)
        assert at_work_in(directory) == []


def test_attributes_in_a_tree_of_many(
    repository: Path, latch: CancelLatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process reads them while another may be writing them: the tree is not written in halves."""
    monkeypatch.delattr(checkout._Export, "write_halves")
    bats = {f"d/{number:02}.bat": b"1\n" for number in range(40)}
    commit = work_tree(tmp_path / "work", {**bats, "d/.gitattributes": b"*.bat text eol=crlf\n"})
    git(tmp_path / "work", "push", "--quiet", repository, "main")
    Checkout(many=2).export(repository, commit, tmp_path / "v1", latch)
    assert {each.read_bytes() for each in (tmp_path / "v1" / "d").glob("*.bat")} == {b"1\r\n"}


def test_attributes_are_those_of_a_checkout(export: Export, forge: Forge) -> None:
    """Line endings and $Id$ as in any clone on Linux; without attributes the bytes are the blob's."""
    attributes = (
        b"*.bat text eol=crlf\n*.id ident\n*.sub export-subst\n*.no export-ignore\n"
        b"*.utf16 text working-tree-encoding=UTF-16LE\n"
    )
    found = export(
        forge.commit_of(
            (FILE, b".gitattributes", attributes),
            (FILE, b"a.bat", b"1\n2\n"),
            (FILE, b"a.id", b"$Id$"),
            (FILE, b"a.no", b"kept"),
            (FILE, b"a.sub", b"$Format:%H$"),
            (FILE, b"a.txt", b"1\r\n2\n"),
            (FILE, b"a.utf16", b"hi"),
        )
    )
    assert (found / "a.bat").read_bytes() == b"1\r\n2\r\n"
    assert (found / "a.id").read_bytes().startswith(b"$Id: ")
    assert (found / "a.no").read_bytes() == b"kept"
    assert (found / "a.sub").read_bytes() == b"$Format:%H$"
    assert (found / "a.txt").read_bytes() == b"1\r\n2\n"
    assert (found / "a.utf16").read_bytes() == "hi".encode("utf-16-le")


def test_nothing_pushed_is_run(
    export: Export, forge: Forge, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters are named by what is pushed, and defined by configuration, of which a user's own has no say here."""
    ran = tmp_path / "ran"
    (tmp_path / "gitconfig").write_text(f'[filter "evil"]\n\tsmudge = touch {ran}\n\trequired = true\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    hook = repository / "hooks" / "post-index-change"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    config = f'[filter "evil"]\n\tsmudge = touch {ran}\n'.encode()
    found = export(
        forge.commit_of(
            (FILE, b".gitattributes", b"* filter=evil\n"), (FILE, b".gitconfig", config), (FILE, b"a", b"1")
        )
    )
    assert (found / "a").read_bytes() == b"1"
    assert not ran.exists()


def test_submodules_are_refused_by_name(refused: Callable[[str, str], None], forge: Forge) -> None:
    """Their files are not in the push."""
    vendor = forge.tree([(SUBMODULE, b"lib", "1" * 40)])
    commit = forge.commit(forge.tree([(FILE, b"a", forge.blob(b"")), (DIRECTORY, b"vendor", vendor)]))
    refused(commit, r"the commit has submodules \(vendor/lib\), which are not deployed; commit their files instead")


@pytest.mark.parametrize(
    "name",
    [
        *(b"..", b".", b".git", b".GIT", b".Git", b"", b"../outside/x", b"/outside", b"a/../../outside/x", b"a/b"),
        *(b"git~1", b".g\xe2\x80\x8cit", b".git ", b"x\x1b[31m/../../y"),
    ],
)
def test_names_that_lead_elsewhere(refused: Callable[[str, str], None], forge: Forge, name: bytes) -> None:
    """Up, out, into git's own directory by any spelling, and names that are paths."""
    refused(forge.commit_of((FILE, name, b"x")), r"the commit (has|is damaged|could not)")
    inside = forge.tree([(DIRECTORY, name, forge.tree([(FILE, b"config", forge.blob(b"x"))]))])
    refused(forge.commit(inside), r"the commit (has|is damaged|could not)")
    below = forge.tree([(DIRECTORY, b"a", inside)])
    refused(forge.commit(below), r"the commit (has|is damaged|could not)")


@pytest.mark.parametrize("link_first", [True, False])
@pytest.mark.parametrize("padding", [0, 500])
def test_a_link_that_is_a_directory_too(
    refused: Callable[[str, str], None], forge: Forge, tmp_path: Path, link_first: bool, padding: int
) -> None:
    """The same name as a link and as a directory would lead what is below it outside."""
    link = (LINK, b"a", forge.blob(str(tmp_path / "outside").encode()))
    directory = (DIRECTORY, b"a", forge.tree([(FILE, b"x", forge.blob(b"x"))]))
    rest = [(FILE, b"b%03d" % i, forge.blob(b"b")) for i in range(padding)]
    entries = [link, directory] if link_first else [directory, link]
    refused(forge.commit(forge.tree([*entries, *rest])), "is there twice")


def test_a_name_below_a_link(refused: Callable[[str, str], None], forge: Forge, tmp_path: Path) -> None:
    """A slash in a name, where the first part is a link."""
    link = (LINK, b"a", forge.blob(str(tmp_path / "outside").encode()))
    refused(forge.commit(forge.tree([link, (FILE, b"a/x", forge.blob(b"x"))])), "under what is no directory")


def test_an_absolute_name(refused: Callable[[str, str], None], forge: Forge) -> None:
    """A slash at its beginning: by its looks it is a file x of the root directory."""
    refused(forge.commit_of((FILE, b"/x", b"x")), "under what is no directory")


def test_the_same_file_twice(refused: Callable[[str, str], None], forge: Forge) -> None:
    """Which of them would be deployed is anybody's guess."""
    refused(forge.commit_of((FILE, b"a", b"1"), (FILE, b"a", b"2")), "'?a'? is there twice")


def test_a_name_that_no_filesystem_takes(refused: Callable[[str, str], None], forge: Forge) -> None:
    """Too long for a file, alone and among many that are written in parallel."""
    refused(forge.commit_of((FILE, b"x" * 256, b"x")), "File name too long")
    many = [(FILE, b"a%03d" % i, b"x") for i in range(300)]
    refused(forge.commit_of(*many, (FILE, b"x" * 256, b"x")), "File name too long")


def test_a_missing_blob(refused: Callable[[str, str], None], forge: Forge) -> None:
    """Half a release is no release, also where the rest is written in parallel."""
    blob = forge.blob(b"x")
    many = [(FILE, b"a%03d" % i, blob) for i in range(300)]
    for entries in ([], many):
        commit = forge.commit(forge.tree([*entries, (FILE, b"b", "1" * 40)]))
        refused(commit, "the commit could not be written out: git checkout-index: .+")


def test_a_missing_tree_or_commit(refused: Callable[[str, str], None], forge: Forge) -> None:
    """What is not here cannot be written."""
    refused(
        forge.commit(forge.tree([(DIRECTORY, b"a", "1" * 40)])), "the commit could not be written out: git ls-tree: .+"
    )
    refused("1" * 40, "the commit could not be written out: git ls-tree: .+")
    refused("main", "'main' is not a full commit id")
    refused("--help", "'--help' is not a full commit id")


def test_a_tree_that_unfolds_into_billions(refused: Callable[[str, str], None], forge: Forge) -> None:
    """Ten small trees, each ten times in the one above: refused while it is being listed."""
    tree = forge.tree([(FILE, b"%d" % i, forge.blob(b"x")) for i in range(10)])
    for _ in range(9):
        tree = forge.tree([(DIRECTORY, b"%d" % i, tree) for i in range(10)])
    refused(forge.commit(tree), "the commit has more than 500,000 files")


def test_a_tree_of_endless_depth(refused: Callable[[str, str], None], export: Export, forge: Forge) -> None:
    """Deeper than programs that walk directories can go: Python's shutil.rmtree ends at a thousand."""
    tree = forge.tree([(FILE, b"x", forge.blob(b"x"))])
    for _ in range(MAX_DEPTH):
        tree = forge.tree([(DIRECTORY, b"d", tree)])
    assert (export(forge.commit(tree)) / ("d/" * MAX_DEPTH) / "x").read_bytes() == b"x"
    tree = forge.tree([(DIRECTORY, b"d", tree)])
    refused(forge.commit(tree), "the commit has more than 250 directories in each other")


def test_a_directory_that_is_there_already(refused: Callable[[str, str], None], export: Export, forge: Forge) -> None:
    """Nothing is written into another release."""
    commit = forge.commit_of((FILE, b"a", b"1"))
    found = export(commit)
    with pytest.raises(StepError, match="File exists"):
        Checkout().export(forge.repository, commit, found, CancelLatch())


def test_no_repository(latch: CancelLatch, tmp_path: Path) -> None:
    """A failed step, not a traceback."""
    with pytest.raises(StepError, match="not a git repository"):
        Checkout().export(tmp_path / "none.git", "1" * 40, tmp_path / "v1", latch)


def test_a_replacement_ref_replaces_nothing(export: Export, forge: Forge, repository: Path) -> None:
    """What is deployed is what was pushed under this id."""
    good, bad = (forge.commit_of((FILE, b"a", data)) for data in (b"good", b"bad"))
    git(repository, "replace", good, bad)
    assert (export(good) / "a").read_bytes() == b"good"


def test_sha256(tmp_path: Path, latch: CancelLatch) -> None:
    """A repository with longer ids is as good."""
    (tmp_path / "work").mkdir()
    git(tmp_path / "work", "init", "--quiet", "--object-format=sha256")
    (tmp_path / "work" / "a").write_bytes(b"1")
    git(tmp_path / "work", "add", ".")
    git(tmp_path / "work", "commit", "--quiet", "--message=x")
    Checkout().export(tmp_path / "work/.git", git(tmp_path / "work", "rev-parse", "HEAD"), tmp_path / "v1", latch)
    assert (tmp_path / "v1" / "a").read_bytes() == b"1"


def test_the_repository_is_not_touched(export: Export, tmp_path: Path, repository: Path) -> None:
    """No index, no work tree, no HEAD of its own is used or left: exports of one repository do not meet."""
    commit = work_tree(tmp_path / "work", {"a": b"1", "b/c": b"2"})
    git(tmp_path / "work", "push", "--quiet", repository, "main")
    before = {each: each.stat().st_mtime_ns for each in repository.rglob("*")}
    found = export(commit)
    assert {each: each.stat().st_mtime_ns for each in repository.rglob("*")} == before
    assert sorted(each.name for each in found.rglob("*")) == ["a", "b", "c"]


class SetOnceWritten:
    """A latch that is set as soon as the first file is there. Always readable, so that it is looked at again."""

    force = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reading, self._writing = os.pipe()
        os.write(self._writing, b"x")

    def is_set(self) -> bool:
        return next(self._directory.glob("f*"), None) is not None

    def fileno(self) -> int:
        return self._reading

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


def at_work_in(directory: Path) -> list[int]:
    """The living processes whose current directory this is. One that is being killed is waited for."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdigit() and (each / "cwd").readlink() == directory:
                found.append(int(each.name))
        except OSError:
            continue
    return [pid for pid in found if not await_death(pid, 10)]


def test_a_cancel_in_the_middle(forge: Forge, repository: Path, tmp_path: Path, latch: CancelLatch) -> None:
    """The first files are written, the rest is not, and nobody is left who would write it."""
    blob = forge.blob(b"x" * 10_000)
    commit = forge.commit(forge.tree([(FILE, b"f%05d" % i, blob) for i in range(20_000)]))
    cancelled = SetOnceWritten(tmp_path / "v1")
    with pytest.raises(Interrupted):
        Checkout().export(repository, commit, tmp_path / "v1", cancelled)
    cancelled.close()
    assert 0 < len(list((tmp_path / "v1").glob("f*"))) < 20_000
    assert at_work_in(tmp_path / "v1") == []
    latch.set()
    with pytest.raises(Interrupted):
        Checkout().export(repository, commit, tmp_path / "v2", latch)
    assert at_work_in(tmp_path / "v2") == []


def test_the_index_is_in_nobody_s_way(export: Export, forge: Forge) -> None:
    """It is where no tree can have a file, and gone at the end; what is there can be made durable."""
    found = export(forge.commit_of((FILE, b"a", b"1"), (FILE, b"index", b"2")))
    assert sorted(each.name for each in found.iterdir()) == ["a", "index"]
    Checkout().settle(found)


def test_the_same_as_git_s_own_checkout(export: Export, repository: Path, tmp_path: Path) -> None:
    """Byte for byte and mode for mode what a clone has."""
    files = {f"d{i % 7}/f{i}": os.urandom(i * 13) for i in range(150)}
    commit = work_tree(tmp_path / "work", files)
    (tmp_path / "work" / "d0" / "f0").chmod(0o755)
    git(tmp_path / "work", "push", "--quiet", repository, "main")
    found = export(commit)
    git(tmp_path, "clone", "--quiet", "--branch=main", repository, "clone")
    assert subprocess.run(["diff", "-r", "--exclude=.git", found, tmp_path / "clone"]).returncode == 0
