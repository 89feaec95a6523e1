"""Git as its users run it, and commits as strangers may encode them: objects written straight into a repository."""

from __future__ import annotations

import hashlib
import subprocess
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

FILE, EXECUTABLE, LINK, DIRECTORY, SUBMODULE = b"100644", b"100755", b"120000", b"40000", b"160000"
Entry = tuple[bytes, bytes, str]
"""Mode, name and id, in the order in which they go into the tree."""

_WHO = b"A U Thor <author@example.com> 1700000000 +0000"

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Alice",
    "GIT_AUTHOR_EMAIL": "alice@example.com",
    "GIT_COMMITTER_NAME": "Alice",
    "GIT_COMMITTER_EMAIL": "alice@example.com",
}


def git(
    directory: Path,
    *words: str | Path,
    stdin: bytes | None = None,
    status: int | None = 0,
    env: Mapping[str, str] | None = None,
) -> str:
    """Everything that git prints, on both streams, where it exits with `status` (None: with any)."""
    command = ["git", "-C", str(directory), "-c", "init.defaultBranch=main", *map(str, words)]
    done = subprocess.run(
        command,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**ENVIRONMENT, **(env or {})},
        timeout=200,
    )
    text = done.stdout.decode(errors="surrogateescape")
    assert status is None or done.returncode == status, text
    return text.strip()


def work_tree(directory: Path, files: Mapping[str, bytes]) -> str:
    """A new repository with one commit on main; its id."""
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet")
    return commit_files(directory, files)


def commit_files(directory: Path, files: Mapping[str, bytes]) -> str:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message=work", "--allow-empty")
    return git(directory, "rev-parse", "HEAD")


class Forge:
    """Writes objects that git, and dulwich too, would refuse to make. Ids are hex; SHA-1 only."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository

    def blob(self, data: bytes) -> str:
        return self._add("blob", data)

    def tree(self, entries: Iterable[Entry]) -> str:
        return self._add(
            "tree", b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
        )

    def raw_tree(self, data: bytes) -> str:
        return self._add("tree", data)

    def commit(self, tree: str, message: bytes = b"forged\n", parents: Sequence[str] = ()) -> str:
        lines = [b"tree " + tree.encode(), *(b"parent " + parent.encode() for parent in parents)]
        return self._add("commit", b"\n".join([*lines, b"author " + _WHO, b"committer " + _WHO, b"", message]))

    def raw_commit(self, data: bytes) -> str:
        return self._add("commit", data)

    def tag(self, commit: str) -> str:
        text = b"object %b\ntype commit\ntag v1\ntagger %b\n\nv1\n" % (commit.encode(), _WHO)
        return self._add("tag", text)

    def commit_of(self, *entries: tuple[bytes, bytes, bytes]) -> str:
        """A commit of blobs: mode, name, contents."""
        return self.commit(self.tree((mode, name, self.blob(data)) for mode, name, data in entries))

    def _add(self, kind: str, data: bytes) -> str:
        whole = f"{kind} {len(data)}\0".encode() + data
        oid = hashlib.sha1(whole).hexdigest()
        path = self.repository / "objects" / oid[:2] / oid[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(whole, 1))
        return oid
