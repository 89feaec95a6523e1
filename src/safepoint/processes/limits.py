"""The limits of an app, kept in a file of the server's beside its releases; how well this machine can keep them.

`launch.py` sets them: on the cgroup of a process or command where the controllers are to be had, else as rlimits.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from safepoint.core.limits import Limits
from safepoint.processes import containment
from safepoint.processes.containment import Kind
from safepoint.state.paths import Home

_CONTROLLERS = {"memory": "memory", "processes": "pids", "cpu": "cpu"}


def of(home: Home, app: str) -> Limits:
    try:
        return Limits.from_json(json.loads(home.limits(app).read_bytes()))
    except FileNotFoundError:
        return Limits()


def describe(home: Path) -> tuple[bool, str]:
    """A finding for `doctor`, as isolation.describe has them."""
    base = containment.cgroup_base(home) if containment.best(home) is Kind.CGROUP else None
    found = (base / "cgroup.controllers").read_text().split() if base else []
    missing = {limit for limit, controller in _CONTROLLERS.items() if controller not in found}
    if not missing:
        return True, "Limits hold for each process and each build of an app, with all that it starts (cgroups)."
    clauses = {
        "memory": "memory is counted for each process by itself",
        "processes": "processes are counted for all of an app" if os.geteuid() == 0 else "processes are not limited",
        "cpu": "cpu is not limited",
    }
    kept = ", ".join(clause for limit, clause in clauses.items() if limit in missing)
    return False, f"Limits are not kept by cgroups here, which lack controllers for it: {kept}."
