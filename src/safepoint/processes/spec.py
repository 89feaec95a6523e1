"""The file that tells `launch.py` what to run and how to contain it. It holds the environment: secrets, so 0600."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from safepoint.processes import containment, isolation, limits
from safepoint.state.paths import Home


def path_of(home: Home, scope: str) -> Path:
    """Where the spec of a scope belongs; `ContainedCommands.end` removes it from there."""
    return home.run / "specs" / f"{scope}.json"


def write_spec(
    path: Path,
    *,
    scope: str,
    home: Path,
    argv: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    app: str = "",
    directories: Sequence[Path] = (),
) -> tuple[str, ...]:
    """Write the spec, and return the argv that starts the contained command.

    The command's environment is `environment` and the marker of its scope, nothing else. `home` is the home's root.
    Of an `app`, it is isolated with these `directories` of the home.
    Raises UserError where a forced containment is impossible, ValueError for a bad scope, StepError, OSError.
    """
    name = containment.name(home, scope)
    kind = containment.best(home)
    base = containment.cgroup_base(home) if kind is containment.Kind.CGROUP else None
    spec = {
        "kind": str(kind),
        "cgroup": str(base / name) if base else None,
        "argv": list(argv),
        "directory": str(directory),
        "environment": {**environment, containment.MARKER: name},
        "limits": limits.of(Home(home), app).to_json() if app else {},
        "isolation": isolation.spec(home, app, kind, directories) if app else None,
    }
    path.parent.mkdir(mode=0o700, exist_ok=True)
    _replace(path, json.dumps(spec).encode())
    return (*containment.LAUNCHER, str(path), name)


def _replace(path: Path, content: bytes) -> None:
    # By rename: supervisord may start the command again at any moment, and must find a whole file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:  # a full disk: nobody else would remove it, and it may hold secrets
        temporary.unlink(missing_ok=True)
        raise
