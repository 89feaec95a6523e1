"""What `safepoint doctor` finds, and what it makes of bare facts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from safepoint.core.output_limit import size
from safepoint.record import Record


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, and is weaker or will soon be worse than it could be."""
    PROBLEM = "problem"
    """Something does not work, or is not safe."""


class Finding(Record):
    level: Level
    about: str
    """One word or two: what was looked at."""
    text: str
    """One plain sentence, without its full stop."""
    advice: str = ""
    """What to do; empty where nothing needs to be done."""


def ok(about: str, text: str) -> Finding:
    return Finding(Level.OK, about, text)


def warning(about: str, text: str, advice: str = "") -> Finding:
    return Finding(Level.WARNING, about, text, advice)


def problem(about: str, text: str, advice: str = "") -> Finding:
    return Finding(Level.PROBLEM, about, text, advice)


def exit_status(findings: Iterable[Finding]) -> int:
    return int(any(each.level is Level.PROBLEM for each in findings))


def summary(findings: Iterable[Finding]) -> str:
    levels = [each.level for each in findings]
    counts = [(levels.count(level), level.value) for level in (Level.PROBLEM, Level.WARNING)]
    return ", ".join(f"{count or 'no'} {name}{'' if count == 1 else 's'}" for count, name in counts)


GIT = (2, 29)
"""The first that has the hook proc-receive (git's release notes)."""


def git(said: str | None) -> Finding:
    """`said`: what `git --version` prints; None: there is no git."""
    install = "install your system's package git"
    if said is None:
        return problem("git", "git is not installed", install)
    version = re.search(r"(\d+)\.(\d+)\S*", said)
    if version is None or (int(version[1]), int(version[2])) < GIT:
        return problem("git", f"{said or 'git'} is too old: deploys need git {GIT[0]}.{GIT[1]} or later", install)
    return ok("git", said)


def mode(about: str, path: str, bits: int) -> Finding | None:
    """Of what nobody else may read; None where that is so. `bits` as in st_mode."""
    if not bits & 0o077:
        return None
    return problem(about, f"others may get at {path}, which has the mode {bits & 0o777:04o}", f"chmod go= {path}")


REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "lustre", "vboxsf", "virtiofs"}
"""Types of file systems on which neither SQLite's write-ahead log nor flock(2) can be relied on."""
FLEETING = {"tmpfs", "ramfs"}


def file_system(kind: str) -> Finding:
    if kind in REMOTE or kind.startswith("fuse"):
        text = f"the home is on {kind}, where the locks that a crash is recovered by are not reliable"
        return warning("file system", text, "move the home to a local file system")
    if kind in FLEETING:
        return warning("file system", f"the home is on {kind}: a reboot loses everything", "move the home to a disk")
    return ok("file system", f"the home is on {kind or 'a file system of an unknown type'}")


SCARCE, TOO_SCARCE = 2 * 1024**3, 256 * 1024**2
"""Bytes."""


def space(free: int, files: int | None) -> Finding:
    """`free`: bytes for this user; `files`: how many more files there can be, None where it is not said."""
    text = f"{size(free)} are free"
    advice = "make room, or have fewer apps: each keeps 5 releases"
    if files is not None and files < 10_000:
        return problem("space", f"only {files} more files can be made", advice)
    if free < TOO_SCARCE:
        return problem("space", f"only {text}", advice)
    return warning("space", f"only {text}", advice) if free < SCARCE else ok("space", text)
