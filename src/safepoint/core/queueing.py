"""What becomes of a push, or of a deploy by command, while its app is busy. Pure."""

from __future__ import annotations

from enum import StrEnum

from safepoint.core.events import Ending
from safepoint.core.operation import Operation
from safepoint.record import Record


class OnBusy(StrEnum):
    """An app's policy, or the wish of one push."""

    QUEUE = "queue"
    """Wait; the newest waiting operation goes next, and those that it overtook end as superseded."""
    SUPERSEDE = "supersede"
    """Have the running operation cancelled at its next safe point, and go next."""
    REJECT = "reject"
    """Be refused at once."""


class Start(Record):
    """The app is free: begin now."""


class Wait(Record):
    """Queue up. `supersedes`: the waiting operations whose place it takes; `cancels`: the running one, or None."""

    supersedes: tuple[int, ...]
    cancels: int | None


class Reject(Record):
    """`by`: the operation that is in the way."""

    by: int


Admission = Start | Wait | Reject


def admit(running: Operation | None, queued: tuple[Operation, ...], policy: OnBusy) -> Admission:
    """`running` is the app's operation that has not ended or is stuck; `queued`, oldest first, those that wait
    and are not turned.

    To be decided and journalled under one lock.
    """
    if running is not None and running.ending is Ending.STUCK:
        return Reject(running.id)
    if running is None and not queued:
        return Start()
    if policy is OnBusy.REJECT:
        return Reject(running.id if running is not None else queued[-1].id)
    cancels = running.id if running is not None and policy is OnBusy.SUPERSEDE else None
    return Wait(tuple(each.id for each in queued), cancels)
