"""The journal of one operation: the only writer of its events.

Several processes may write to one journal: the worker, and whoever cancels when the worker does not answer. The
store's write lock decides who was first, so a cancel that races the commit has exactly one answer. Whoever was
overtaken reads what is new and decides again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from safepoint.core import events as e
from safepoint.core.failures import Overtaken
from safepoint.core.operation import Operation, apply, ending, verdict
from safepoint.core.plan import START, Kind
from safepoint.state.store import Store


class Journal:
    def __init__(self, store: Store, operation: int, *, on_record: Callable[[Operation], None] | None = None) -> None:
        """`on_record` is called once what this writer has appended is durable. Raises NoSuchOperation."""
        self._store = store
        self._on_record = on_record
        self.operation = store.operation(operation)

    def append(self, event: e.Event) -> None:
        """Make `event` durable. Raises Overtaken, with nothing written, where it was decided on old knowledge."""
        with self._transaction() as db:
            overtaken = self._catch_up()
            if not overtaken:
                self._write(db, event)
        if overtaken:
            raise Overtaken
        self._written()

    def record(self, event: e.Event) -> None:
        """Make `event` durable whatever else was written meanwhile: it has happened."""
        with self._transaction() as db:
            self._catch_up()
            self._write(db, event)
        self._written()

    def request_cancel(
        self, *, by: str, reason: str, force: bool, door: str = "", requested: float | None = None
    ) -> e.Verdict:
        """Give the verdict and journal the request, as one."""
        with self._transaction() as db:
            return self.request_cancel_within(db, by=by, reason=reason, force=force, door=door, requested=requested)

    def request_cancel_within(
        self,
        db: sqlite3.Connection,
        *,
        by: str,
        reason: str,
        force: bool,
        door: str = "",
        requested: float | None = None,
    ) -> e.Verdict:
        """The same, in a transaction of the caller's."""
        self._catch_up()
        at, answer = time.time(), verdict(self.operation)
        event = e.CancelRequested(
            at=at, by=by, reason=reason, verdict=answer, force=force, door=door, requested=requested
        )
        self._write(db, event)
        return answer

    def supersede_within(self, db: sqlite3.Connection, by: int) -> None:
        """End a waiting operation in favour of a newer one, in a transaction of the caller's."""
        self._catch_up()
        self._write(db, e.Superseded(at=time.time(), operation=by))
        self._write(db, e.Ended(at=time.time(), ending=e.Ending.SUPERSEDED))

    def receive(self) -> None:
        """Journal that the objects of the push are there; nothing happens where that is known, or it has ended."""
        with self._transaction() as db:
            self._catch_up()
            news = self.operation.ending is None and not self.operation.received
            if news:
                self._write(db, e.Received(at=time.time()))
        if news:
            self._written()

    def end_waiting_within(self, db: sqlite3.Connection) -> None:
        """End a waiting operation that is turned already: nothing of it has to be undone."""
        self._catch_up()
        ended = ending(self.operation)
        assert ended is not None
        self._write(db, e.Ended(at=time.time(), ending=ended))

    def refresh(self) -> None:
        """Read what others have written."""
        self._catch_up()

    def _written(self) -> None:
        if self._on_record is not None:
            self._on_record(self.operation)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        before = self.operation
        try:
            with self._store.transaction() as db:
                yield db
        except BaseException:
            self.operation = before
            raise

    def _catch_up(self) -> bool:
        new = self._store.events(self.operation.id, after=self.operation.length)
        for event in new:
            self.operation = apply(self.operation, event)
        return bool(new)

    def _write(self, db: sqlite3.Connection, event: e.Event) -> None:
        after = apply(self.operation, event)
        # ASCII: a reason may quote a file's name that is not UTF-8, and SQLite takes nothing else.
        text = json.dumps(e.to_json(event), separators=(",", ":"))
        db.execute("INSERT INTO events VALUES (?, ?, ?)", (after.id, after.length, text))
        if isinstance(event, e.Committed):
            _make_current(db, after)
        if isinstance(event, e.Begun):
            db.execute("UPDATE operations SET waiting = 0 WHERE id = ?", (after.id,))
            if after.plan.kind is Kind.DEPLOY:  # the configuration may have changed while it waited
                config = json.dumps(self._store.config(after.app))
                db.execute("UPDATE operations SET environment = ? WHERE id = ?", (config, after.id))
        if after.ending is not self.operation.ending:
            how = after.ending.value if after.ending else None
            db.execute("UPDATE operations SET ending = ? WHERE id = ?", (how, after.id))
        self.operation = after


def _make_current(db: sqlite3.Connection, operation: Operation) -> None:
    """The release becomes current in the very transaction of the commit record: there is no moment between them."""
    plan = operation.plan
    db.execute("UPDATE releases SET state = 'kept' WHERE app = ? AND state = 'current'", (plan.app,))
    ports = json.dumps((operation.step(START).data or {}).get("ports", {}))
    if plan.kind is Kind.ROLLBACK:
        db.execute(
            "UPDATE releases SET state = 'current', ports = ? WHERE app = ? AND number = ?",
            (ports, plan.app, plan.release),
        )
        return
    (environment,) = db.execute("SELECT environment FROM operations WHERE id = ?", (operation.id,)).fetchone()
    assert operation.committed is not None
    db.execute(
        "INSERT INTO releases VALUES (?, ?, ?, ?, ?, 'current', ?, ?, ?, ?)",
        (
            plan.app, plan.release, plan.commit, operation.id, operation.committed,
            json.dumps(plan.settings.to_json()), json.dumps(dict(plan.processes)), ports, environment,
        ),
    )  # fmt: skip
