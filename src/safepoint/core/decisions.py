"""What an operation does next. This one function drives the live run and recovery alike."""

from __future__ import annotations

from safepoint.core import operation as state
from safepoint.core.events import Ending
from safepoint.core.operation import IllegalEvent, Operation
from safepoint.record import Record


class AwaitTurn(Record):
    pass


class Do(Record):
    step: str


class Undo(Record):
    step: str


class Commit(Record):
    pass


class End(Record):
    ending: Ending


Action = AwaitTurn | Do | Undo | Commit | End


def decide(operation: Operation) -> Action | None:
    """The next action; None where the operation has ended.

    Journal it only where nothing was journalled in between: a cancel makes it wrong. Raises IllegalEvent while a step
    is running: a worker that takes over writes WorkerDied first.
    """
    if operation.ending is not None:
        return None
    if operation.running is not None:
        raise IllegalEvent(f"operation {operation.id} is in the middle of {operation.running.name}")
    # Before the undos: a failed undo is still the newest one due, but a person decides whether to try it again.
    if (ending := state.ending(operation)) is not None:
        return End(ending)
    if operation.turned and (undo := state.next_undo(operation)) is not None:
        return Undo(undo)
    if operation.queued:
        return AwaitTurn()
    if state.ready_to_commit(operation):
        return Commit()
    if (step := state.next_step(operation)) is not None:
        return Do(step)
    raise IllegalEvent(f"operation {operation.id} is {operation.state} and can go neither way")
