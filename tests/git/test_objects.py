"""Looking into commits: whole, damaged, hostile, and in quarantine."""

import shlex
import sys
from pathlib import Path

import pytest
from forging import DIRECTORY, FILE, LINK, Forge, git, work_tree

from safepoint.errors import NotFound, UsageError, UserError
from safepoint.git.objects import MAX_FILE, MAX_ROOT, is_commit, read, resolve

NAMES = ("Procfile", "safepoint.toml")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "app.git"
    git(tmp_path, "init", "--quiet", "--bare", "--template=", path)
    return path


@pytest.fixture
def forge(repository: Path) -> Forge:
    return Forge(repository)


def test_entries_and_files(repository: Path, forge: Forge) -> None:
    """The names of the top level with their modes, and the contents of the files that were asked for."""
    blob = forge.blob(b"web: x\n")
    tree = forge.tree(
        [(FILE, b"Procfile", blob), (LINK, b"l\xff", blob), (DIRECTORY, b"lib", forge.tree([(FILE, b"a", blob)]))]
    )
    found = read(repository, forge.commit(tree), NAMES)
    assert found.entries == {b"Procfile": 0o100644, b"l\xff": 0o120000, b"lib": 0o40000}
    assert found.files == {"Procfile": b"web: x\n", "safepoint.toml": None}
    assert found.text("Procfile") == "web: x\n"
    assert found.text("safepoint.toml") is None


def test_sha256(tmp_path: Path) -> None:
    """A repository of SHA-256 has longer ids, in its trees as well; an abbreviation of 40 digits is none of them."""
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "--quiet", "--object-format=sha256")
    (work / "Procfile").write_bytes(b"web: x\n")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "--message=x")
    commit = git(work, "rev-parse", "HEAD")
    assert len(commit) == 64
    assert read(work / ".git", commit, NAMES).files["Procfile"] == b"web: x\n"
    assert is_commit(work / ".git", commit)
    assert not is_commit(work / ".git", commit[:40])
    with pytest.raises(UsageError):
        read(work / ".git", commit[:40], NAMES)


def test_no_files_and_empty_files(repository: Path, forge: Forge) -> None:
    """An empty tree has no names; an empty file has no bytes, which is not the same as no file."""
    assert read(repository, forge.commit(forge.tree([])), NAMES).entries == {}
    assert read(repository, forge.commit_of((FILE, b"Procfile", b"")), NAMES).files["Procfile"] == b""


def test_what_is_no_regular_file_has_no_contents(repository: Path, forge: Forge) -> None:
    """A link's target and a directory are not taken for a file's contents."""
    tree = forge.tree([(LINK, b"Procfile", forge.blob(b"/etc/passwd")), (DIRECTORY, b"safepoint.toml", forge.tree([]))])
    assert read(repository, forge.commit(tree), NAMES).files == {"Procfile": None, "safepoint.toml": None}


def test_the_longest_file(repository: Path, forge: Forge) -> None:
    """64 KiB are read; a byte more is refused by name, without reading it."""
    at_most = forge.commit_of((FILE, b"Procfile", b"x" * MAX_FILE))
    assert len(read(repository, at_most, NAMES).files["Procfile"] or b"") == MAX_FILE
    more = forge.commit_of((FILE, b"Procfile", b"x" * (MAX_FILE + 1)))
    with pytest.raises(UsageError, match=r"Procfile has 65,537 bytes; the most is 65,536"):
        read(repository, more, NAMES)


def test_a_root_directory_out_of_all_proportion(repository: Path, forge: Forge) -> None:
    """Too many names are refused rather than held in memory."""
    entry = b"100644 %08d" + b"\0" + b"\1" * 20
    commit = forge.commit(forge.raw_tree(b"".join(entry % i for i in range(MAX_ROOT // 36 + 1))))
    with pytest.raises(UsageError, match="the root directory has"):
        read(repository, commit, NAMES)


def test_a_commit_with_an_endless_message(repository: Path, forge: Forge) -> None:
    """The message is read past, whatever its length."""
    commit = forge.commit(forge.tree([(FILE, b"Procfile", forge.blob(b"x"))]), b"tree \n" * 300_000)
    assert read(repository, commit, NAMES).files["Procfile"] == b"x"


def test_text_that_is_none(repository: Path, forge: Forge) -> None:
    """Bytes that are not UTF-8 are refused by the file's name; a byte order mark is no part of the text."""
    commit = forge.commit_of((FILE, b"Procfile", b"\xff"), (FILE, b"safepoint.toml", b"\xef\xbb\xbfa"))
    found = read(repository, commit, NAMES)
    with pytest.raises(UsageError, match="Procfile is not UTF-8 text"):
        found.text("Procfile")
    assert found.text("safepoint.toml") == "a"


def test_what_is_not_a_commit_is_refused(repository: Path, forge: Forge) -> None:
    """A tag, a tree, an unknown id and a word are each refused with a sentence. Nothing is peeled."""
    tree = forge.tree([])
    commit = forge.commit(tree)
    for oid in (tree, forge.tag(commit)):
        with pytest.raises(UsageError, match="is not a commit but a t"):
            read(repository, oid, NAMES)
    with pytest.raises(NotFound, match="there is no commit"):
        read(repository, "1" * 40, NAMES)
    for word in ("HEAD", commit[:12], "--help", commit + "\n", ""):
        with pytest.raises(UsageError, match="is not a full commit id"):
            read(repository, word, NAMES)


def test_a_missing_tree_is_refused(repository: Path, forge: Forge) -> None:
    """A commit whose tree is not here is one sentence, not a hang."""
    with pytest.raises(NotFound, match="there is no tree"):
        read(repository, forge.commit("1" * 40), NAMES)


@pytest.mark.parametrize(
    "data",
    [
        b"100644 a\0" + b"\1" * 19,
        b"100644 a",
        b"100644a\0" + b"\1" * 20,
        b"1006x4 a\0" + b"\1" * 20,
        b" a\0" + b"\1" * 20,
        (b"100644 a\0" + b"\1" * 20) * 2,
    ],
)
def test_damaged_trees_are_refused(repository: Path, forge: Forge, data: bytes) -> None:
    """Raw trees that say nothing, or a name twice, are refused with a sentence."""
    with pytest.raises(UsageError, match="root directory is damaged"):
        read(repository, forge.commit(forge.raw_tree(data)), NAMES)


def test_no_repository_and_a_damaged_object(repository: Path, forge: Forge, tmp_path: Path) -> None:
    """What the server has broken is a sentence too."""
    with pytest.raises(NotFound, match="there is no repository"):
        read(tmp_path / "none.git", "1" * 40, NAMES)
    (tmp_path / "empty.git").mkdir()
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "empty.git", "1" * 40, NAMES)
    commit, blob = forge.commit_of((FILE, b"Procfile", b"x" * 5000)), forge.blob(b"x" * 5000)
    path = repository / "objects" / blob[:2] / blob[2:]
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(UserError, match="cannot read"):
        read(repository, commit, NAMES)
    (repository / "objects" / commit[:2] / commit[2:]).write_bytes(b"garbage")
    with pytest.raises(UserError):
        read(repository, commit, NAMES)


def test_a_replacement_ref_replaces_nothing(repository: Path, forge: Forge) -> None:
    """A pushed refs/replace/ID does not put another tree in the place of what was pushed."""
    good, bad = (forge.commit_of((FILE, b"Procfile", data)) for data in (b"good", b"bad"))
    git(repository, "replace", good, bad)
    assert read(repository, good, NAMES).files["Procfile"] == b"good"


def test_the_quarantine_of_a_push(tmp_path: Path, repository: Path) -> None:
    """In pre-receive the pushed objects are seen, and what is in the repository already is seen as well."""
    hook = repository / "hooks" / "pre-receive"
    hook.parent.mkdir()
    script = tmp_path / "hook.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from safepoint.core.refs import parse_lines\n"
        "from safepoint.git.objects import is_commit, read\n"
        "(update,) = parse_lines(sys.stdin.buffer.read())\n"
        "print(read(Path.cwd(), update.new, ['Procfile']).files, is_commit(Path.cwd(), update.new))\n"
    )
    hook.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(script))}\n")
    hook.chmod(0o755)
    work = tmp_path / "work"
    work_tree(work, {"Procfile": b"web: x", "big": b"y" * 1000})
    said = git(work, "push", repository, "main")
    assert "remote: {'Procfile': b'web: x'} True" in said


def test_the_quarantine_of_another_repository_is_not_used(
    repository: Path, forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that happen to be there are no quarantine of this repository's."""
    commit = forge.commit_of((FILE, b"Procfile", b"x"))
    other = tmp_path / "other.git"
    git(tmp_path, "init", "--quiet", "--bare", "--template=", other)
    for name in ("GIT_OBJECT_DIRECTORY", "GIT_QUARANTINE_PATH"):
        monkeypatch.setenv(name, str(other / "objects" / "tmp_objdir-incoming-x"))
    monkeypatch.setenv("GIT_DIR", str(other))
    assert read(repository, commit, NAMES).files["Procfile"] == b"x"


def test_a_person_s_word_for_a_commit(tmp_path: Path) -> None:
    """A branch, a tag of either kind, a full and a short id, HEAD and its parent all mean a commit."""
    work = tmp_path / "work"
    first = work_tree(work, {"a": b"1"})
    git(work, "tag", "light")
    git(work, "tag", "--annotate", "--message=x", "heavy")
    git(work, "commit", "--quiet", "--allow-empty", "--message=y")
    repository = work / ".git"
    for word in ("light", "heavy", "refs/tags/heavy", first, first[:8], "HEAD^", "main~1"):
        assert resolve(repository, word) == first, word


def test_hostile_words_mean_nothing(tmp_path: Path) -> None:
    """Options, ranges, exclusions, searches, paths, control characters and trees are no commits."""
    work = tmp_path / "work"
    commit = work_tree(work, {"a": b"1"})
    tree = git(work, "rev-parse", "HEAD^{tree}")
    words = [
        "",
        "-",
        "--all",
        "--git-dir",
        "-h",
        "^main",
        "main..main",
        "main...main",
        ":/work",
        "main:a",
        "HEAD^{/work}",
    ]
    words += [
        "main@{0}",
        "@{-1}",
        "main\n",
        "main\0",
        "main x",
        "\x1b[31m",
        "nothing",
        "x" * 300,
        "1" * 40,
        tree,
        "../x",
    ]
    words += ["\udcff", "ma*n", f"{commit} --all", "main^{tree}", "main^@", "main^!"]
    for word in words:
        assert resolve(work / ".git", word) is None, word


def test_whether_an_id_is_a_commit(repository: Path, forge: Forge) -> None:
    """Only the full id of a commit that is here; never a tag that points to one."""
    tree = forge.tree([])
    commit = forge.commit(tree)
    assert is_commit(repository, commit)
    assert not any(is_commit(repository, each) for each in (tree, forge.tag(commit), "1" * 40, commit[:12], "HEAD", ""))
    with pytest.raises(UserError):
        is_commit(repository / "none", commit)
