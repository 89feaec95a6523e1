"""One release's group, as files: its definition and supervisord's configuration, both for their owner only."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from safepoint.core.release import Process, ProcessGroup
from safepoint.drivers.supervisord_logs import file_name
from safepoint.hints import Any
from safepoint.record import asdict
from safepoint.state.paths import Home

_GROUP = re.compile(r"(.+)\.v(\d+)", re.ASCII)
DEFAULT_GRACE = 10.0


def directory(home: Home) -> Path:
    return home.run / "supervisor.d"


def group_name(app: str, release: int) -> str:
    return f"{app}.v{release}"


def of_group(name: str) -> tuple[str, int] | None:
    """The inverse of `group_name`; None where it is the name of something else."""
    match = _GROUP.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def program_name(app: str, release: int, process: str) -> str:
    """Also the process's scope of containment."""
    return f"{group_name(app, release)}.{process}"


def process_name(app: str, release: int, program: str) -> str:
    """The inverse of `program_name`."""
    return program.removeprefix(f"{group_name(app, release)}.")


class GroupFiles:
    """The files of one group. The definition is written first and removed last: it says what may have been started."""

    def __init__(self, home: Home, app: str, release: int) -> None:
        self.app, self.release = app, release
        name = group_name(app, release)
        self._configuration = directory(home) / f"{name}.conf"
        self._definition = directory(home) / f"{name}.json"

    def define(self, group: ProcessGroup) -> None:
        write_private(self._definition, json.dumps(_plain(group)))

    def configure(self, text: str) -> None:
        write_private(self._configuration, text)

    def holds(self, group: ProcessGroup) -> bool:
        """Whether this group, exactly, was written in full."""
        return self._read() == _plain(group) and self._configuration.exists()

    def processes(self) -> list[str]:
        """Names of the processes that may have been started."""
        return [process["name"] for process in self._read().get("processes", [])]

    def grace(self) -> float:
        """Seconds, of the group as it was defined."""
        return float(self._read().get("grace", DEFAULT_GRACE))

    def remove(self) -> None:
        for path in (self._configuration, self._definition):
            path.unlink(missing_ok=True)
            _unfinished(path).unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._definition.read_bytes()))
        except (FileNotFoundError, ValueError):
            return {}


def configuration(group: ProcessGroup, commands: Mapping[str, Sequence[str]], logs: str) -> str:
    """supervisord's sections for a group, whose processes are run by these commands (argument lists).

    `logs` is the directory of their logs, relative to the working directory of supervisord.
    """
    programs = [program_name(group.app, group.release, process.name) for process in group.processes]
    head = f"[group:{group_name(group.app, group.release)}]\nprograms={','.join(programs)}\n"
    return head + "".join(_program(group, process, commands[process.name], logs) for process in group.processes)


def _program(group: ProcessGroup, process: Process, command: Sequence[str], logs: str) -> str:
    # The whole process group gets the signals: a contained command leads it (cgroup), or its keeper is alone in it.
    return f"""
[program:{program_name(group.app, group.release, process.name)}]
command={quoted(command)}
autostart=true
autorestart=true
startsecs=1
startretries=3
stopsignal=TERM
stopwaitsecs={max(1, math.ceil(group.grace))}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{file_name(group.release, process.name)}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=1
"""


def quoted(command: Sequence[str]) -> str:
    """An argument list as a value of supervisord's configuration.

    That is split as a shell would, but before that ` ;` and ` #` begin a comment, `%(here)s` is replaced, and %(name)s
    is, where % is not doubled: quoted or not. Of each pair both are in single quotes here, or the first ends an
    argument and the second is a quote; so closing and opening quotes between the two changes nothing but that.
    """
    return re.sub(r"(\s)([;#])|(%)(\()", r"\1\3''\2\4", shlex.join(command)).replace("%", "%%")


def write_private(path: Path, text: str) -> None:
    """Atomically, for the owner only. Not synced: after a power cut nothing of `run` counts."""
    temporary = _unfinished(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:  # noqa: PTH123  a descriptor
        file.write(text)
    temporary.replace(path)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _plain(group: ProcessGroup) -> dict[str, Any]:
    return {
        "app": group.app,
        "release": group.release,
        "directory": group.directory,
        "environment": dict(group.environment),
        "processes": [asdict(process) for process in group.processes],
        "grace": group.grace,
    }
