"""A release: numbered and immutable. Source, build, environment and how its processes are run."""

from __future__ import annotations

from collections.abc import Mapping

from safepoint.core.settings import Settings
from safepoint.record import Record


class Process(Record):
    """One process of a release, as the runtime has to run it."""

    name: str
    """`web.1`: the process type and an instance number, from 1."""
    command: str
    """For `sh -c`, in the release's directory."""
    port: int
    """In its environment as PORT; on 127.0.0.1."""


class ProcessGroup(Record):
    """Everything of one release that runs. (app, release) is its identity; nothing else is needed to stop it."""

    app: str
    release: int
    directory: str
    environment: Mapping[str, str]
    processes: tuple[Process, ...]
    grace: float
    """Seconds from SIGTERM to SIGKILL."""

    @property
    def web_port(self) -> int | None:
        return next((p.port for p in self.processes if p.name.startswith("web.")), None)


class Release(Record):
    app: str
    number: int
    commit: str
    operation: int
    created: float
    state: str
    """`current`, `kept`, or `pruned` (its files are gone)."""
    settings: Settings
    processes: Mapping[str, str]
    ports: Mapping[str, int]
    """Process name to port, as last started."""
    environment: Mapping[str, str]


class ProcessStatus(Record):
    name: str
    pid: int
    """0: it does not run."""
    running: bool
    restarts: int
    """How often it had to be started again, or given up, since it was added."""
    detail: str
    """For people: `exited with status 1`."""
