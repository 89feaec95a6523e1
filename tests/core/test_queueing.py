"""What becomes of a deploy while its app is busy: the whole table."""

from __future__ import annotations

import pytest

from safepoint.core import events as e
from safepoint.core.events import Ending, Verdict
from safepoint.core.operation import Header, Operation, replay
from safepoint.core.plan import Kind, OnCancel, Plan, Step
from safepoint.core.queueing import Admission, OnBusy, Reject, Start, Wait, admit
from safepoint.core.settings import Settings

PLAN = Plan(Kind.DEPLOY, "shop", "main", 8, "c" * 40, (Step("switch", OnCancel.FINISH),), (), Settings(), {})


def operation(number: int, *events: e.Event, queued: bool = False) -> Operation:
    return replay(Header(id=number, by="alice", door="local", opened=1.0, queued=queued), PLAN, events)


def cancel(verdict: Verdict) -> e.Event:
    return e.CancelRequested(at=2.0, by="bob", reason="", verdict=verdict)


STARTED, DONE = e.StepStarted(at=2.0, step="switch"), e.StepDone(at=3.0, step="switch")
FAILED = e.StepFailed(at=3.0, step="switch", reason="it broke")
UNDOING, UNDO_FAILED = e.UndoStarted(at=4.0, step="switch"), e.UndoFailed(at=5.0, step="switch", reason="it stays")
RUNNING = {
    "fresh": operation(5),
    "in a step": operation(5, STARTED),
    "cancelling": operation(5, STARTED, cancel(Verdict.AFTER_STEP)),
    "committed": operation(5, STARTED, DONE, e.Committed(at=4.0)),
    "unwinding": operation(5, STARTED, FAILED, UNDOING),
    "tried again": operation(
        5, STARTED, FAILED, UNDOING, UNDO_FAILED, e.Ended(at=6.0, ending=Ending.STUCK),
        e.RecoveryRequested(at=7.0, by="bob"),
    ),
    "begun": operation(5, e.Begun(at=2.0, plan=PLAN.to_json()), queued=True),
}  # fmt: skip
STUCK = operation(5, STARTED, FAILED, UNDOING, UNDO_FAILED, e.Ended(at=6.0, ending=Ending.STUCK))
WAITING = operation(6, queued=True)
RECEIVED = operation(6, e.Received(at=2.0), e.WorkerDied(at=3.0), queued=True)

IN_WAITING = pytest.mark.parametrize("waiting", [WAITING, RECEIVED], ids=["waiting", "received"])
IN_RUNNING = pytest.mark.parametrize("running", RUNNING.values(), ids=RUNNING)


@pytest.mark.parametrize("policy", list(OnBusy))
def test_a_free_app_starts(policy: OnBusy) -> None:
    """Whatever the policy."""
    assert admit(None, (), policy) == Start()


@IN_RUNNING
@pytest.mark.parametrize(
    ("policy", "admission"),
    [(OnBusy.QUEUE, Wait((), None)), (OnBusy.SUPERSEDE, Wait((), 5)), (OnBusy.REJECT, Reject(5))],
)
def test_while_one_runs(running: Operation, policy: OnBusy, admission: Admission) -> None:
    """However far it is: whether it can be cancelled is for its verdict to say."""
    assert admit(running, (), policy) == admission


@IN_RUNNING
@IN_WAITING
@pytest.mark.parametrize(
    ("policy", "admission"),
    [(OnBusy.QUEUE, Wait((6,), None)), (OnBusy.SUPERSEDE, Wait((6,), 5)), (OnBusy.REJECT, Reject(5))],
)
def test_while_one_runs_and_one_waits(
    running: Operation, waiting: Operation, policy: OnBusy, admission: Admission
) -> None:
    """The newest takes the place of the one that waits, whatever has arrived of that."""
    assert admit(running, (waiting,), policy) == admission


@IN_WAITING
@pytest.mark.parametrize(
    ("policy", "admission"),
    [(OnBusy.QUEUE, Wait((6,), None)), (OnBusy.SUPERSEDE, Wait((6,), None)), (OnBusy.REJECT, Reject(6))],
)
def test_while_one_waits_that_is_about_to_begin(waiting: Operation, policy: OnBusy, admission: Admission) -> None:
    """The app is not free: nobody passes it by, and there is nobody to cancel."""
    assert admit(None, (waiting,), policy) == admission


@pytest.mark.parametrize("queued", [(), (WAITING,)], ids=["nobody waits", "one waits"])
@pytest.mark.parametrize("policy", list(OnBusy))
def test_a_stuck_app_rejects(queued: tuple[Operation, ...], policy: OnBusy) -> None:
    """It names the stuck operation, which a person has to see to."""
    assert admit(STUCK, queued, policy) == Reject(5)
