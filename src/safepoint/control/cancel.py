"""Asking for an operation to be cancelled: by the control socket, else by the pidfile, else by recovery.

Whichever it is, the verdict is given in the journal, under the store's lock, and is binding.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from safepoint.control.client import Connection, NoAnswer
from safepoint.control.protocol import BadFrame
from safepoint.core import wording
from safepoint.core.events import Verdict
from safepoint.processes import identity
from safepoint.state import pidfile
from safepoint.state.journal import Journal
from safepoint.state.paths import Home
from safepoint.state.store import Store


@dataclass(frozen=True, slots=True)
class Answer:
    verdict: Verdict
    text: str
    """For people: what will happen, or why nothing will."""
    note: str = ""
    """How the worker was reached where it was not by the socket."""


def request_cancel(
    home: Home, store: Store, number: int, *, by: str, reason: str, force: bool, recover: Callable[[str], object]
) -> Answer:
    """Returns once the request is journalled and the worker, or whoever takes over, knows. Raises NoSuchOperation."""
    operation = store.operation(number)
    if operation.ending is None:
        try:
            with Connection.to(home, operation.app) as connection:
                answer = connection.ask("cancel", number, by=by, reason=reason, force=force)
                return Answer(Verdict(answer["verdict"]), answer["answer"])
        except (NoAnswer, BadFrame):
            pass  # it is dead, hung, or has just ended: the journal knows
    journal = Journal(store, number)
    verdict = journal.request_cancel(by=by, reason=reason, force=force)
    text = wording.answer(journal.operation, verdict)
    note = ""
    if journal.operation.ending is None and not recover(operation.app):
        note = _signal(home, operation.app, number, force=force, recover=recover)
    return Answer(verdict, text, note)


def _signal(home: Home, app: str, number: int, *, force: bool, recover: Callable[[str], object]) -> str:
    """The worker lives, by its lock, but does not answer."""
    signed = pidfile.read(home.pidfile(app))
    if signed is None or signed[1] != number or not identity.alive(signed[0]):
        return ""  # it is just beginning, and finds the request in the journal
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
    recover(app)
    return f"the deploy process {worker.pid} did not answer and was killed; another one takes over"
