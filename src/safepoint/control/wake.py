"""Telling a worker that something about its operation was journalled by somebody else."""

from __future__ import annotations

import signal
from contextlib import suppress

from safepoint.control.client import Connection, NoAnswer
from safepoint.control.protocol import BadFrame
from safepoint.core.operation import Operation
from safepoint.core.slots import slot_of
from safepoint.errors import UserError
from safepoint.processes import identity
from safepoint.state import pidfile
from safepoint.state.paths import Home

DEATH_SECONDS = 30.0
"""From a SIGKILL until it is said that it does not work."""


def wake(home: Home, operation: Operation, *, force: bool, slot: str = "", silent: bool = False) -> str:
    """By the control socket, else by SIGTERM to the pid that signed the lock; with `force` by SIGKILL, at last.

    Returns a sentence for people where it was not by the socket. `slot`: where the operation was, if it has ended.
    `silent`: it was asked a moment ago, and has let the time for an answer pass.
    Raises UserError where it is to be killed and does not die.
    """
    slot = slot or slot_of(operation)
    with suppress(NoAnswer, BadFrame):
        if not silent:
            with Connection.to(home, slot) as connection:
                connection.ask("look", operation.id)
                return ""
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
    if fd is not None and not identity.kill_and_wait(fd, DEATH_SECONDS):
        raise UserError(
            f"the deploy process {worker.pid} was killed and does not die: the kernel waits for a disk or a mount",
            f"once that answers, or after a reboot, `recover` finishes operation {operation.id}",
        )
    return f"the deploy process {worker.pid} did not answer and was killed; another one takes over"
