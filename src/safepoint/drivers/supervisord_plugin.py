"""Runs inside supervisord, as an RPC namespace: what became of a group's processes, and how often they ended.

supervisord by itself does not count that, forgets the exit status of what ended within `startsecs`, as a broken release
does, and may take a death for a good start: it looks once a second. Touches nothing but supervisord's own records.
"""

from __future__ import annotations

import os
import select
import signal
from typing import Any

from supervisor import events, loggers
from supervisor.states import getProcessStateDescription


class Plugin:
    """Named as `supervisor.rpcinterface_factory` in the configuration. Lives as long as supervisord."""

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        _survive_full_disks()
        _Wakeup(supervisord.options.get_socket_map())
        _remember_endings(supervisord.options)
        _forget_errors(supervisord.options.poller)
        events.subscribe(events.ProcessStateBackoffEvent, _count_failure)
        events.subscribe(events.ProcessStateExitedEvent, _count_failure)

    def group(self, name: str) -> list[dict[str, Any]]:
        """Each process of a loaded group; none where it is not loaded."""
        self._supervisord.reap()
        group = self._supervisord.process_groups.get(name)
        return [_describe(process) for process in group.processes.values()] if group is not None else []

    def groups(self) -> list[str]:
        return list(self._supervisord.process_groups)


def _survive_full_disks() -> None:
    """What cannot be logged is lost. supervisord would say so on its stderr, which is a file on the same disk, and die
    of the error that it gets there; all apps with it."""
    loggers.Handler.handleError = lambda _handler: None


class _Wakeup:
    """Makes supervisord go round when a child has died. Its poll goes on after a signal (PEP 475), for up to a second.

    By then what crashed at once has been up for `startsecs`, so that a crash loop is never given up.
    """

    def __init__(self, socket_map: dict[int, Any]) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        socket_map[self._read] = self

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        os.read(self._read, 4096)

    def handle_error(self) -> None:
        """Nothing to read after all: supervisord expects this of everything in its map."""


def _describe(process: Any) -> dict[str, Any]:
    return {
        "name": process.config.name,
        "pid": process.pid,
        "state": getProcessStateDescription(process.get_state()),
        "failures": getattr(process, "safepoint_failures", 0),
        "ending": getattr(process, "safepoint_ending", ""),
        "error": process.spawnerr or "",
    }


def _remember_endings(options: Any) -> None:
    """Look at every wait status as it passes: later it is gone. Subprocess.finish would be a patch of a whole class."""
    waitpid = options.waitpid

    def remembering() -> tuple[int | None, int | None]:
        pid, status = waitpid()
        process = options.pidhistory.get(pid) if pid else None
        if process is not None:
            process.safepoint_ending = ending(status)
        return pid, status

    options.waitpid = remembering


def _forget_errors(poller: Any) -> None:
    """Stop looking at a descriptor that has nothing but an error: supervisord takes no notice, and would turn for ever.

    It happens when a group is removed and another is added within one round. The descriptor of the first stays
    registered, and its number is by then an end of a pipe to the second.
    """
    poll_fds = poller._poll_fds

    def forgetting(timeout: float) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = poll_fds(timeout)
        for fd, mask in found:
            if mask == select.POLLERR:
                poller.unregister_readable(fd)
        return found

    poller._poll_fds = forgetting


def _count_failure(event: Any) -> None:
    process = event.process
    process.safepoint_failures = getattr(process, "safepoint_failures", 0) + 1
    if not process.pid:  # it was not even forked: how an earlier one ended says nothing about this
        process.safepoint_ending = ""


def ending(status: int) -> str:
    """A wait status (wait(2)) as a clause for people."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
