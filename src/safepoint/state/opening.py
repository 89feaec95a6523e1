"""Opening an operation: what becomes of it is decided and journalled in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from safepoint.core.plan import Plan
from safepoint.core.queueing import OnBusy, Reject, Wait, admit
from safepoint.record import Record, replace
from safepoint.state.journal import Journal
from safepoint.state.store import Store


class AppBusy(Exception):
    """The app has no room for another operation; `operation` is in the way."""

    def __init__(self, operation: int) -> None:
        super().__init__(operation)
        self.operation = operation


class Opened(Record):
    operation: int
    queued: bool
    superseded: tuple[int, ...] = ()
    """Waiting operations that ended in its favour, or had been cancelled or refused and had not ended yet."""
    cancelled: int | None = None
    """The running operation that it has asked to be cancelled."""


def open_operation(
    store: Store,
    plan: Plan,
    *,
    by: str,
    door: str,
    reason: str,
    environment: Mapping[str, str],
    policy: OnBusy,
    may_start: bool,
    permit_cancel: Callable[[int], object] = lambda _running: None,
) -> Opened:
    """`may_start`: the caller holds the app's lock. Without it an operation can only queue.

    `permit_cancel` is asked about the running operation that is to be cancelled, and may raise NotPermitted. Raises
    AppBusy; with `operation` 0 where the app is free and the caller has not got the lock: try again.
    """
    with store.transaction() as db:
        running, waiting = store.unfinished(plan.app), store.waiting(plan.app)
        turned: tuple[int, ...] = ()
        if waiting is not None and waiting.turned:
            # It was cancelled or refused, and its worker has only not come to say so: its place is free.
            Journal(store, waiting.id).end_waiting_within(db)
            turned, waiting = (waiting.id,), None
        admission = admit(running, () if waiting is None else (waiting,), policy)
        if isinstance(admission, Reject):
            raise AppBusy(admission.by)
        if isinstance(admission, Wait):
            if admission.cancels is not None:
                permit_cancel(admission.cancels)
            opened = _queue(store, db, plan, admission, by=by, door=door, reason=reason, environment=environment)
            return replace(opened, superseded=(*turned, *opened.superseded))
        if not may_start:
            raise AppBusy(0)
        return Opened(
            store.insert_operation(plan, by=by, door=door, reason=reason, environment=environment), queued=False
        )


def _queue(
    store: Store,
    db: sqlite3.Connection,
    plan: Plan,
    admission: Wait,
    *,
    by: str,
    door: str,
    reason: str,
    environment: Mapping[str, str],
) -> Opened:
    number = store.next_operation()
    for each in admission.supersedes:
        Journal(store, each).supersede_within(db, number)
    inserted = store.insert_operation(plan, by=by, door=door, reason=reason, environment=environment, queued=True)
    assert inserted == number
    cancelled = None
    if admission.cancels is not None:
        journal = Journal(store, admission.cancels)
        why = f"superseded by operation {number}"
        verdict = journal.request_cancel_within(db, by=by, door=door, reason=why, force=False)
        cancelled = admission.cancels if verdict.accepted else None
    return Opened(number, True, admission.supersedes, cancelled)
