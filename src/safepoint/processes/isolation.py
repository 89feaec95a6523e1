"""Keeps apps away from the server and from each other: as whom pushed code runs, and what it can see of the disk.

As root each app has a Unix user of its own, which is nothing but a number: no account is made, and none is needed.
Everybody else's files are out of reach by their modes then; the mounts let the app through to its own, whatever is
closed above them. Another user than root cannot become a third one. It hides the home by the same mounts, in a user
namespace, and the other processes by a PID namespace. `launch.py` does what is decided here.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from safepoint.core.failures import StepError
from safepoint.digest import sha256
from safepoint.hints import Any
from safepoint.processes import containment
from safepoint.processes.containment import Kind
from safepoint.state.paths import Home

SWITCH = "not-isolated"
"""A file of the home: while it is there, what is started is not isolated. The same for whichever door a push comes by,
as a variable would not be."""

FIRST_USER, USERS = 0x70000000, 0x0FFFFFF0
"""Nobody's, by systemd's table of users (systemd.io/UIDS-GIDS); the last ones are left alone."""


def user_of(home: Path, app: str) -> int:
    """The Unix user, and group, of an app of this home. Remembered nowhere, so that it cannot be lost.

    `apps:create` refuses a name whose number another app of the home has.
    """
    digest = sha256(os.fsencode(home.resolve()) + b"\0" + app.encode()).digest()
    return FIRST_USER + int.from_bytes(digest[:8]) % USERS


def user(home: Path, app: str) -> int | None:
    """As whom the app runs; None: as ourselves."""
    return user_of(home, app) if os.geteuid() == 0 and _allowed(home) else None


def spec(home: Path, app: str, kind: Kind, directories: Sequence[Path]) -> dict[str, Any] | None:
    """What `launch.py` has to know to let the app have these directories, and no others of the home.

    Has them belong to the app. None where this machine does not allow it, or the operator does not want it.
    Raises StepError and OSError; ValueError for a directory that is not of the app.
    """
    isolated = possible(home, kind)
    found = user(home, app) if isolated else None
    if os.geteuid() == 0:
        for directory in directories:
            if not _in(directory, Home(home).app(app)):
                raise ValueError(f"{directory} is not the app's to be given")
            # What was isolated once never becomes root by itself, whatever keeps it from being isolated today.
            if not (isolated or _unwanted(home)) and directory.lstat().st_uid == user_of(home, app):
                raise StepError(f"{app} cannot be isolated any more; `touch {home / SWITCH}` has it run all the same")
            _give(directory, found)
    if not isolated:
        return None
    return {"user": found, "mounts": list(mounts(home, found, _PYTHON, directories))}


def possible(home: Path, kind: Kind) -> bool:
    """Whether this machine allows it, tried and not guessed, and the operator wants it."""
    return (os.geteuid() == 0 or kind is Kind.PIDNS) and _allowed(home)


def _allowed(home: Path) -> bool:
    return not _unwanted(home) and _works(home)


def _unwanted(home: Path) -> bool:
    return (home / SWITCH).exists()


@cache
def _works(home: Path) -> bool:
    number = str(FIRST_USER) if os.geteuid() == 0 else ""
    argv = (*containment.LAUNCHER, "--try-isolation", str(home.resolve()), number)
    return subprocess.run(argv, env={}, stdin=subprocess.DEVNULL, check=False).returncode == 0


def _give(directory: Path, user: int | None) -> None:
    """To root, and that of the directory alone, where `user` is None: so once isolated again, the app gets all anew."""
    if directory.lstat().st_uid == (user or 0):
        return
    # chown(1) follows no link with -h, whatever else writes there; and it changes the directory itself last, so that
    # its owner says whether all of it was done.
    whose = ("-h", "--", "0:0") if user is None else ("-hR", "--", f"{user}:{user}")
    done = subprocess.run(("chown", *whose, directory), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise StepError(f"cannot give {directory} to its app: {done.stderr.decode(errors='replace').strip()[-300:]}")


# --- what is to be seen


_PYTHON = tuple(dict.fromkeys(Path(each) for each in (sys.base_prefix, Path(sys.executable).parent.parent)))
"""Safepoint's own Python. It makes the environments of apps, and is what they run by afterwards."""


def mounts(
    home: Path, user: int | None, python: Iterable[Path], directories: Iterable[Path]
) -> Iterator[tuple[str, str | None]]:
    """In this order: (a place, what is to be seen there); None hides what is there.

    `user` None is ourselves, to whom nothing above the home is closed.
    """
    homes, seen = _spellings(home), [each for path in python for each in _spellings(path)]
    closed = [] if user is None else [at for path in (*homes, *seen) if (at := _closed(path)) is not None]
    hidden = [path for path in dict.fromkeys(closed) if not any(path != other and _in(path, other) for other in closed)]
    yield from ((str(path), None) for path in hidden)
    within = [path for path in dict.fromkeys(seen) if any(home in path.parents for home in homes)]
    shown = [path for path in dict.fromkeys(seen) if path not in within and any(_in(path, other) for other in hidden)]
    yield from ((str(path), str(path)) for path in shown)
    for path in homes:
        if not any(_in(path, other) for other in hidden) or any(_in(path, other) for other in shown):
            yield str(path), None
    for path in (*within, *(each for directory in directories for each in _spellings(directory))):
        yield str(path), str(path)


def _spellings(path: Path) -> list[Path]:
    """The path, and where it really is. Below what is hidden a link would lead nowhere, so both are made."""
    return list(dict.fromkeys((Path(os.path.abspath(path)), path.resolve())))  # noqa: PTH100 - keeps the links


def _closed(path: Path) -> Path | None:
    """The topmost directory on the way to `path` that nobody but its owner's group may pass."""
    for parent in reversed(path.parents[:-1]):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None


def _in(path: Path, other: Path) -> bool:
    return path == other or other in path.parents


# --- for `doctor`


def describe(home: Path) -> list[tuple[bool, str]]:
    """Findings: whether it is as one would wish, and a sentence. Raises UserError for a containment that cannot be."""
    me = _name(os.geteuid())
    trust = f"Pushed code runs as {me}, and may do what {me} may: let nobody deploy whom you would not let do that."
    if _unwanted(home):
        return [(False, f"Apps are not isolated, as long as there is {home / SWITCH}. {trust}")]
    kind = containment.best(home)
    if not possible(home, kind):
        return [(False, f"Apps are not isolated: {_why_not(kind)}. {trust}")]
    sees = "of the home it sees its own release, data and cache, and of the processes its own"
    shared = "The network, /tmp and whatever else is open to all on this machine are shared by all apps."
    if os.geteuid() != 0:
        return [
            (True, f"Apps are out of each other's sight: each is in a user namespace, and {sees}."),
            (False, f"Only root can give apps Unix users of their own. {trust}"),
            (True, shared),
        ]
    found = [(True, f"Each app is a Unix user of its own, without new privileges; {sees}."), (True, shared)]
    if not _python_runs(home):
        found.append((False, f"Apps cannot run Safepoint's Python, {sys.executable}: open its files to everybody."))
    return found


def _why_not(kind: Kind) -> str:
    if os.geteuid() == 0:
        return "root may not mount here, or not become any user, as in a container without CAP_SYS_ADMIN"
    if kind is not Kind.PIDNS:
        return f"without root that takes user namespaces, and processes are contained by {kind} here"
    return "this machine does not allow to mount in a user namespace"


def _python_runs(home: Path) -> bool:
    """Its directories may be closed to all but root, as umask 077 makes them."""
    steps = json.dumps({"user": FIRST_USER, "mounts": list(mounts(home, FIRST_USER, _PYTHON, ()))})
    argv = (*containment.LAUNCHER, "--isolated", steps, sys.executable, "-I", "-c", "import pip")
    return subprocess.run(argv, env={}, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
