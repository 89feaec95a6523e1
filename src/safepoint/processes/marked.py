"""The processes of a scope as /proc shows them: by the marker in their environment, and by descent.

It finds what PDEATHSIG or the kernel should have ended already, and what left its cgroup. It cannot find a process
that wiped its environment and whose ancestors in the tree are all dead; with `cgroup` and `pidns` there is none.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator

from safepoint.core.plan import ProcessIdentity
from safepoint.processes import containment, identity
from safepoint.record import Record

KEEPER_TIMEOUT = 15.0
"""Seconds that a keeper has to end its tree before everything in sight is killed, itself too."""


class Seen(Record):
    identity: ProcessIdentity
    parent: int
    launcher: bool
    """It is one of ours: a keeper, or one that has not started its command yet."""


def find(name: str) -> dict[int, Seen]:
    """The live processes of a scope, by pid, without ourselves. `name` is that of `containment.name`."""
    if not _first_look(name)[1]:
        return {}  # as it is most of the time: nothing else has to be known of anybody then
    everyone: dict[int, Seen] = {}
    children: dict[int, list[int]] = {}
    todo = []
    for pid in _pids():
        if (seen := _look(pid, name)) is None:
            continue
        process, marked = seen
        everyone[pid] = process
        children.setdefault(process.parent, []).append(pid)
        if marked:
            todo.append(pid)
    found: dict[int, Seen] = {}
    while todo:
        pid = todo.pop()
        if pid not in found:
            found[pid] = everyone[pid]
            todo += children.get(pid, [])
    found.pop(os.getpid(), None)
    return found


def kill(name: str, deadline: float) -> tuple[bool, set[int]]:
    """SIGKILL all of them and see them dead; whether there were any, and those that still live at `deadline`."""
    keepers, any_found = _first_look(name)
    if not any_found:
        return False, set()
    _end_by_keepers(keepers, deadline)
    while found := find(name):
        # All stopped before one is killed: nothing forks, no orphan gets out of sight, a fork bomb stands still.
        stopped = dict(found)
        _signal(found, signal.SIGSTOP)
        while fresh := {pid: seen for pid, seen in find(name).items() if pid not in stopped}:
            _signal(fresh, signal.SIGSTOP)
            stopped |= fresh
        _signal(stopped, signal.SIGKILL)
        living = {pid for pid, seen in stopped.items() if not wait_dead(seen.identity, deadline)}
        if living:
            return True, living
    return True, set()


def _end_by_keepers(keepers: dict[int, Seen], deadline: float) -> None:
    """A keeper is the one that knows when nothing is left: a scan of /proc can miss a process, its wait(2) cannot.

    One that the tree itself has stopped or killed is left to the scan.
    """
    _signal(keepers, containment.END)
    _signal(keepers, signal.SIGCONT)
    patience = min(deadline, time.monotonic() + KEEPER_TIMEOUT)
    for seen in keepers.values():
        wait_dead(seen.identity, patience)


def _first_look(name: str, pids: Iterable[int] | None = None) -> tuple[dict[int, Seen], bool]:
    """Its keepers, among `pids` or everybody, and whether anybody has the name in its command line or environment.

    A tree has two keepers, which began before it: most of it is not looked at. The dead have no command line, of which
    there are many just after a kill.
    """
    keepers: dict[int, Seen] = {}
    any_found, text = False, name.encode()
    for pid in _pids() if pids is None else pids:
        line = _read(pid, "cmdline")
        if text in line:
            any_found = True
            seen = _look(pid, name)
            if seen is not None and seen[1] and seen[0].launcher:
                keepers[pid] = seen[0]
                if len(keepers) == 2:
                    break
        elif line and not any_found:
            any_found = text in _read(pid, "environ")
    return keepers, any_found


def terminate(name: str, started: int) -> None:
    """SIGTERM every process of the scope. A keeper passes it to its tree, so the tree does not get it twice.

    `started`: the pid that the caller's own launcher had. It is a keeper most of the time, and need not be looked for.
    """
    keepers = _first_look(name, [started])[0] or _first_look(name)[0]
    outermost = {pid: seen for pid, seen in keepers.items() if seen.parent not in keepers}
    _signal(outermost or find(name), signal.SIGTERM)


def wait_dead(process: ProcessIdentity, deadline: float) -> bool:
    """False where it lives at `deadline`, in seconds of time.monotonic()."""
    descriptor = identity.open_pidfd(process)
    if descriptor is None:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
    finally:
        os.close(descriptor)


def _signal(processes: dict[int, Seen], sig: int) -> None:
    for seen in processes.values():
        try:
            identity.signal(seen.identity, sig)
        except PermissionError:
            continue  # a set-user-ID program; it counts as living


def _look(pid: int, name: str) -> tuple[Seen, bool] | None:
    """The process and whether it is marked; None where it is dead."""
    found = identity.read(pid)
    if found is None or found.dead:
        return None
    environment, arguments = _read(pid, "environ").split(b"\0"), _read(pid, "cmdline").split(b"\0")
    launcher = arguments[: len(containment.LAUNCHER)] == [os.fsencode(part) for part in containment.LAUNCHER]
    marker = f"{containment.MARKER}={name}".encode()
    marked = marker in environment or (launcher and name.encode() in arguments)
    return Seen(found.identity, found.parent, launcher), marked


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208 - as `identity.contents`


def _read(pid: int, file: str) -> bytes:
    try:
        return identity.contents(pid, file)
    except OSError:
        return b""  # gone, or someone else's
