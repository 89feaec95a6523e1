"""The apps' bare repositories: made, configured, moved, and removed. All of it may be repeated after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safepoint.core.failures import StepError
from safepoint.core.refs import branch_ref, is_oid
from safepoint.errors import UserError
from safepoint.git import leftovers
from safepoint.git.commands import Finished, ended, run_git
from safepoint.git.objects import is_commit
from safepoint.record import Record
from safepoint.state import durable
from safepoint.state.paths import Home
from safepoint.trees import remove_tree

LOCK_WAIT = 1.0
"""Seconds in which a live git is done with the lock of a ref."""
MAX_PACKS = 50
"""As git's own gc.autoPackLimit."""

_MOVER = {"GIT_COMMITTER_NAME": "Safepoint", "GIT_COMMITTER_EMAIL": "safepoint@localhost"}


class GitRepository(Record):
    """One app's repository. While an operation holds the app's lock, nobody else moves its deploy branch."""

    path: Path

    def has(self, commit: str) -> bool:
        return is_commit(self.path, commit)

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether moving a branch from `older` to `newer` is a fast-forward."""
        return run_git(self.path, "merge-base", "--is-ancestor", "--end-of-options", older, newer).status == 0

    def branch(self, name: str) -> str:
        """The commit at refs/heads/NAME, or an empty text. Raises UserError."""
        ref = branch_ref(name)
        # Hooks ask this, and a git costs them milliseconds. A ref that has its own file is what the file says.
        try:
            if is_oid(oid := (self.path / ref).read_text("ascii").rstrip("\n")):
                return oid
        except FileNotFoundError:
            # In this order: git writes the packed one before it removes the other.
            if not (self.path / "packed-refs").exists() and (self.path / "HEAD").exists():
                return ""
        except (OSError, UnicodeDecodeError):
            pass  # git has the words for it
        done = run_git(self.path, "for-each-ref", "--format=%(objectname) %(refname)", ref)
        if done.status != 0:
            raise UserError(f"cannot read {self.path}: {ended(done)}")
        # The pattern matches what is below it as well.
        found = (line.partition(" ") for line in done.output.decode(errors="replace").splitlines())
        return next((oid for oid, _, each in found if each == ref), "")

    def move(self, name: str, commit: str) -> None:
        """Make refs/heads/NAME point to `commit`, wherever it was. Durable and idempotent. Raises StepError."""
        if not is_oid(commit):
            raise StepError(f"{commit!a} is not a full commit id")
        for _ in range(3):
            stale = {lock: leftovers.identity(lock) for lock in self._locks(name)}
            done = self._update(name, commit)
            if done.status == 0:
                self._settle_branch(name)
                return
            # A git that was killed, or the power, left its lock. Git waited LOCK_WAIT for it: whoever made it is gone.
            broken = [lock for lock, seen in stale.items() if seen and leftovers.identity(lock) == seen]
            for lock in broken:
                lock.unlink(missing_ok=True)
            if not broken and done.status > 0:  # else it was killed itself, and may have left a lock
                break
        raise StepError(f"the branch {name} could not be moved: {ended(done)}")

    def settle(self) -> None:
        """Have what pushes have brought on the disk, which git has done for the packs, but not for their names."""
        durable.flush_directory(self.path / "objects" / "pack")

    def sweep(self) -> None:
        """Remove what dead pushes left behind. Raises StepError."""
        try:
            leftovers.sweep(self.path)
        except OSError as error:
            raise StepError(f"cannot remove {error.filename}: {error.strerror}") from None

    def pack(self) -> None:
        """Repack where that is due; takes seconds on a large repository. Nothing is lost, reachable or not.

        Git's own gc is off: it would run at the end of some push, and drop the commits of cancelled deploys.
        """
        if len(list((self.path / "objects" / "pack").glob("*.pack"))) > MAX_PACKS:
            done = run_git(self.path, "repack", "-a", "-d", "-l", "--keep-unreachable", "--quiet")
            if done.status != 0:
                raise StepError(f"the repository could not be packed: {ended(done)}")

    def _update(self, name: str, commit: str) -> Finished:
        words = ("update-ref", "-m", "safepoint: publish", branch_ref(name), commit)
        wait = f"core.filesRefLockTimeout={int(LOCK_WAIT * 1000)}"
        return run_git(self.path, *words, settings=(wait,), extra=_MOVER)

    def _settle_branch(self, name: str) -> None:
        """Git syncs the file before it renames it, and not the rename."""
        folder = (self.path / branch_ref(name)).parent
        while folder != self.path:
            durable.flush_directory(folder)
            folder = folder.parent

    def _locks(self, name: str) -> Iterator[Path]:
        yield self.path / f"{branch_ref(name)}.lock"
        yield self.path / "HEAD.lock"  # HEAD points to the deploy branch, and its log is written too


def create(home: Home, app: str, branch: str) -> None:
    """Make the app's repository, or complete one that is half made. Raises UserError."""
    path = home.repository(app)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for lock in ("config.lock", "HEAD.lock"):
            (path / lock).unlink(missing_ok=True)
        # First of all, so that even half a repository has the hooks, and refuses what they would refuse.
        durable.write(path / "config", _config(home, branch).encode(), 0o600)
        # Both formats are what git of today makes; a later git may have other defaults.
        _must(path, "init", "--quiet", "--bare", "--template=", "--object-format=sha1", settings=_FORMAT)
        _must(path, "symbolic-ref", "HEAD", branch_ref(branch))
        # Git leaves these two to the page cache, whatever core.fsync says; an empty `config` has no hooks.
        for name in ("config", "HEAD"):
            durable.flush(path / name)
        for directory in (path / "objects", path / "refs", path, path.parent):
            durable.flush_directory(directory)
    except OSError as error:
        raise UserError(f"cannot make the repository {path}: {error.strerror}") from None


def destroy(home: Home, app: str) -> None:
    """Remove the app's repository, which may be gone already. A push that is under way fails. Raises UserError."""
    path = home.repository(app)
    # Out of the way first: nothing new finds it, and what is half removed is not taken for a repository.
    doomed = path.with_name(f".{path.name}.removed")
    try:
        remove_tree(doomed)  # left by a try that was cut short
        if path.exists():
            path.rename(doomed)
            remove_tree(doomed)
        durable.flush_directory(path.parent)  # else it may come back, and a new app of this name has its branch
    except OSError as error:
        raise UserError(f"cannot remove the repository {path}: {error.strerror}") from None


_FORMAT = ("init.defaultRefFormat=files",)


def _must(path: Path, *arguments: str, settings: tuple[str, ...] = ()) -> None:
    done = run_git(path, *arguments, settings=settings)
    if done.status != 0:
        raise UserError(f"cannot make the repository {path}: {ended(done)}")


def _config(home: Home, branch: str) -> str:
    return f"""\
# Written by Safepoint, which writes it again when the app is made again.
[core]
	repositoryformatversion = 0
	bare = true
	filemode = true
	hooksPath = {_quoted(str(home.hooks.absolute()))}
	logAllRefUpdates = true
	# A pushed refs/replace/ID must not stand in for what is checked and deployed.
	useReplaceRefs = false
	# Git's default leaves loose objects and refs to the page cache.
	fsync = objects,derived-metadata,reference
	fsyncMethod = fsync
	protectHFS = true
	protectNTFS = true
[receive]
	# A push with more than this is refused. Yours to change, here.
	maxInputSize = 2g
	# This ref alone is Safepoint's to move, at the commit of the operation.
	procReceiveRefs = {_quoted(branch_ref(branch))}
	advertisePushOptions = true
	# Git does not record the boundary of a shallow push for refs that a hook moves: the history would be broken.
	shallowUpdate = false
	denyDeletes = false
	denyNonFastForwards = false
	denyDeleteCurrent = refuse
	autogc = false
[transfer]
	fsckObjects = true
	# Every push is a pack: of loose objects each would have a directory of its own to be synced.
	unpackLimit = 1
[receive "fsck"]
	# Old histories are full of these, written by tools long gone. They harm nobody, and nobody can mend them without
	# changing every id after them. GitLab (Gitaly) lets in the same three; all the rest, warnings too, is refused.
	badTimezone = ignore
	missingSpaceBeforeDate = ignore
	zeroPaddedFilemode = ignore
[gc]
	# Every commit that ever ran can be gone back to.
	auto = 0
	pruneExpire = never
	reflogExpire = never
	reflogExpireUnreachable = never
[maintenance]
	auto = false
"""


def _quoted(value: str) -> str:
    """A value of git's configuration (git-config(1), "Syntax")."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
