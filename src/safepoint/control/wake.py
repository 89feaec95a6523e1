"""Telling a worker that something about its operation was journalled by somebody else."""

from __future__ import annotations

import signal

from safepoint.control.client import Connection, NoAnswer
from safepoint.control.protocol import BadFrame
from safepoint.core.operation import Operation
from safepoint.core.slots import slot_of
from safepoint.processes import identity
from safepoint.state import pidfile
from safepoint.state.paths import Home


def wake(home: Home, operation: Operation, *, force: bool, slot: str = "") -> str:
    """By the control socket, else by SIGTERM to the pid that signed the lock; with `force` by SIGKILL, at last.

    Returns a sentence for people where it was not by the socket. `slot`: where the operation was, if it has ended.
    """
    slot = slot or slot_of(operation)
    try:
        with Connection.to(home, slot) as connection:
            connection.ask("look", operation.id)
            return ""
    except (NoAnswer, BadFrame):
        pass
    signed = pidfile.read(home.pidfile(slot))
    if signed is None or signed[1] != operation.id or not identity.alive(signed[0]):
        return ""  # it is just beginning, or dead: what is journalled is found there
    worker = signed[0]
    if not force:
        identity.signal(worker, signal.SIGTERM)
        return (
            f"the deploy process {worker.pid} does not answer; it has got a SIGTERM. "
            "If it stays silent, `operation:cancel --force` ends it"
        )
    fd = identity.open_pidfd(worker)
    if fd is not None:
        identity.kill_and_wait(fd)
    return f"the deploy process {worker.pid} did not answer and was killed; another one takes over"
