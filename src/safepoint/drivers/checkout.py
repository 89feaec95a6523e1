"""Writes the tree of a commit into a new directory, as `git checkout` on Linux would: the Source port.

Git writes it (`checkout-index` beats `git archive | tar x` and every walk in Python); before that, the tree's names
are checked here. Whoever may push can push any tree that can be encoded, not just those that git would make.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from safepoint.core.failures import StepError
from safepoint.core.names import shown
from safepoint.core.refs import is_oid
from safepoint.drivers import durable_tree
from safepoint.drivers.interruptible import Latch, run
from safepoint.drivers.spare import Spare
from safepoint.git.commands import Finished, complaint, ended, git_argv, git_environment
from safepoint.record import Record
from safepoint.trees import remove_tree

MAX_ENTRIES = 500_000
"""Files and directories. A few kilobytes of trees that repeat each other unfold into billions."""
MAX_DEPTH = 250
"""Directories in each other. Python's own walks of directories recurse, and a build runs who knows what."""
MAX_RECORD = 16 * 1024
"""Bytes of one entry: mode, id and path. Linux takes a path of 4,096 (PATH_MAX)."""
MAX_NAMES = 64 * 1024 * 1024
"""Bytes of all paths together."""

_SETTINGS = (
    # What .gitattributes asks for is done as in any clone: line endings, encodings, $Id$. Filters are commands of the
    # configuration, and ours has none. Without attributes the bytes are the blob's.
    "core.autocrlf=false",
    "core.eol=lf",
    "core.safecrlf=false",
    "core.symlinks=true",
    "core.fileMode=true",
    "core.ignoreCase=false",
    "core.sparseCheckout=false",
    # The spellings of .git on other systems are refused as well: nothing good has such a name.
    "core.protectHFS=true",
    "core.protectNTFS=true",
)


class Checkout(Record):
    spare: Spare | None = None
    """Where an app keeps what its next export begins with."""
    many: int = 1_000
    """Files, two at least, which two processes write more quickly than one."""

    def settle(self, directory: Path) -> None:
        """Have the whole directory on the disk. Raises StepError."""
        durable_tree.settle(directory)

    def forget(self, directory: Path) -> None:
        """Have it on the disk that the directory was removed."""
        durable_tree.forget(directory)

    def export(self, repository: Path, commit: str, directory: Path, latch: Latch) -> None:
        """Write the tree of `commit` into `directory`, which does not exist yet.

        Files are 0644 or 0755. Raises StepError and Interrupted, and then leaves what it has written to the undo.
        """
        if not is_oid(commit):
            raise StepError(f"{shown(commit)} is not a full commit id")
        try:
            directory.parent.mkdir(0o755, parents=True, exist_ok=True)
            export = _Export(repository.absolute(), commit, directory.absolute(), latch)
            files = export.check()
            begun = self.spare.take(directory) if self.spare is not None else None
            if begun is None or not export.change(begun):
                if begun is not None:
                    remove_tree(directory)
                export.read()
                if len(files) < self.many or any(map(_is_attributes, files)):
                    export.write()
                else:
                    export.write_halves(files)
            export.finish()
        except OSError as error:
            raise StepError(f"{error.filename or directory} cannot be written: {error.strerror}") from None

    def prepare(self, repository: Path, commit: str, latch: Latch) -> None:
        """Keep a second copy of `commit`, for the next export. Raises StepError, OSError and Interrupted."""
        spare = self.spare
        assert spare is not None

        def write(directory: Path) -> bool:
            export = _Export(repository.absolute(), commit, directory, latch)
            if export.read() < spare.worthwhile:
                return False
            export.write(keep_index=True)
            export.vouch()
            # Before it gets its name: the index vouches for files whose content a power cut could take.
            durable_tree.settle(directory)
            return True

        spare.make(commit, write)


class _Export(Record):
    repository: Path
    commit: str
    directory: Path
    latch: Latch

    @property
    def _private(self) -> Path:
        """The one name that no tree may have, so that the index is in nobody's way and goes with the directory."""
        return self.directory / ".git"

    def check(self) -> list[bytes]:
        """Refuse what is no tree for a disk; the names of the files, in the order of git's index."""
        names = Names()
        self._git("ls-tree", "-r", "-t", "-z", "--full-tree", self.commit, output=names.feed)
        return names.files

    def read(self) -> int:
        """Make the directory, with an index of the commit and nothing else; how many files it lists."""
        self.directory.mkdir(0o755)
        self.directory.chmod(0o755)
        self._private.mkdir(0o700)
        self._git("read-tree", self.commit)
        with (self._private / "index").open("rb") as file:
            return int(struct.unpack(">4s2I", file.read(12))[2])  # gitformat-index(5)

    def write(self, *, keep_index: bool = False) -> None:
        """Write the files. The index is told what they look like where it is of use later."""
        # Without --force: nothing can be there already, and if anything is (names that differ in case on a filesystem
        # that ignores it) it must not be overwritten.
        self._git("checkout-index", "--all", *(["--index"] if keep_index else []))

    def write_halves(self, files: Sequence[bytes]) -> None:
        """Write all files, in two processes that know nothing of each other.

        `checkout.workers` takes eight system calls a file to talk to its own. There may be no attributes among them:
        each process reads those from the directory, where the other may be writing them.
        """
        middle = len(files) // 2
        halves = files[:middle], files[middle:]
        # The names are in order, so that each directory is in one half, but for those which this one name is below.
        for parent in reversed((self.directory / os.fsdecode(halves[1][0])).parents):
            if parent.is_relative_to(self.directory):
                parent.mkdir(0o755, exist_ok=True)
                parent.chmod(0o755)
        failed: list[Exception] = []

        def write(half: int) -> None:
            names = self._private / f"names{half}"
            try:
                names.write_bytes(b"".join(name + b"\0" for name in halves[half]))
                self._git("checkout-index", "-z", "--stdin", stdin=names, workers=1)
            except Exception as error:
                failed.append(error)

        other = threading.Thread(target=write, args=(1,))
        other.start()
        write(0)
        other.join()
        if failed:
            raise failed[0]

    def vouch(self) -> None:
        """Have git believe its index without reading each file anew. To be called where nobody else can write to them.

        Files of the index's own second may have been written to since, for all it knows: it hashes them again
        (racy-git.txt in git's documentation), and a whole tree is often written within one.
        """
        after = time.time() + 1
        os.utime(self._private / "index", (after, after))

    def change(self, begun: str) -> bool:
        """Make it of the directory that has the commit `begun`, with its index; False where that cannot be done."""
        changed = _Attributes()
        try:
            self._git("diff-tree", "-r", "-z", "--name-only", "--no-renames", begun, self.commit, output=changed.feed)
            # Those are written as the attributes of their commit say: other attributes, other bytes of the same blob.
            if not changed.found:
                self._git("read-tree", "-m", "-u", self.commit)
        except StepError:  # the old commit is gone perhaps; whatever it is, all of it can still be written
            return False
        return not changed.found

    def finish(self) -> None:
        remove_tree(self._private)

    def _git(
        self,
        *arguments: str,
        workers: int = 2,
        stdin: Path | None = None,
        output: Callable[[bytes], None] | None = None,
    ) -> None:
        places = {"GIT_INDEX_FILE": str(self._private / "index"), "GIT_WORK_TREE": str(self.directory)}
        status, stderr = run(
            git_argv(self.repository, *arguments, settings=(*_SETTINGS, f"checkout.workers={workers}")),
            environment=git_environment(places),
            directory=self.directory if self.directory.exists() else self.directory.parent,
            latch=self.latch,
            stdin=stdin,
            output=output,
        )
        if status != 0:
            reason = ended(Finished(status, b"", complaint(stderr)))
            raise StepError(f"the commit could not be written out: git {arguments[0]}: {reason}")


class _Attributes:
    """Whether a .gitattributes is among the names that `git diff-tree -z` prints."""

    def __init__(self) -> None:
        self.found = False
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        *names, self._rest = (self._rest + chunk).split(b"\0")
        self.found = self.found or any(map(_is_attributes, names))


def _is_attributes(name: bytes) -> bool:
    return name.rpartition(b"/")[2] == b".gitattributes"


class Names:
    """Checks the output of `git ls-tree -r -t -z` as it comes. Raises StepError at the first entry that is refused.

    Git checks most of this too, when it reads the tree into an index and when it writes. It does not mind a name that
    is a symbolic link and a directory at once, which has led it outside before (CVE-2021-21300).
    """

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self._rest = b""
        self._bytes = 0
        self._seen: set[bytes] = set()
        self._directories = {b""}

    def feed(self, chunk: bytes) -> None:
        *records, self._rest = (self._rest + chunk).split(b"\0")
        if len(self._rest) > MAX_RECORD:
            raise StepError("the commit has a name that is longer than any path can be")
        self._bytes += len(chunk)
        for record in records:
            meta, _, path = record.partition(b"\t")
            self._check(meta.partition(b" ")[0], path)
            if path.count(b"/") > MAX_DEPTH:
                raise StepError(f"the commit has more than {MAX_DEPTH} directories in each other")
        if len(self._seen) > MAX_ENTRIES or self._bytes > MAX_NAMES:
            raise StepError(f"the commit has more than {MAX_ENTRIES:,} files, or absurdly long names")

    def _check(self, mode: bytes, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        if mode == b"160000":
            raise StepError(
                f"the commit has submodules ({_shown(path)}), which are not deployed; commit their files instead"
            )
        if name in (b"", b".", b"..") or name.lower() == b".git":
            raise StepError(f"the commit has a file named {_shown(path)}, which no checkout can have")
        # A name with a slash in it has a parent that is no tree of the commit.
        # One that begins with a slash has the root for a parent, by its looks.
        if path in self._seen or parent not in self._directories or path.startswith(b"/"):
            raise StepError(
                f"the commit is damaged: its name {_shown(path)} is there twice, or under what is no directory"
            )
        self._seen.add(path)
        if mode == b"040000":
            self._directories.add(path)
        else:
            self.files.append(path)


def _shown(path: bytes) -> str:
    text = os.fsdecode(path)
    return text if text.isprintable() and text.isascii() and len(text) <= 100 else shown(text, 100)
