"""Which processes a release consists of, as the runtime has to run them."""

from __future__ import annotations

from collections.abc import Mapping

from safepoint.core.procfile import WEB
from safepoint.core.release import Process, ProcessGroup
from safepoint.engine.environment import Identity, for_processes


def names(processes: Mapping[str, str]) -> list[str]:
    """`web.1`, `worker.1`: one instance of each process type."""
    return [f"{kind}.1" for kind in processes]


def web_port(ports: Mapping[str, int]) -> int | None:
    return ports.get(f"{WEB}.1")


def process_group(
    identity: Identity,
    *,
    processes: Mapping[str, str],
    ports: Mapping[str, int],
    host: Mapping[str, str],
    config: Mapping[str, str],
    grace: float,
) -> ProcessGroup:
    commands = zip(names(processes), processes.values(), strict=True)
    return ProcessGroup(
        app=identity.app,
        release=identity.release,
        directory=str(identity.directory),
        environment=for_processes(identity, host, config),
        processes=tuple(Process(name, command, ports[name]) for name, command in commands),
        grace=grace,
    )
