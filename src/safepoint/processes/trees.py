"""The whole process tree of a scope, whoever started it and however it is contained: found again by its name alone."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from safepoint.core.failures import StepError
from safepoint.processes import cgroups, containment, marked

DEATH_TIMEOUT = 60.0
"""Seconds. What SIGKILL does not end by then hangs in a system call, or is another user's."""


class Tree:
    """Takes no notice of the kind that was asked for: what is looked at is what is there."""

    def __init__(self, home: Path, scope: str, spec: Path | None = None) -> None:
        """`home` is the home's root. `spec` knows the cgroup where another process chose it. Raises ValueError."""
        self._scope = scope
        self._name = containment.name(home, scope)
        bases = [*containment.cgroup_bases(), *_recorded_base(spec, self._name)]
        self.cgroups = tuple(dict.fromkeys(base / self._name for base in bases))
        """Where its cgroup may be; it need not exist."""

    def populated(self) -> bool:
        """Whether a live process is in its cgroup; False where it has none."""
        return any(cgroups.populated(cgroup) for cgroup in self.cgroups)

    def terminate(self, started: int) -> None:
        """SIGTERM every process of it, once. `started`: the pid of what the caller has started it with."""
        if not any(cgroups.terminate(cgroup) for cgroup in self.cgroups):
            marked.terminate(self._name, started)

    def settle(self, seconds: float) -> bool:
        """Wait for it to end by itself; whether it did within `seconds`."""
        deadline = time.monotonic() + seconds
        if not all(cgroups.wait_empty(cgroup, deadline) for cgroup in self.cgroups):
            return False
        while found := marked.find(self._name):
            if not all(marked.wait_dead(seen.identity, deadline) for seen in found.values()):
                return False
        return True

    def kill(self) -> None:
        """SIGKILL what is left of it, see it dead, remove its cgroup. Idempotent.

        Raises StepError where something of it does not die.
        """
        deadline = time.monotonic() + DEATH_TIMEOUT
        self._kill_cgroups(deadline)
        while True:
            any_found, living = marked.kill(self._name, deadline)
            if living:
                raise self._undead(living)
            # Again after a find: a launcher that had just started may have made the cgroup after we looked for it.
            if not (any_found and self._kill_cgroups(deadline)):
                return

    def _kill_cgroups(self, deadline: float) -> bool:
        """Whether there was any."""
        there = [cgroup for cgroup in self.cgroups if cgroup.is_dir()]
        for cgroup in there:
            cgroups.kill(cgroup)
            if not cgroups.wait_empty(cgroup, deadline):
                raise self._undead(cgroups.members(cgroup))
            cgroups.remove(cgroup)
        return bool(there)

    def _undead(self, pids: set[int]) -> StepError:
        listed = ", ".join(map(str, sorted(pids)[:5]))
        return StepError(f"processes of {self._scope} did not die within {DEATH_TIMEOUT:g} seconds (pid {listed})")


def _recorded_base(spec: Path | None, name: str) -> list[Path]:
    """The spec may be half gone or not ours: its cgroup counts where it is one of this scope, and nothing else."""
    if spec is None:
        return []
    with suppress(OSError, ValueError, TypeError, KeyError):
        cgroup = Path(json.loads(spec.read_bytes())["cgroup"])
        if cgroup.is_absolute() and str(cgroup).endswith(f"/{name}") and ".." not in cgroup.parts:
            return [cgroup.parent.parent]
    return []
