"""The records of the journal: everything that can happen to an operation, one class each.

`at` is seconds since the epoch, by the server's wall clock; the order of events is their number, never their time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, ClassVar


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    at: float
    type: ClassVar[str] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepEvent(Event):
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(Event):
    """The objects of the push are in the repository: nothing of it is needed any more."""

    type = "received"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun(Event):
    """The turn of a queued operation has come. `plan` is made anew: what it would replace has changed meanwhile."""

    type = "begun"
    plan: Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """The turn of a queued operation has come, or cannot come any more, and it may not begin."""

    type = "refused"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded(Event):
    """A newer operation has taken the place of a queued one."""

    type = "superseded"
    operation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(_StepEvent):
    """The intent: durable before the step's first side effect. `data` is what the step and its undo need."""

    type = "step started"
    data: Data = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(_StepEvent):
    type = "step done"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(_StepEvent):
    type = "step failed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInterrupted(_StepEvent):
    """The step was stopped half way because of a cancel that had been accepted."""

    type = "step interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """A person asked; the verdict was given in the same transaction, and is binding."""

    type = "cancel requested"
    by: str
    reason: str
    verdict: Verdict
    force: bool = False
    door: str = ""
    requested: float | None = None
    """When it was asked for, where that was before the worker, or whoever gave the verdict, came to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Event):
    """From here on the operation only goes forward."""

    type = "committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoStarted(_StepEvent):
    type = "undo started"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoDone(_StepEvent):
    type = "undo done"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoFailed(_StepEvent):
    type = "undo failed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied(Event):
    """Written by the worker that takes over from one that is gone."""

    type = "worker died"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRequested(Event):
    """A person asked for a stuck operation's undo to be tried again."""

    type = "recovery requested"
    by: str
    door: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRemoved(Event):
    """The app of a stuck operation was removed: nothing is left to be undone, and its name is free again."""

    type = "app removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Event):
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
