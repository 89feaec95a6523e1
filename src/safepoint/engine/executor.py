"""Runs one operation to its end: decide, journal the intent, act, journal the outcome; the same after a crash.

All decisions are `core.decisions.decide` over the journal. This loop only acts, and turns what happens into events.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from safepoint import machine
from safepoint.core import events as e
from safepoint.core import wording
from safepoint.core.decisions import Action, AwaitTurn, Commit, Do, End, Undo, decide
from safepoint.core.failures import Interrupted, Overtaken, StepError
from safepoint.core.operation import Operation
from safepoint.engine.context import Context
from safepoint.engine.steps import handler
from safepoint.errors import UserError
from safepoint.hints import Protocol


class Journal(Protocol):
    @property
    def operation(self) -> Operation: ...

    def append(self, event: e.Event) -> None: ...

    def record(self, event: e.Event) -> None: ...


class Executor:
    def __init__(self, journal: Journal, context: Context, *, on_defect: Callable[[str], str]) -> None:
        """`on_defect` is called in an except block for what no step should raise; it returns a reference."""
        self._journal = journal
        self._ctx = context
        self._on_defect = on_defect

    def run(self) -> Operation:
        while (action := decide(self._journal.operation)) is not None:
            try:
                self._perform(action)
            except Overtaken:
                continue
        return self._journal.operation

    def _perform(self, action: Action) -> None:
        match action:
            case Do(step):
                self._do(step)
            case Undo(step):
                self._undo(step)
            case AwaitTurn():
                raise AssertionError("an executor is for operations whose turn has come")
            case Commit():
                self._journal.append(e.Committed(at=time.time()))
                self._ctx.output.say(wording.committed(self._ctx.plan))
            case End(ending):
                self._ctx.leave()
                self._journal.append(e.Ended(at=time.time(), ending=ending))

    def _do(self, step: str) -> None:
        record = self._journal.operation.step(step)
        data = record.data if record.data is not None else self._prepare(step)
        self._journal.append(e.StepStarted(at=time.time(), step=step, data=data))
        self._say(wording.doing(self._ctx.plan, step))
        self._journal.record(self._outcome(step, data))

    def _prepare(self, step: str) -> e.Data:
        """A step that cannot be prepared fails when it is done, where failing is provided for."""
        try:
            return handler(step).prepare(self._ctx)
        except Exception as error:
            return {"unprepared": self._why(step, error)}

    def _outcome(self, step: str, data: e.Data) -> e.Event:
        try:
            warnings = self._act(step, data)
        except Interrupted:
            return e.StepInterrupted(at=time.time(), step=step)
        except Exception as error:  # a defect or a broken machine: the app must be restored all the same
            reason = self._why(step, error)
        else:
            return e.StepDone(at=time.time(), step=step, warnings=warnings)
        if self._journal.operation.committed is not None:  # nothing unwinds any more
            return e.StepDone(at=time.time(), step=step, warnings=(f"{step}: {reason}",))
        return e.StepFailed(at=time.time(), step=step, reason=reason)

    def _act(self, step: str, data: e.Data) -> tuple[str, ...]:
        if "unprepared" in data:
            raise StepError(data["unprepared"])
        return handler(step).do(self._ctx, data)

    def _undo(self, step: str) -> None:
        self._journal.append(e.UndoStarted(at=time.time(), step=step))
        self._say(wording.undoing(self._ctx.plan, step))
        data = self._journal.operation.step(step).data or {}
        try:
            warnings = () if "unprepared" in data else handler(step).undo(self._ctx, data)
        except Exception as error:
            self._journal.record(e.UndoFailed(at=time.time(), step=step, reason=self._why(step, error)))
        else:
            self._journal.record(e.UndoDone(at=time.time(), step=step, warnings=warnings))

    def _why(self, step: str, error: Exception) -> str:
        """One clause for people. To be called in the except block. Interrupted is none of these."""
        trouble = machine.trouble(error)
        if isinstance(error, StepError | UserError):
            reason = str(error)
        else:
            reason = self._on_defect(f"{step}: {error}") if trouble is None else trouble.message
        if machine.is_full(self._ctx.places.repository):  # then that is behind whatever was said
            return f"{reason}; {machine.FULL}: free some, and try again"
        return reason if trouble is None else f"{reason}; {trouble.hint}"

    def _say(self, line: str) -> None:
        if line:
            self._ctx.output.say(line)
