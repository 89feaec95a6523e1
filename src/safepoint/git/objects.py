"""Looks into a repository's objects, also while a push holds them in quarantine. Changes nothing."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from safepoint.core.names import shown
from safepoint.core.refs import is_oid
from safepoint.errors import NotFound, UsageError, UserError
from safepoint.git.commands import cannot_run, complaint, git_argv, git_environment, run_git
from safepoint.hints import IO
from safepoint.record import Record

MAX_FILE = 64 * 1024
"""Bytes of a file that is read."""
MAX_ROOT = 4 * 1024 * 1024
"""Bytes of the root directory's own object: some 100,000 names."""


class Tree(Record):
    """The top level of a commit."""

    entries: Mapping[bytes, int]
    """Name to mode, as in `st_mode`: 0o100644, 0o100755, 0o120000 a symbolic link, 0o40000 a directory, 0o160000 a
    submodule."""
    files: Mapping[str, bytes | None]
    """The files that were asked for; None where there is none, or it is no regular file (see `entries` for which)."""

    def text(self, name: str) -> str | None:
        """A file of `files` as text. Raises UsageError where it is not UTF-8."""
        data = self.files[name]
        try:
            return None if data is None else data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UsageError(f"{name} is not UTF-8 text") from None


def read(repository: Path, commit: str, names: Sequence[str]) -> Tree:
    """The top level of `commit`, and the contents of those of its files that `names` has. Spawns one git.

    `commit` is a full id, which may still be in the quarantine of the push that this process is a hook of. Raises
    NotFound, UsageError where a file is too long or the commit is none, UserError where git fails.
    """
    if not is_oid(commit):
        raise UsageError(f"{shown(commit)} is not a full commit id")
    with _batch(repository) as ask:
        root = _root(ask, commit)
        found = _entries(ask(root, "tree", MAX_ROOT, "the root directory"), len(commit) // 2)
        files = {
            name: ask(found[key][1], "blob", MAX_FILE, name)
            if (key := os.fsencode(name)) in found and stat.S_ISREG(found[key][0])
            else None
            for name in names
        }
    return Tree({name: mode for name, (mode, _) in found.items()}, files)


def resolve(repository: Path, revision: str) -> str | None:
    """The full id of the commit that a person means by a branch, a tag or a short id. None where there is none."""
    # `@{...}`, `^{/regex}`, `:/regex` and `a..b` are languages of their own; a person who names a release needs none.
    if len(revision) > 250 or not re.fullmatch(r"[^\s\x00-\x20\x7f:?*\[\\{}-][^\s\x00-\x20\x7f:?*\[\\{}]*", revision):
        return None
    done = run_git(
        repository,
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        revision + "^{commit}",
        extra=quarantine(repository),
    )
    oid = done.output.decode(errors="replace").strip()
    # `^main` is a valid revision that excludes: rev-parse answers it with `^ID`.
    return oid if done.status == 0 and is_oid(oid) else None


def is_commit(repository: Path, oid: str) -> bool:
    """Whether `oid` is the full id of a commit that is here. Of its history nothing is said."""
    if not is_oid(oid):
        return False
    # Over stdin and with the id in the answer: in a SHA-256 repository 40 digits are an abbreviation.
    done = run_git(repository, "cat-file", "--batch-check", stdin=oid.encode() + b"\n", extra=quarantine(repository))
    if done.status != 0:
        raise UserError(f"cannot read {repository}: {done.complaint}")
    return done.output.split()[:2] == [oid.encode(), b"commit"]


class _Gone(Exception):
    """Git gave up on an object; why, it says on its standard error."""


class _Ask:
    """One `git cat-file --batch`: asked one object at a time, so that nothing has to be skipped or buffered."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def __call__(self, oid: str, kind: str, limit: int, what: str) -> bytes:
        """The object's contents. Raises NotFound, UsageError where it is of another kind or longer than `limit`."""
        size = self.header(oid, kind)
        if size > limit:
            raise UsageError(f"{what} has {size:,} bytes; the most is {limit:,}")
        data = self._stdout.read(size + 1)
        if len(data) != size + 1:
            raise _Gone
        return data[:-1]

    def header(self, oid: str, kind: str) -> int:
        self._stdin.write(oid.encode() + b"\n")
        self._stdin.flush()
        answer = self._stdout.readline(200).split()
        if answer[1:] == [b"missing"]:
            raise NotFound(f"there is no {kind} {oid} in the repository")
        if len(answer) != 3 or not answer[2].isdigit():
            raise _Gone
        if answer[0] != oid.encode() or answer[1] != kind.encode():
            raise UsageError(f"{oid} is not a {kind} but a {answer[1].decode(errors='replace')}")
        return int(answer[2])

    def line(self, limit: int) -> bytes:
        return self._stdout.readline(limit)

    def skip(self, count: int) -> None:
        while count > 0 and (chunk := self._stdout.read(min(count, 65536))):
            count -= len(chunk)


@contextmanager
def _batch(repository: Path) -> Iterator[_Ask]:
    import subprocess  # see run_git

    try:
        process = subprocess.Popen(
            git_argv(repository, "cat-file", "--batch"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=git_environment(quarantine(repository)),
            cwd=repository,
        )
    except OSError as error:
        raise cannot_run(repository, error) from None
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: PT018
    try:
        yield _Ask(process.stdin, process.stdout)
    except (BrokenPipeError, _Gone):
        process.kill()
        raise UserError(f"cannot read {repository}: {complaint(process.stderr.read())}") from None
    finally:
        # It may be in the middle of a blob that nobody will read.
        process.kill()
        _close(process.stdin)
        process.stdout.close()
        process.stderr.close()
        process.wait()


def _close(stream: IO[bytes]) -> None:
    with suppress(BrokenPipeError):  # what was buffered cannot be flushed to a git that is gone
        stream.close()


def _root(ask: _Ask, commit: str) -> str:
    """The id of the commit's tree, which is its first line. The rest, a message of any length, is read past."""
    size = ask.header(commit, "commit")
    first = ask.line(size + 1)
    ask.skip(size + 1 - len(first))
    tree = first.removeprefix(b"tree ").removesuffix(b"\n").decode(errors="replace")
    if not first.startswith(b"tree ") or not is_oid(tree) or len(tree) != len(commit):
        raise UsageError(f"commit {commit} is damaged")
    return tree


def _entries(data: bytes, oid_length: int) -> dict[bytes, tuple[int, str]]:
    """Name to mode and object id, of a tree object: `<mode> SP <name> NUL <id in binary>` each."""
    found: dict[bytes, tuple[int, str]] = {}
    at = 0
    while at < len(data):
        space, end = data.find(b" ", at), data.find(b"\0", at)
        mode, name, oid = data[at:space], data[space + 1 : end], data[end + 1 : end + 1 + oid_length]
        if not at < space < end or not re.fullmatch(rb"[0-7]{1,7}", mode) or len(oid) != oid_length or name in found:
            raise UsageError("the commit's root directory is damaged")
        found[name] = (int(mode, 8), oid.hex())
        at = end + 1 + oid_length
    return found


_QUARANTINE = ("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")


def quarantine(repository: Path) -> dict[str, str]:
    """The variables by which receive-pack lends its hooks the objects of a push (git-receive-pack(1)).

    Only where the quarantine is this repository's own: in any other environment they are somebody's accident.
    """
    path = os.environ.get(_QUARANTINE[0])
    if not path or Path(path).resolve().parent != repository.resolve() / "objects":
        return {}
    return {name: os.environ[name] for name in _QUARANTINE if name in os.environ}
