"""An operation, as its journal tells it. `apply` is the only transition: the live run, `ps` and recovery all use it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from safepoint.core import events as e
from safepoint.core.plan import OnCancel, Plan
from safepoint.record import Record, replace


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    UNDOING = "undoing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STUCK = "stuck"
    SUPERSEDED = "superseded"


class StepState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNDOING = "undoing"
    UNDONE = "undone"
    UNDO_FAILED = "undo failed"


class IllegalEvent(Exception):
    """The journal says something that cannot follow from what it said before: a defect, never bad luck."""


class StepRecord(Record):
    name: str
    state: StepState = StepState.PENDING
    started: float | None = None
    ended: float | None = None
    data: e.Data | None = None
    warnings: tuple[str, ...] = ()
    reason: str = ""


class Cancel(Record):
    by: str
    reason: str
    at: float
    verdict: e.Verdict
    force: bool


class Header(Record):
    """What is known of an operation before its first event."""

    id: int
    by: str
    door: str
    opened: float
    reason: str = ""
    queued: bool = False
    """It was opened while the app was busy, and has to wait for its turn."""


class Operation(Record):
    header: Header
    plan: Plan
    steps: tuple[StepRecord, ...]
    length: int = 0
    """How many events have been applied."""
    queued: bool = False
    """It waits for its turn; nothing of it has happened."""
    received: bool = False
    """The push that opened it is not needed any more."""
    superseded: int | None = None
    """The newer operation that has taken its place in the queue."""
    cancel: Cancel | None = None
    """The cancel that was accepted."""
    failure: str = ""
    """Why it is unwound without anybody having asked."""
    failed_step: str = ""
    committed: float | None = None
    ending: e.Ending | None = None
    ended: float | None = None

    @property
    def id(self) -> int:
        return self.header.id

    @property
    def app(self) -> str:
        return self.plan.app

    @property
    def turned(self) -> bool:
        """Whether it goes backwards."""
        stopped = self.cancel is not None or self.superseded is not None or bool(self.failure)
        return self.committed is None and stopped

    @property
    def state(self) -> State:
        if self.ending is not None:
            return State(self.ending.value)
        if self.turned:
            return State.UNDOING
        return State.QUEUED if self.queued else State.RUNNING

    @property
    def running(self) -> StepRecord | None:
        """The step whose do or undo is under way."""
        return next((s for s in self.steps if s.state in (StepState.RUNNING, StepState.UNDOING)), None)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(text for step in self.steps for text in step.warnings)

    def step(self, name: str) -> StepRecord:
        return next(step for step in self.steps if step.name == name)


def opened(header: Header, plan: Plan) -> Operation:
    return Operation(header, plan, _pending(plan), queued=header.queued)


def _pending(plan: Plan) -> tuple[StepRecord, ...]:
    return tuple(StepRecord(step.name) for step in (*plan.steps, *plan.finishing))


def replay(header: Header, plan: Plan, events: Iterable[e.Event]) -> Operation:
    operation = opened(header, plan)
    for event in events:
        operation = apply(operation, event)
    return operation


def apply(operation: Operation, event: e.Event) -> Operation:
    """The operation after `event`. Raises IllegalEvent where the event cannot happen."""
    late = e.CancelRequested | e.RecoveryRequested | e.AppRemoved
    if operation.ending is not None and not isinstance(event, late):
        raise _illegal(operation, event)
    return replace(_apply(operation, event), length=operation.length + 1)


def _apply(op: Operation, event: e.Event) -> Operation:  # noqa: PLR0912  a table, one row an event
    match event:
        case e.Received():
            return replace(op, received=True)
        case e.Begun():
            _require(op.queued and not op.turned, op, event)
            plan = Plan.from_json(event.plan)
            return replace(op, queued=False, plan=plan, steps=_pending(plan))
        case e.Refused():
            _require(op.queued and not op.turned and bool(event.reason), op, event)
            return replace(op, failure=event.reason)
        case e.Superseded():
            _require(op.queued and not op.turned, op, event)
            return replace(op, superseded=event.operation)
        case e.StepStarted():
            _require(not op.turned and not op.queued and event.step == _next_step(op), op, event)
            return _set(op, event.step, StepState.RUNNING, started=event.at, ended=None, data=event.data)
        case e.StepDone():
            _require(_state(op, event.step) is StepState.RUNNING, op, event)
            return _set(op, event.step, StepState.DONE, ended=event.at, warnings=event.warnings)
        case e.StepFailed():
            _require(_state(op, event.step) is StepState.RUNNING and op.committed is None, op, event)
            failed = _set(op, event.step, StepState.FAILED, ended=event.at, reason=event.reason)
            # `turned` reads the text: an empty one would leave a failed operation going neither way.
            return replace(failed, failure=event.reason or f"{event.step} failed", failed_step=event.step)
        case e.StepInterrupted():
            told = op.cancel is not None and op.cancel.verdict is e.Verdict.NOW
            _require(_state(op, event.step) is StepState.RUNNING and told, op, event)
            return _set(op, event.step, StepState.INTERRUPTED, ended=event.at)
        case e.CancelRequested():
            _require(event.verdict is verdict(op), op, event)
            if not event.verdict.accepted:
                return op
            return replace(op, cancel=Cancel(event.by, event.reason, event.at, event.verdict, event.force))
        case e.Committed():
            _require(ready_to_commit(op), op, event)
            return replace(op, committed=event.at)
        case e.UndoStarted():
            due = op.turned and op.running is None and ending(op) is None
            _require(due and event.step == next_undo(op), op, event)
            return _set(op, event.step, StepState.UNDOING)
        case e.UndoDone():
            _require(_state(op, event.step) is StepState.UNDOING, op, event)
            return _set(op, event.step, StepState.UNDONE, warnings=event.warnings)
        case e.UndoFailed():
            _require(_state(op, event.step) is StepState.UNDOING, op, event)
            return _set(op, event.step, StepState.UNDO_FAILED, reason=event.reason)
        case e.WorkerDied():
            return _worker_died(op, event)
        case e.RecoveryRequested():
            _require(op.ending is e.Ending.STUCK, op, event)
            return replace(_retry_undo(op), ending=None, ended=None)
        case e.AppRemoved():
            _require(op.ending is e.Ending.STUCK, op, event)
            return replace(op, ending=_restored(op))
        case e.Ended():
            _require(event.ending is ending(op), op, event)
            return replace(op, ending=event.ending, ended=event.at)
    raise _illegal(op, event)


def verdict(op: Operation) -> e.Verdict:
    """The one true answer to somebody who asks now for this operation to be cancelled."""
    if op.ending is not None:
        return e.Verdict.ALREADY_ENDED
    if op.committed is not None:
        return e.Verdict.TOO_LATE
    if op.cancel is not None:
        return e.Verdict.ALREADY_CANCELLING
    if op.failure or op.superseded is not None:
        return e.Verdict.TOO_LATE
    running = op.running
    if running is not None and op.plan.step(running.name).on_cancel is OnCancel.FINISH:
        return e.Verdict.AFTER_STEP
    return e.Verdict.NOW


def next_step(op: Operation) -> str | None:
    """The step to be started next on the way forward; None where the commit or the end is next."""
    if op.running is not None or op.turned or op.queued:
        return None
    return _next_step(op)


def next_undo(op: Operation) -> str | None:
    """The newest step that has begun and is not undone yet."""
    begun = (s for s in reversed(_undoable(op)) if s.state not in (StepState.PENDING, StepState.UNDONE))
    return next((step.name for step in begun), None)


def ready_to_commit(op: Operation) -> bool:
    return (
        op.committed is None
        and not op.turned
        and not op.queued
        and all(step.state is StepState.DONE for step in _undoable(op))
    )


def ending(op: Operation) -> e.Ending | None:
    """How the operation ends if it ends now; None where something is still to be done."""
    if op.running is not None:
        return None
    if op.turned:
        if any(step.state is StepState.UNDO_FAILED for step in op.steps):
            return e.Ending.STUCK
        if next_undo(op) is not None:
            return None
        if op.superseded is not None:
            return e.Ending.SUPERSEDED
        return _restored(op)
    if op.committed is not None and _next_step(op) is None:
        return e.Ending.SUCCEEDED
    return None


def _restored(op: Operation) -> e.Ending:
    return e.Ending.CANCELLED if op.cancel is not None else e.Ending.FAILED


def _undoable(op: Operation) -> tuple[StepRecord, ...]:
    return op.steps[: len(op.plan.steps)]


def _next_step(op: Operation) -> str | None:
    steps = _undoable(op) if op.committed is None else op.steps[len(op.plan.steps) :]
    first = next((step for step in steps if step.state is not StepState.DONE), None)
    return first.name if first is not None and first.state is StepState.PENDING else None


def _worker_died(op: Operation, event: e.WorkerDied) -> Operation:
    """Forward steps after the commit and undos are run again; a step before it counts as broken half way."""
    running = op.running
    if running is not None and running.state is StepState.UNDOING:
        return _retry_undo(op)
    if op.committed is not None:
        return _set(op, running.name, StepState.PENDING) if running is not None else op
    broken = _set(op, running.name, StepState.INTERRUPTED, ended=event.at) if running is not None else op
    if broken.turned or broken.queued:  # one that waits has done nothing, and goes on waiting
        return broken
    where = f" during {running.name}" if running is not None else ""
    return replace(broken, failure=f"the deploy process died{where}", failed_step=running.name if running else "")


def _retry_undo(op: Operation) -> Operation:
    """An undo that was cut short or failed is due again, and its step counts as broken half way."""
    again = (StepState.UNDOING, StepState.UNDO_FAILED)
    steps = tuple(replace(s, state=StepState.INTERRUPTED) if s.state in again else s for s in op.steps)
    return replace(op, steps=steps)


def _state(op: Operation, name: str) -> StepState | None:
    return next((step.state for step in op.steps if step.name == name), None)


def _set(
    op: Operation,
    name: str,
    state: StepState,
    **changes: float | str | e.Data | tuple[str, ...] | None,
) -> Operation:
    record = replace(op.step(name), state=state, **changes)  # type: ignore[arg-type]
    return replace(op, steps=tuple(record if step.name == name else step for step in op.steps))


def _require(legal: bool, op: Operation, event: e.Event) -> None:
    if not legal:
        raise _illegal(op, event)


def _illegal(op: Operation, event: e.Event) -> IllegalEvent:
    steps = ", ".join(f"{step.name} {step.state}" for step in op.steps)
    return IllegalEvent(f"operation {op.id} ({op.state}; {steps}) cannot take {event!r}")
