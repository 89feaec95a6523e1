"""The transition table: what each event does, and which events cannot happen when."""

from __future__ import annotations

import pytest

from safepoint.core import events as e
from safepoint.core.decisions import AwaitTurn, Commit, Do, End, Undo, decide
from safepoint.core.events import Ending, Verdict
from safepoint.core.operation import (
    Header,
    IllegalEvent,
    Operation,
    State,
    StepState,
    apply,
    next_step,
    next_undo,
    opened,
    ready_to_commit,
    replay,
    verdict,
)
from safepoint.core.plan import Kind, OnCancel, Plan, Step
from safepoint.core.settings import Settings
from safepoint.record import replace

HEADER = Header(id=42, by="alice", door="ssh", opened=1.0)
PLAN = Plan(
    kind=Kind.DEPLOY,
    app="shop",
    branch="main",
    release=8,
    commit="c" * 40,
    steps=(Step("build"), Step("switch", OnCancel.FINISH)),
    finishing=(Step("publish"), Step("retire")),
    settings=Settings(),
    processes={"web": "python app.py"},
)


def started(step: str) -> e.Event:
    return e.StepStarted(at=2.0, step=step, data={"of": step})


def done(step: str, *warnings: str) -> e.Event:
    return e.StepDone(at=3.0, step=step, warnings=warnings)


def failed(step: str, reason: str = "it broke") -> e.Event:
    return e.StepFailed(at=3.0, step=step, reason=reason)


def interrupted(step: str) -> e.Event:
    return e.StepInterrupted(at=3.0, step=step)


def cancel(answer: Verdict) -> e.Event:
    return e.CancelRequested(at=4.0, by="bob", reason="wrong branch", verdict=answer, force=True)


def undoing(step: str) -> e.Event:
    return e.UndoStarted(at=5.0, step=step)


def undone(step: str) -> e.Event:
    return e.UndoDone(at=6.0, step=step)


def undo_failed(step: str) -> e.Event:
    return e.UndoFailed(at=6.0, step=step, reason="it stays")


def ended(how: Ending) -> e.Event:
    return e.Ended(at=9.0, ending=how)


COMMITTED, DIED = e.Committed(at=7.0), e.WorkerDied(at=8.0)
RECOVER, REMOVED = e.RecoveryRequested(at=8.0, by="carol"), e.AppRemoved(at=8.0)


def after(*events: e.Event) -> Operation:
    return replay(HEADER, PLAN, events)


FRESH: tuple[e.Event, ...] = ()
BUILDING = (started("build"),)
BUILT = (*BUILDING, done("build"))
SWITCHING = (*BUILT, started("switch"))
READY = (*SWITCHING, done("switch"))
PAST = (*READY, COMMITTED)
PUBLISHING = (*PAST, started("publish"))
SUCCEEDED = (*PUBLISHING, done("publish"), started("retire"), done("retire"), ended(Ending.SUCCEEDED))
FAILING = (*BUILDING, failed("build"))
UNWINDING = (*FAILING, undoing("build"))
FAILED = (*UNWINDING, undone("build"), ended(Ending.FAILED))
CANCELLING = (*BUILDING, cancel(Verdict.NOW))
WAITING = (*SWITCHING, cancel(Verdict.AFTER_STEP))
UNDO_BROKEN = (*UNWINDING, undo_failed("build"))
STUCK = (*UNDO_BROKEN, ended(Ending.STUCK))

RECEIVED, REFUSED = e.Received(at=1.5), e.Refused(at=1.6, reason="fetch first")
SUPERSEDED = e.Superseded(at=1.7, operation=43)
ANEW = replace(PLAN, release=9, previous_commit="d" * 40, previous_release=8, steps=(Step("build"), Step("start")))
BEGUN = e.Begun(at=1.8, plan=ANEW.to_json())


def waiting(*events: e.Event) -> Operation:
    return replay(replace(HEADER, queued=True), PLAN, events)


def test_a_run_without_trouble() -> None:
    """Each step with its times, its data and its warnings; then the commit; then the end."""
    op = after(*BUILDING, done("build", "no lock file"), *SUCCEEDED[2:])
    assert (op.state, op.ending, op.ended, op.committed, op.length) == (State.SUCCEEDED, Ending.SUCCEEDED, 9.0, 7.0, 10)
    build = op.step("build")
    assert (build.state, build.started, build.ended, build.data) == (StepState.DONE, 2.0, 3.0, {"of": "build"})
    assert op.warnings == ("no lock file",)
    assert decide(op) is None


@pytest.mark.parametrize(
    ("events", "action"),
    [
        (FRESH, Do("build")),
        (BUILT, Do("switch")),
        (READY, Commit()),
        (PAST, Do("publish")),
        ((*PUBLISHING, done("publish")), Do("retire")),
        (SUCCEEDED[:-1], End(Ending.SUCCEEDED)),
        (FAILING, Undo("build")),
        ((*UNWINDING, undone("build")), End(Ending.FAILED)),
        ((*SWITCHING, failed("switch")), Undo("switch")),
        ((*CANCELLING, interrupted("build")), Undo("build")),
        ((*CANCELLING, interrupted("build"), undoing("build"), undone("build")), End(Ending.CANCELLED)),
        ((*CANCELLING, done("build")), Undo("build")),
        ((*CANCELLING, failed("build")), Undo("build")),
        ((*WAITING, done("switch")), Undo("switch")),
        ((*READY, cancel(Verdict.NOW)), Undo("switch")),
        ((cancel(Verdict.NOW),), End(Ending.CANCELLED)),
        (UNDO_BROKEN, End(Ending.STUCK)),
        ((*STUCK, RECOVER), Undo("build")),
        ((*UNDO_BROKEN, DIED), End(Ending.STUCK)),
        ((DIED,), End(Ending.FAILED)),
        ((*BUILDING, DIED), Undo("build")),
        ((*READY, DIED), Undo("switch")),
        ((*PUBLISHING, DIED), Do("publish")),
        ((*PAST, DIED), Do("publish")),
        ((*UNWINDING, DIED), Undo("build")),
        ((*WAITING, DIED), Undo("switch")),
    ],
)
def test_what_comes_next(events: tuple[e.Event, ...], action: object) -> None:
    """One action follows from the journal, whoever asks."""
    assert decide(after(*events)) == action


@pytest.mark.parametrize("events", [SUCCEEDED, FAILED, STUCK], ids=["succeeded", "failed", "stuck"])
def test_what_has_ended_does_nothing_more(events: tuple[e.Event, ...]) -> None:
    """Also where it is stuck: a person has to ask."""
    assert decide(after(*events)) is None


@pytest.mark.parametrize("events", [BUILDING, SWITCHING, PUBLISHING, UNWINDING, CANCELLING, WAITING])
def test_nothing_is_decided_in_the_middle_of_a_step(events: tuple[e.Event, ...]) -> None:
    """A worker that finds a step running took over, and has not said so."""
    with pytest.raises(IllegalEvent, match="operation 42 is in the middle of"):
        decide(after(*events))


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        (FRESH, Verdict.NOW),
        (BUILDING, Verdict.NOW),
        (BUILT, Verdict.NOW),
        (SWITCHING, Verdict.AFTER_STEP),
        (READY, Verdict.NOW),
        (PAST, Verdict.TOO_LATE),
        (PUBLISHING, Verdict.TOO_LATE),
        (SUCCEEDED, Verdict.ALREADY_ENDED),
        (FAILING, Verdict.TOO_LATE),
        (UNWINDING, Verdict.TOO_LATE),
        (UNDO_BROKEN, Verdict.TOO_LATE),
        (FAILED, Verdict.ALREADY_ENDED),
        (STUCK, Verdict.ALREADY_ENDED),
        ((*STUCK, RECOVER), Verdict.TOO_LATE),
        (CANCELLING, Verdict.ALREADY_CANCELLING),
        (WAITING, Verdict.ALREADY_CANCELLING),
        ((*CANCELLING, failed("build")), Verdict.ALREADY_CANCELLING),
        ((*BUILDING, DIED), Verdict.TOO_LATE),
    ],
)
def test_each_request_to_cancel_has_one_answer(events: tuple[e.Event, ...], answer: Verdict) -> None:
    """The table takes the true verdict and no other, and only a yes changes anything."""
    op = after(*events)
    assert verdict(op) is answer
    asked = apply(op, cancel(answer))
    assert (asked.cancel != op.cancel) is answer.accepted
    assert (asked.length, asked.steps, asked.ending) == (op.length + 1, op.steps, op.ending)
    for other in set(Verdict) - {answer}:
        with pytest.raises(IllegalEvent):
            apply(op, cancel(other))


def test_an_accepted_cancel_is_kept_with_who_and_why() -> None:
    """A second one does not take its place."""
    op = after(*CANCELLING, e.CancelRequested(at=5.0, by="eve", reason="", verdict=Verdict.ALREADY_CANCELLING))
    assert op.cancel is not None
    assert (op.cancel.by, op.cancel.reason, op.cancel.force, op.cancel.at) == ("bob", "wrong branch", True, 4.0)
    assert op.state is State.UNDOING


def test_a_failure_says_where_and_why() -> None:
    """Of the step, and of the operation."""
    op = after(*FAILING)
    assert (op.state, op.failure, op.failed_step, op.step("build").reason) == (
        State.UNDOING, "it broke", "build", "it broke",
    )  # fmt: skip


def test_a_failure_without_words_is_one_all_the_same() -> None:
    """It is turned, and unwound."""
    op = after(*BUILDING, failed("build", ""))
    assert (op.turned, op.failure, decide(op)) == (True, "build failed", Undo("build"))


def test_the_death_of_a_worker_says_when() -> None:
    """Before the commit it is a failure, and the step that ran counts as broken half way."""
    op = after(*BUILDING, DIED)
    assert (op.failure, op.failed_step) == ("the deploy process died during build", "build")
    assert op.step("build").state is StepState.INTERRUPTED
    assert after(*BUILT, DIED).failure == "the deploy process died"


def test_the_death_of_a_worker_does_not_change_why_it_was_unwound() -> None:
    """A cancel stays a cancel, a failure keeps its reason."""
    assert after(*CANCELLING, DIED).failure == ""
    assert after(*FAILING, DIED).failure == "it broke"


def test_undos_go_backwards_from_the_newest() -> None:
    """Through done, failed and interrupted steps alike; what never began is left alone."""
    op = after(*SWITCHING, failed("switch"))
    assert next_undo(op) == "switch"
    op = apply(apply(op, undoing("switch")), undone("switch"))
    assert next_undo(op) == "build"
    assert next_undo(after(*FAILING)) == "build"
    assert next_undo(after(cancel(Verdict.NOW))) is None


def test_nothing_is_next_while_something_runs_or_goes_back() -> None:
    """`next_step` is for the way forward."""
    assert next_step(after()) == "build"
    assert next_step(after(*BUILDING)) is None
    assert next_step(after(*FAILING)) is None
    assert next_step(after(*READY)) is None
    assert next_step(after(*PAST)) == "publish"


EVERY = (
    *(make(step) for make in (started, done, failed, interrupted, undoing, undone, undo_failed)
      for step in ("build", "switch", "publish", "retire")),
    COMMITTED, DIED, RECOVER, REMOVED, RECEIVED, BEGUN, REFUSED, SUPERSEDED, *(ended(how) for how in Ending),
)  # fmt: skip


@pytest.mark.parametrize(
    ("events", "legal"),
    [
        (FRESH, [started("build"), DIED, RECEIVED]),
        (BUILDING, [done("build"), failed("build"), DIED, RECEIVED]),
        (BUILT, [started("switch"), DIED, RECEIVED]),
        (SWITCHING, [done("switch"), failed("switch"), DIED, RECEIVED]),
        (READY, [COMMITTED, DIED, RECEIVED]),
        (PAST, [started("publish"), DIED, RECEIVED]),
        (PUBLISHING, [done("publish"), DIED, RECEIVED]),
        ((*PUBLISHING, done("publish")), [started("retire"), DIED, RECEIVED]),
        (SUCCEEDED[:-1], [ended(Ending.SUCCEEDED), DIED, RECEIVED]),
        (SUCCEEDED, []),
        (FAILING, [undoing("build"), DIED, RECEIVED]),
        (UNWINDING, [undone("build"), undo_failed("build"), DIED, RECEIVED]),
        ((*UNWINDING, undone("build")), [ended(Ending.FAILED), DIED, RECEIVED]),
        (FAILED, []),
        (CANCELLING, [interrupted("build"), done("build"), failed("build"), DIED, RECEIVED]),
        ((*CANCELLING, done("build")), [undoing("build"), DIED, RECEIVED]),
        (
            (*CANCELLING, interrupted("build"), undoing("build"), undone("build")),
            [ended(Ending.CANCELLED), DIED, RECEIVED],
        ),
        (WAITING, [done("switch"), failed("switch"), DIED, RECEIVED]),
        ((*WAITING, done("switch")), [undoing("switch"), DIED, RECEIVED]),
        ((*READY, cancel(Verdict.NOW)), [undoing("switch"), DIED, RECEIVED]),
        ((cancel(Verdict.NOW),), [ended(Ending.CANCELLED), DIED, RECEIVED]),
        (UNDO_BROKEN, [ended(Ending.STUCK), DIED, RECEIVED]),
        (STUCK, [RECOVER, REMOVED]),
        ((*STUCK, REMOVED), []),
        ((*STUCK, RECOVER), [undoing("build"), DIED, RECEIVED]),
        ((*BUILDING, DIED), [undoing("build"), DIED, RECEIVED]),
        ((*PUBLISHING, DIED), [started("publish"), DIED, RECEIVED]),
    ],
)
def test_every_other_event_is_illegal(events: tuple[e.Event, ...], legal: list[e.Event]) -> None:
    """What cannot follow is refused."""
    op = after(*events)
    assert [event for event in EVERY if takes(op, event)] == [event for event in EVERY if event in legal]


def takes(op: Operation, event: e.Event) -> bool:
    try:
        apply(op, event)
    except IllegalEvent:
        return False
    return True


@pytest.mark.parametrize(
    ("events", "action"),
    [
        (FRESH, AwaitTurn()),
        ((RECEIVED,), AwaitTurn()),
        ((DIED,), AwaitTurn()),
        ((RECEIVED, DIED, DIED), AwaitTurn()),
        ((BEGUN,), Do("build")),
        ((RECEIVED, BEGUN), Do("build")),
        ((BEGUN, DIED), End(Ending.FAILED)),
        ((BEGUN, *BUILDING, DIED), Undo("build")),
        ((BEGUN, *BUILT), Do("start")),
        ((REFUSED,), End(Ending.FAILED)),
        ((REFUSED, DIED), End(Ending.FAILED)),
        ((SUPERSEDED,), End(Ending.SUPERSEDED)),
        ((SUPERSEDED, DIED), End(Ending.SUPERSEDED)),
        ((cancel(Verdict.NOW),), End(Ending.CANCELLED)),
        ((cancel(Verdict.NOW), DIED), End(Ending.CANCELLED)),
        ((REFUSED, ended(Ending.FAILED)), None),
        ((SUPERSEDED, ended(Ending.SUPERSEDED)), None),
    ],
)
def test_what_comes_next_for_one_that_waits(events: tuple[e.Event, ...], action: object) -> None:
    """It waits, whoever asks and however often its worker dies, until it begins or there is a reason to end."""
    assert decide(waiting(*events)) == action


@pytest.mark.parametrize(
    ("events", "legal"),
    [
        (FRESH, [DIED, RECEIVED, BEGUN, REFUSED, SUPERSEDED]),
        ((DIED,), [DIED, RECEIVED, BEGUN, REFUSED, SUPERSEDED]),
        ((RECEIVED,), [DIED, RECEIVED, BEGUN, REFUSED, SUPERSEDED]),
        ((BEGUN,), [started("build"), DIED, RECEIVED]),
        ((BEGUN, DIED), [DIED, RECEIVED, ended(Ending.FAILED)]),
        ((REFUSED,), [DIED, RECEIVED, ended(Ending.FAILED)]),
        ((SUPERSEDED,), [DIED, RECEIVED, ended(Ending.SUPERSEDED)]),
        ((cancel(Verdict.NOW),), [DIED, RECEIVED, ended(Ending.CANCELLED)]),
        ((REFUSED, ended(Ending.FAILED)), []),
        ((SUPERSEDED, ended(Ending.SUPERSEDED)), []),
        ((cancel(Verdict.NOW), ended(Ending.CANCELLED)), []),
    ],
)
def test_every_other_event_of_one_that_waits_is_illegal(events: tuple[e.Event, ...], legal: list[e.Event]) -> None:
    """It takes no step before it begins; begun, refused, superseded and cancelled exclude each other."""
    op = waiting(*events)
    assert [event for event in EVERY if takes(op, event)] == [event for event in EVERY if event in legal]


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        (FRESH, Verdict.NOW),
        ((RECEIVED, DIED), Verdict.NOW),
        ((BEGUN,), Verdict.NOW),
        ((REFUSED,), Verdict.TOO_LATE),
        ((SUPERSEDED,), Verdict.TOO_LATE),
        ((cancel(Verdict.NOW),), Verdict.ALREADY_CANCELLING),
        ((SUPERSEDED, ended(Ending.SUPERSEDED)), Verdict.ALREADY_ENDED),
        ((REFUSED, ended(Ending.FAILED)), Verdict.ALREADY_ENDED),
    ],
)
def test_each_request_to_cancel_one_that_waits_has_one_answer(events: tuple[e.Event, ...], answer: Verdict) -> None:
    """As for one that runs."""
    op = waiting(*events)
    assert verdict(op) is answer
    for other in Verdict:
        assert takes(op, cancel(other)) is (other is answer)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (FRESH, State.QUEUED),
        ((RECEIVED, DIED), State.QUEUED),
        ((BEGUN,), State.RUNNING),
        ((REFUSED,), State.UNDOING),
        ((SUPERSEDED,), State.UNDOING),
        ((cancel(Verdict.NOW),), State.UNDOING),
        ((SUPERSEDED, ended(Ending.SUPERSEDED)), State.SUPERSEDED),
        ((REFUSED, ended(Ending.FAILED)), State.FAILED),
        ((cancel(Verdict.NOW), ended(Ending.CANCELLED)), State.CANCELLED),
    ],
)
def test_the_state_of_one_that_was_queued(events: tuple[e.Event, ...], state: State) -> None:
    """The word that people read."""
    assert waiting(*events).state is state


def test_one_that_waits_has_no_step_and_no_commit_before_it() -> None:
    """Not even where its plan has no step to wait for."""
    op = opened(replace(HEADER, queued=True), replace(PLAN, steps=()))
    assert (next_step(op), ready_to_commit(op), decide(op)) == (None, False, AwaitTurn())
    assert (next_step(waiting()), next_undo(waiting())) == (None, None)


def test_it_begins_with_the_plan_that_was_made_anew() -> None:
    """Other steps, another release, and what really runs now; that its objects have come stays true."""
    op = waiting(RECEIVED, DIED, BEGUN)
    assert op.plan == ANEW
    assert [(step.name, step.state) for step in op.steps] == [
        (name, StepState.PENDING) for name in ("build", "start", "publish", "retire")
    ]
    assert (op.queued, op.received, op.length, op.header.queued) == (False, True, 3, True)


def test_one_that_never_began_says_why() -> None:
    """By whom it was superseded, or for which reason it was refused."""
    assert (waiting(SUPERSEDED).superseded, waiting(SUPERSEDED).failure) == (43, "")
    assert (waiting(REFUSED).superseded, waiting(REFUSED).failure) == (None, "fetch first")
    assert waiting(REFUSED).queued
    assert not takes(waiting(), e.Refused(at=1.0, reason="")), "an empty reason would leave it going neither way"


@pytest.mark.parametrize("event", [BEGUN, REFUSED, SUPERSEDED], ids=lambda event: event.type)
def test_what_was_never_queued_cannot_leave_the_queue(event: e.Event) -> None:
    """Nor can what has left it already."""
    assert not takes(after(), event)
    assert not takes(after(*BUILDING), event)
    assert not takes(waiting(BEGUN), event)


def test_a_refused_event_is_named_with_the_state_that_it_met() -> None:
    """A defect is reported once: it has to be enough."""
    with pytest.raises(
        IllegalEvent, match=r"operation 42 \(running; build running, .*\) cannot take Committed\(at=7.0\)"
    ):
        apply(after(*BUILDING), COMMITTED)


def test_an_event_of_a_step_that_is_not_in_the_plan_is_illegal() -> None:
    """It is never taken for another step's."""
    for event in (started("deploy"), done("deploy"), undoing("deploy"), undone("deploy")):
        assert not takes(after(*BUILDING), event)
        assert not takes(after(*UNWINDING), event)


def test_what_the_core_does_not_know_is_illegal() -> None:
    """An event of no kind changes nothing."""
    with pytest.raises(IllegalEvent):
        apply(after(), e.Event(at=1.0))


def test_an_operation_opens_with_every_step_pending() -> None:
    """Those after the commit included."""
    op = opened(HEADER, PLAN)
    assert [(step.name, step.state) for step in op.steps] == [
        (name, StepState.PENDING) for name in ("build", "switch", "publish", "retire")
    ]
    assert (op.id, op.app, op.state, op.running, op.length) == (42, "shop", State.RUNNING, None, 0)


def test_applying_never_changes_what_was() -> None:
    """An operation is a value: readers may keep it while the run goes on."""
    before = after(*BUILDING)
    apply(before, done("build"))
    assert before == after(*BUILDING)
