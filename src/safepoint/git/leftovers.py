"""What killed gits leave in a repository, and which of it nobody can want any more. Looks at /proc, removes files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from safepoint.trees import remove_tree

MARGIN = 0.1
"""Seconds. Start times are in ticks of 10 ms and file times are as coarse as 10 ms."""
LOCK_AGE = 3600.0
"""Seconds. A git that works in here from another directory is not seen; its locks last milliseconds, though."""


def sweep(repository: Path) -> None:
    """Remove the quarantines, locks and half written packs of gits that are dead. Raises OSError.

    Whatever a living git made in here is younger than that git. So a leftover is dead when it is older than every git
    that works in the repository. That is looked up after the leftovers are: a git that starts in between makes new
    ones, which are not on the list. (Asking only whether any git is alive would never sweep: the worker does it while
    its own push still waits for the ending. A git in another PID namespace is not seen; its push would fail.)
    """
    found = list(_quarantines(repository)) + [each for each in _files(repository) if each[1] < time.time() - LOCK_AGE]
    if not found:
        return
    oldest = min(_starts(repository), default=float("inf"))
    for path, modified in found:
        if modified + MARGIN < oldest:
            remove_tree(path)


def identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from a later one of the same name; None where there is none."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns


def _quarantines(repository: Path) -> Iterator[tuple[Path, float]]:
    objects = repository / "objects"
    for pattern in ("tmp_objdir-incoming-*", "incoming-*"):  # since git 2.35, and before
        yield from _with_time(objects.glob(pattern))


def _files(repository: Path) -> Iterator[tuple[Path, float]]:
    for name in ("HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock"):
        yield from _with_time([repository / name])
    # Not os.walk, which recurses (until Python 3.12): a pushed ref may have a thousand levels.
    pending = [repository / "refs"]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except FileNotFoundError:
            continue
        pending += [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]
        yield from _with_time(Path(each.path) for each in entries if each.name.endswith(".lock"))
    for pattern in ("tmp_*", ".tmp-*"):
        yield from _with_time((repository / "objects" / "pack").glob(pattern))


def _with_time(paths: Iterable[Path]) -> Iterator[tuple[Path, float]]:
    for path in paths:
        try:
            yield path, path.lstat().st_mtime
        except FileNotFoundError:
            continue


def _starts(repository: Path) -> Iterator[float]:
    """When the gits that work in the repository were started, in seconds since the epoch."""
    home = repository.stat()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    for pid in (each.name for each in Path("/proc").iterdir() if each.name.isdigit()):
        try:
            text = Path("/proc", pid, "stat").read_bytes()
            # proc(5): the name is in brackets and may have anything in it; field 22 is 19 after the state.
            name, _, rest = text.partition(b"(")[2].rpartition(b")")
            if not name.startswith(b"git"):
                continue
            try:
                directory = Path("/proc", pid, "cwd").stat()
                here = (directory.st_dev, directory.st_ino) == (home.st_dev, home.st_ino)
            except PermissionError:
                here = True  # somebody else's: it may be in here
            if here:
                yield booted + int(rest.split()[19]) / ticks
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended, or is a zombie, which has no directory
