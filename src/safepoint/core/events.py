"""The records of the journal: everything that can happen to an operation, one class each.

`at` is seconds since the epoch, by the server's wall clock; the order of events is their number, never their time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from safepoint.hints import Any, ClassVar
from safepoint.record import Record, asdict


class Ending(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STUCK = "stuck"
    SUPERSEDED = "superseded"


class Verdict(StrEnum):
    """The answer to a request to cancel. The first two are a yes."""

    NOW = "now"
    AFTER_STEP = "after step"
    ALREADY_CANCELLING = "already cancelling"
    TOO_LATE = "too late"
    ALREADY_ENDED = "already ended"

    @property
    def accepted(self) -> bool:
        return self in (Verdict.NOW, Verdict.AFTER_STEP)


Data = Mapping[str, Any]


class Event(Record, kw_only=True):
    at: float
    type: ClassVar[str] = ""


class _StepEvent(Event, kw_only=True):
    step: str


class Received(Event, kw_only=True):
    """The objects of the push are in the repository: nothing of it is needed any more."""

    type = "received"


class Begun(Event, kw_only=True):
    """The turn of a queued operation has come. `plan` is made anew: what it would replace has changed meanwhile."""

    type = "begun"
    plan: Data


class Refused(Event, kw_only=True):
    """The turn of a queued operation has come, or cannot come any more, and it may not begin."""

    type = "refused"
    reason: str


class Superseded(Event, kw_only=True):
    """A newer operation has taken the place of a queued one."""

    type = "superseded"
    operation: int


class StepStarted(_StepEvent, kw_only=True):
    """The intent: durable before the step's first side effect. `data` is what the step and its undo need."""

    type = "step started"
    data: Data = {}  # noqa: RUF012


class StepDone(_StepEvent, kw_only=True):
    type = "step done"
    warnings: tuple[str, ...] = ()


class StepFailed(_StepEvent, kw_only=True):
    type = "step failed"
    reason: str


class StepInterrupted(_StepEvent, kw_only=True):
    """The step was stopped half way because of a cancel that had been accepted."""

    type = "step interrupted"


class CancelRequested(Event, kw_only=True):
    """A person asked; the verdict was given in the same transaction, and is binding."""

    type = "cancel requested"
    by: str
    reason: str
    verdict: Verdict
    force: bool = False
    door: str = ""
    requested: float | None = None
    """When it was asked for, where that was before the worker, or whoever gave the verdict, came to it."""


class Committed(Event, kw_only=True):
    """From here on the operation only goes forward."""

    type = "committed"


class UndoStarted(_StepEvent, kw_only=True):
    type = "undo started"


class UndoDone(_StepEvent, kw_only=True):
    type = "undo done"
    warnings: tuple[str, ...] = ()


class UndoFailed(_StepEvent, kw_only=True):
    type = "undo failed"
    reason: str


class WorkerDied(Event, kw_only=True):
    """Written by the worker that takes over from one that is gone."""

    type = "worker died"


class RecoveryRequested(Event, kw_only=True):
    """A person asked for a stuck operation's undo to be tried again."""

    type = "recovery requested"
    by: str
    door: str = ""


class AppRemoved(Event, kw_only=True):
    """The app of a stuck operation was removed: nothing is left to be undone, and its name is free again."""

    type = "app removed"


class Ended(Event, kw_only=True):
    type = "ended"
    ending: Ending


_TYPES: dict[str, type[Event]] = {
    each.type: each
    for each in (
        Received, Begun, Refused, Superseded, StepStarted, StepDone, StepFailed, StepInterrupted,
        CancelRequested, Committed,
        UndoStarted, UndoDone, UndoFailed, WorkerDied, RecoveryRequested, AppRemoved, Ended,
    )
}  # fmt: skip


def to_json(event: Event) -> dict[str, Any]:
    return {"type": event.type, **asdict(event)}


def from_json(data: Data) -> Event:
    """The inverse of `to_json`."""
    fields = dict(data)
    kind = _TYPES[fields.pop("type")]
    if "verdict" in fields:
        fields["verdict"] = Verdict(fields["verdict"])
    if "ending" in fields:
        fields["ending"] = Ending(fields["ending"])
    if "warnings" in fields:
        fields["warnings"] = tuple(fields["warnings"])
    return kind(**fields)
