"""Copies a commit with its history from one repository into another, also out of a push's quarantine."""

from __future__ import annotations

from pathlib import Path

from safepoint.errors import UserError
from safepoint.git.commands import Finished, cannot_run, complaint, ended, git_argv, git_environment, run_git
from safepoint.git.objects import is_commit, quarantine
from safepoint.git.repositories import GitRepository

_REF = "refs/safepoint/pushed"
"""In the target: what was brought last. The next pack has only what is new since."""
_STRICT = "--strict=badTimezone=ignore,missingSpaceBeforeDate=ignore,zeroPaddedFilemode=ignore"
"""As receive.fsck of the repositories that Safepoint makes."""


def bring(source: Path, commit: str, target: Path) -> None:
    """Have `commit` in `target`, whole and on the disk. Idempotent. Raises UserError.

    By a pack rather than by `git fetch`: upload-pack sees neither the quarantine nor a commit that no ref has, and it
    obeys what the source hides. By a copy rather than by alternates: what the source forgets can still be deployed.
    """
    if is_commit(target, commit):
        return
    _copy(source, commit, target, _known(source, target))
    GitRepository(target).settle()
    # Where it cannot be moved, or another push has moved it: the next pack is larger than it need be, and that is all.
    run_git(target, "update-ref", _REF, commit)


def _known(source: Path, target: Path) -> list[str]:
    """Commits that both have; what the target's refs have is there whole."""
    done = run_git(target, "for-each-ref", "--format=%(objectname)", _REF, "refs/heads")
    found = dict.fromkeys(done.output.decode("ascii", "replace").split()[:20])
    return [oid for oid in found if is_commit(source, oid)]


def _copy(source: Path, commit: str, target: Path, known: list[str]) -> None:
    import subprocess  # see run_git

    wanted = "".join(f"{line}\n" for line in (commit, *(f"^{oid}" for oid in known)))
    words = ("pack-objects", "--revs", "--thin", "--stdout", "--delta-base-offset", "-q")
    import tempfile  # see run_git

    with tempfile.TemporaryFile() as revisions, tempfile.TemporaryFile() as complaints:
        revisions.write(wanted.encode())
        revisions.seek(0)
        try:
            with subprocess.Popen(
                git_argv(source, *words),
                stdin=revisions,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=git_environment(quarantine(source)),
                cwd=source,
            ) as pack:
                index = subprocess.run(
                    git_argv(target, "index-pack", "--stdin", "--fix-thin", _STRICT),
                    stdin=pack.stdout,
                    capture_output=True,
                    check=False,
                    env=git_environment(),
                    cwd=target,
                )
                assert pack.stdout is not None
                pack.stdout.close()  # where index-pack gave up, the other must not wait for a reader
                pack.wait()
        except OSError as error:
            raise cannot_run(source, error) from None
        complaints.seek(0)
        packed = Finished(pack.returncode, b"", complaint(complaints.read()))
    indexed = Finished(index.returncode, b"", complaint(index.stderr))
    if indexed.status != 0:
        # A pack that ends too early is the other's fault, and a pipe that closes too early is this one's.
        reason = packed if packed.status > 0 else indexed
        raise UserError(f"commit {commit[:8]} cannot be taken over from {source}: {ended(reason)}")
