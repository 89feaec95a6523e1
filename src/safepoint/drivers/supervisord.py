"""The runtime on supervisord: a release is a group `APP.vN` of it, and each of its processes runs contained.

May touch `run/supervisor.d`, the specs, the apps' process logs, and processes.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from safepoint.core.failures import StepError
from safepoint.core.release import Process, ProcessGroup, ProcessStatus
from safepoint.drivers import supervisord_group as groups
from safepoint.drivers import supervisord_logs as logs
from safepoint.drivers.supervisord_daemon import Daemon
from safepoint.drivers.supervisord_group import GroupFiles
from safepoint.drivers.supervisord_status import status_of, waiting
from safepoint.errors import UserError
from safepoint.hints import TYPE_CHECKING, Any
from safepoint.processes.contained import ContainedCommands
from safepoint.processes.spec import path_of, write_spec
from safepoint.state.paths import Home

if TYPE_CHECKING:
    from safepoint.drivers.supervisord_rpc import Client

START_TIMEOUT = 60.0
"""Seconds for supervisord to launch what it was given: it does so in its next round."""
STOP_MARGIN = 60.0
"""Seconds past a group's grace until its stop counts as failed. SIGKILL comes right after the grace."""

_NOT_RUNNING = "supervisord does not run; start it with `safepoint serve`"


class Supervisord:
    """Satisfies engine.ports.Runtime. The second half is for the server that keeps supervisord itself running."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._daemon = Daemon(home)
        self._contained = ContainedCommands(home)

    # What the engine needs.

    def start(self, group: ProcessGroup) -> None:
        """Returns once each process was launched. Leaves a group that is loaded with the same definition as it is.

        A group of other definition under this identity is stopped first. Raises StepError.
        """
        from safepoint.drivers.supervisord_rpc import NotRunning

        files = GroupFiles(self._home, group.app, group.release)
        try:
            with self._daemon.client() as call:
                loaded = bool(call("safepoint.group", groups.group_name(group.app, group.release)))
                if not (loaded and files.holds(group)):
                    self.stop(group.app, group.release)
                    if group.processes:
                        self._load(call, group, files)
                self._await_launch(call, group)
        except NotRunning:
            raise StepError(_NOT_RUNNING) from None
        except UserError as error:
            raise StepError(str(error)) from None
        except OSError as error:
            raise StepError(f"cannot write {error.filename or 'its files'}: {error.strerror}") from error

    def stop(self, app: str, release: int) -> None:
        """Where supervisord does not run, SIGKILL at once. Raises StepError where something does not die."""
        from safepoint.drivers.supervisord_rpc import NotRunning

        files = GroupFiles(self._home, app, release)
        names = set(files.processes())
        with suppress(NotRunning), self._daemon.client() as call:
            names |= {each["name"] for each in _processes(call, app, release)}
            self._unload(call, app, release, files.grace())
        for name in sorted(names):
            # What left the process's group, or lost its supervisord.
            self._contained.end(groups.program_name(app, release, name))
        try:
            files.remove()
        except OSError as error:
            raise StepError(f"cannot remove {error.filename}: {error.strerror}") from None

    def status(self, app: str, release: int) -> tuple[ProcessStatus, ...]:
        """`restarts` counts how often a process ended, or could not be launched, without having been stopped.

        Where supervisord does not run, or does not have the group: its processes, as not running. Raises StepError.
        """
        from safepoint.drivers.supervisord_rpc import NotRunning

        missing = "supervisord does not have it"
        try:
            with self._daemon.client() as call:
                found = {each["name"]: status_of(each) for each in _processes(call, app, release)}
        except NotRunning:
            found, missing = {}, "supervisord does not run"
        for name in GroupFiles(self._home, app, release).processes():
            found.setdefault(name, ProcessStatus(name, pid=0, running=False, restarts=0, detail=missing))
        return tuple(found.values())

    def tail(self, app: str, release: int, lines: int) -> Mapping[str, list[str]]:
        """Also of a release that was stopped, until it is forgotten."""
        found = logs.of_release(self._home.process_logs(app), release)
        return {name: logs.last_lines(path, lines) for name, path in found}

    def forget(self, app: str, release: int) -> None:
        """Remove the logs of a release that was stopped. Idempotent."""
        for _, path in logs.of_release(self._home.process_logs(app), release):
            logs.remove(path)

    # What the server needs.

    def ensure_running(self) -> int:
        """Its pid. A new one runs nothing: what a dead one left behind is ended, and releases have to be started again.

        Raises UserError. Callers in different processes and threads do not race.
        """
        with self._daemon.lock():
            pid = self._daemon.ready()
            if pid is None:
                self._daemon.end_unheard()
                self._end_orphans()
                pid = self._daemon.launch()
            return pid

    def running(self) -> bool:
        return self.pid() is not None

    def pid(self) -> int | None:
        return self._daemon.pid()

    def groups(self) -> set[tuple[str, int]]:
        """(app, release) of what is loaded now. Raises StepError."""
        from safepoint.drivers.supervisord_rpc import NotRunning

        try:
            with self._daemon.client() as call:
                found = (groups.of_group(name) for name in call("safepoint.groups"))
                return {each for each in found if each is not None}
        except NotRunning:
            return set()

    def shutdown(self) -> None:
        """Stop every process, end supervisord; both are seen dead. Idempotent."""
        with self._daemon.lock():
            grace = max((files.grace() for files in self._left()), default=0.0)
            self._daemon.terminate(grace + STOP_MARGIN)
            self._end_orphans()

    def _load(self, call: Client, group: ProcessGroup, files: GroupFiles) -> None:
        """Needs no lock against other workers, and one that hangs would keep all of them waiting.

        Files come and go as a whole, supervisord takes one call at a time, and reading a configuration again starts
        nothing: whoever's reload is the last before the group is added, it has read this file.
        """
        from safepoint.drivers.supervisord_rpc import CANNOT_REREAD, Refused

        groups.directory(self._home).mkdir(mode=0o700, exist_ok=True)
        files.define(group)
        commands = {process.name: self._contain(group, process) for process in group.processes}
        self._make_log_directory(group.app)
        # Relative, as in supervisord's own configuration: see there.
        directory = os.path.relpath(self._home.process_logs(group.app), self._home.run)
        files.configure(groups.configuration(group, commands, directory))
        try:
            call("supervisor.reloadConfig")
        except Refused as refused:
            if refused.code != CANNOT_REREAD:
                raise
            # One group whose log directory is gone must not keep all the others from being loaded.
            for each in self._left():
                self._make_log_directory(each.app)
            call("supervisor.reloadConfig")
        call("supervisor.addProcessGroup", groups.group_name(group.app, group.release))

    def _contain(self, group: ProcessGroup, process: Process) -> tuple[str, ...]:
        scope = groups.program_name(group.app, group.release, process.name)
        data = self._home.data(group.app)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        return write_spec(
            path_of(self._home, scope),
            scope=scope,
            home=self._home.root,
            argv=("/bin/sh", "-c", process.command),
            directory=Path(group.directory),
            environment=_environment(group, process),
            app=group.app,
            directories=(Path(group.directory), data),
        )

    def _make_log_directory(self, app: str) -> None:
        self._home.process_logs(app).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _await_launch(self, call: Client, group: ProcessGroup) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while any(waiting(each) for each in _processes(call, group.app, group.release)):
            # Each call makes supervisord go round once more, and that is what launches them.
            if time.monotonic() > deadline:
                raise StepError(f"supervisord did not launch it within {START_TIMEOUT:g} seconds")

    def _unload(self, call: Client, app: str, release: int, grace: float) -> None:
        from safepoint.drivers.supervisord_rpc import BAD_NAME, STILL_RUNNING, Refused

        name = groups.group_name(app, release)
        deadline = time.monotonic() + grace + STOP_MARGIN
        while processes := _processes(call, app, release):
            try:
                call("supervisor.stopProcessGroup", name, False)
                # supervisord would answer up to a second late if it was to wait for them.
                _await_deaths([each["pid"] for each in processes if each["pid"]], 1.0)
                call("supervisor.removeProcessGroup", name)
            except Refused as refused:
                # One that had ended by itself may have been started again between the two calls.
                if refused.code not in (BAD_NAME, STILL_RUNNING):
                    raise
            if time.monotonic() > deadline:
                raise StepError(f"{', '.join(each['name'] for each in processes)} of v{release} did not stop")

    def _end_orphans(self) -> None:
        for files in self._left():
            for process in files.processes():
                self._contained.end(groups.program_name(files.app, files.release, process))
            files.remove()

    def _left(self) -> list[GroupFiles]:
        """Of every group that has files here."""
        stems = {path.stem for path in groups.directory(self._home).glob("*.v*.*")}
        return [GroupFiles(self._home, *found) for stem in stems if (found := groups.of_group(stem))]


def _environment(group: ProcessGroup, process: Process) -> dict[str, str]:
    """What the release says, its PORT, and what no shell can do without where it says nothing of it."""
    release = Path(group.directory)
    path = f"{release / '.venv' / 'bin'}:{release / 'node_modules' / '.bin'}:{os.environ.get('PATH', os.defpath)}"
    return {"PATH": path, "HOME": str(release), "LANG": "C.UTF-8", **group.environment, "PORT": str(process.port)}


def _processes(call: Client, app: str, release: int) -> list[dict[str, Any]]:
    """As supervisord_plugin.Plugin has them, by the name that we know them by; none where it is not loaded."""
    found = call("safepoint.group", groups.group_name(app, release))
    return [each | {"name": groups.process_name(app, release, each["name"])} for each in found]


def _await_deaths(pids: list[int], timeout: float) -> None:
    """Wait until all of them are dead, or for `timeout` seconds. A zombie is dead."""
    deadline = time.monotonic() + timeout
    with ExitStack() as opened:
        poll, left = select.poll(), set[int]()
        for pid in pids:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                opened.callback(os.close, process)
                poll.register(process, select.POLLIN)
                left.add(process)
        while left and (remaining := deadline - time.monotonic()) > 0:
            for process, _ in poll.poll(remaining * 1000):
                poll.unregister(process)
                left.discard(process)
