"""Asking for an operation to be cancelled: by the control socket, else by the pidfile, else by recovery.

Whichever it is, the verdict is given in the journal, under the store's lock, and is binding.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from safepoint.control.client import Connection, NoAnswer
from safepoint.control.protocol import BadFrame
from safepoint.control.wake import wake
from safepoint.core import wording
from safepoint.core.events import Verdict
from safepoint.core.slots import slot_of
from safepoint.record import Record
from safepoint.state.journal import Journal
from safepoint.state.paths import Home
from safepoint.state.store import Store
from safepoint.state.trouble import Held


class Answer(Record):
    verdict: Verdict
    text: str
    """For people: what will happen, or why nothing will."""
    note: str = ""
    """How the worker was reached where it was not by the socket."""


def request_cancel(
    home: Home,
    store: Store,
    number: int,
    *,
    by: str,
    door: str,
    reason: str,
    force: bool,
    recover: Callable[[str], object],
) -> Answer:
    """Returns once the request is journalled and the worker, or whoever takes over, knows. Raises NoSuchOperation.

    Raises UserError where the worker can be neither reached nor ended.
    """
    requested = time.time()
    operation, silent = store.operation(number), False
    if operation.ending is None:
        try:
            with Connection.to(home, slot_of(operation)) as connection:
                answer = connection.ask(
                    "cancel", number, by=by, door=door, reason=reason, force=force, requested=requested
                )
                return Answer(Verdict(answer["verdict"]), answer["answer"])
        except NoAnswer as none:  # it is dead or hung: the journal knows
            silent = not none.refused
        except BadFrame:  # it has just ended
            pass
    journal = Journal(store, number)
    note = ""
    try:
        verdict = journal.request_cancel(by=by, door=door, reason=reason, force=force, requested=requested)
    except Held:
        # By this very worker, perhaps: then nothing can be journalled before it is dead.
        note = wake(home, journal.operation, force=True, silent=silent) if force else ""
        if not note:
            raise
        verdict = journal.request_cancel(by=by, door=door, reason=reason, force=force, requested=requested)
    text = wording.answer(journal.operation, verdict)
    if journal.operation.ending is None and not recover(operation.app):
        note = wake(home, journal.operation, force=force, silent=silent) or note
        if force:
            recover(operation.app)
    return Answer(verdict, text, note)
