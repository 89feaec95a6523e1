"""How a tree of processes is kept together, and which way is the best here. Reads /proc; may make an empty cgroup.

In the order of strength:

- `cgroup`: nothing leaves it by forking, and the kernel kills all of it at once (`cgroup.kill`, Linux 5.14).
- `pidns`: a PID namespace, which ends with its first process.
- `subreaper`: orphans come back to our init (PR_SET_CHILD_SUBREAPER), which walks and kills them.

killpg is not in the list: it loses every child that calls setsid. Another user than root takes `pidns` first, as only
that isolates apps from each other as well (isolation.py).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from pathlib import Path

from safepoint.digest import sha256
from safepoint.errors import UserError

FORCED = "SAFEPOINT_CONTAINMENT"
MARKER = "SAFEPOINT_SCOPE"
"""In the environment of every contained process: `safepoint-<8 hex>/<scope>`."""
END = signal.SIGRTMIN
"""Asks the keeper of a tree to end it at once, and to exit when all of it is dead. Stands in `launch.py` too."""
LAUNCHER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")))

_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class Kind(StrEnum):
    CGROUP = "cgroup"
    PIDNS = "pidns"
    SUBREAPER = "subreaper"


def best(home: Path) -> Kind:
    """The strongest kind that works here, or the one that SAFEPOINT_CONTAINMENT names. Decided once a process.

    Raises UserError where the named one is unknown or does not work here.
    """
    return chosen(home, os.environ.get(FORCED, ""))


@cache
def chosen(home: Path, forced: str) -> Kind:
    """The same, where `forced` is what the variable would say."""
    if not forced:
        kinds = list(Kind) if os.geteuid() == 0 else [Kind.PIDNS, Kind.CGROUP, Kind.SUBREAPER]
        return next(kind for kind in kinds if possible(kind, home))
    if forced not in list(Kind):
        raise UserError(f"{FORCED}={forced} is not a kind of containment", f"use one of {', '.join(Kind)}")
    if not possible(Kind(forced), home):
        raise UserError(f"cannot contain processes by {forced} on this machine", f"unset {FORCED}")
    return Kind(forced)


def possible(kind: Kind, home: Path) -> bool:
    """Whether it works here: tried, not guessed."""
    trials: dict[Kind, Callable[[], bool]] = {
        Kind.CGROUP: lambda: cgroup_base(home) is not None,
        Kind.PIDNS: _namespaces_work,
        Kind.SUBREAPER: lambda: True,
    }
    return trials[kind]()


def obstacle(kind: Kind, home: Path) -> str:
    """Why it does not work here, as a clause; empty where it does."""
    if possible(kind, home):
        return ""
    if kind is Kind.PIDNS:
        return "this user may not make PID namespaces here"
    bases = [base for base in cgroup_bases() if base.is_dir()]
    if not bases:
        return "no cgroup file system of version 2 is mounted where this process may see it"
    if any((base / "cgroup.procs").exists() and os.access(base / "cgroup.procs", os.W_OK) for base in bases):
        return f"the cgroups in {bases[0]} have no cgroup.kill, which Linux has from 5.14 on"
    return f"this user may not make cgroups in {bases[0]}"


def name(home: Path, scope: str) -> str:
    """`safepoint-<8 hex of the home's path>/<scope>`: unique on this machine. Raises ValueError."""
    if not _SCOPE.fullmatch(scope):
        raise ValueError(f"not a scope: {scope!r}")
    return f"safepoint-{sha256(os.fsencode(home.resolve())).hexdigest()[:8]}/{scope}"


def cgroup_base(home: Path) -> Path | None:
    """The cgroup to make ours in; None where none can be made."""
    return next((base for base in cgroup_bases() if _usable(base, home)), None)


def cgroup_bases() -> list[Path]:
    """Where a cgroup of ours may be, whether or not this process can make one there.

    Root takes the root of the mount: it is the same for every process, and does not go with a login session as
    this process's own cgroup may. Others can only have one where their own cgroup was delegated to them.
    """
    mount = _cgroup2_mount()
    if mount is None:
        return []
    root, point = mount
    own = _own_cgroup()
    beneath = own is not None and (own == root or own.startswith(root.rstrip("/") + "/"))
    bases = [point] if os.geteuid() == 0 else []
    if own is not None and beneath:
        bases.append(point / own.removeprefix(root).lstrip("/"))
    return list(dict.fromkeys(bases))


def _usable(base: Path, home: Path) -> bool:
    # Moving a process needs cgroup.procs of the common ancestor too (cgroups(7)), not only of the new cgroup.
    if not os.access(base / "cgroup.procs", os.W_OK):
        return False
    probe = base / f"{name(home, 'probe').replace('/', '-')}-{os.urandom(6).hex()}"
    try:
        probe.mkdir()
    except OSError:
        return False
    try:
        return (probe / "cgroup.kill").exists() and os.access(probe / "cgroup.procs", os.W_OK)
    finally:
        probe.rmdir()


def _cgroup2_mount() -> tuple[str, Path] | None:
    """Root and mount point of the cgroup2 file system, the fullest one first; also of a hybrid host's `unified`."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            root, point = fields.split(" ")[3:5]
            found.append((_unescaped(root), Path(_unescaped(point))))
    return min(found, key=lambda mount: len(mount[0]), default=None)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _own_cgroup() -> str | None:
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)


@cache
def _namespaces_work() -> bool:
    return subprocess.run((*LAUNCHER, "--try-pidns"), env={}, stdin=subprocess.DEVNULL, check=False).returncode == 0
