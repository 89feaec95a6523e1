"""The home as a place on a disk: whose it is, who may enter, how much room there is."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from safepoint.core import findings as f
from safepoint.state.paths import Home


def owner(home: Home) -> Iterable[f.Finding]:
    status = home.root.stat()
    if status.st_uid != os.geteuid():
        text = f"{home.root} belongs to {_user(status.st_uid)}, and you are {_user(os.geteuid())}"
        yield f.problem("home", text, f"run Safepoint, and this, as {_user(status.st_uid)}")
    elif found := f.mode("home", str(home.root), status.st_mode):
        yield found
    else:
        yield f.ok("home", f"{home.root} belongs to {_user(status.st_uid)}, and nobody else may enter")


def file_system(home: Home) -> Iterable[f.Finding]:
    yield f.file_system(_type_of(home.root.resolve()))


def space(home: Home) -> Iterable[f.Finding]:
    status = os.statvfs(home.root)
    # Some file systems have no fixed number of files, and say 0.
    yield f.space(status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)


def keys(home: Home) -> Iterable[f.Finding]:
    """The files that hold secrets, each where it is."""
    secrets = [path for path in (home.host_key, home.database) if path.exists()]
    wrong = [found for path in secrets if (found := f.mode("key files", str(path), path.stat().st_mode))]
    yield from wrong
    if not wrong and secrets:
        names = " and ".join(path.name for path in secrets)
        yield f.ok("key files", f"only {_user(os.geteuid())} may read {names}")


def _type_of(path: Path) -> str:
    """Of the file system that is mounted nearest above it (proc_pid_mountinfo(5)); empty where it is not there."""
    best, kind = 0, ""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields, _, source = line.partition(" - ")
        point = fields.split(" ")[4]
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), source.split(" ")[0]
    return kind


def _user(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)
