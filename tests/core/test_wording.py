"""What people read about an operation. The sentences are promises: others rely on their words."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from safepoint.core import events as e
from safepoint.core import wording
from safepoint.core.events import Ending, Verdict
from safepoint.core.operation import Header, Operation, apply, replay, verdict
from safepoint.core.plan import FINISHING, Kind, Plan, deploy_steps, rollback_steps
from safepoint.core.settings import BeforeRelease, Settings
from safepoint.record import replace

SETTINGS = Settings(before_release=(BeforeRelease("migrate up", undo="migrate down"), BeforeRelease("notify")))
PLAN = Plan(
    kind=Kind.DEPLOY,
    app="web",
    branch="main",
    release=8,
    commit="5e173381" + "0" * 32,
    steps=deploy_steps(SETTINGS, pushed=True),
    finishing=FINISHING,
    settings=SETTINGS,
    processes={"web": "python app.py", "worker": "python worker.py"},
    previous_release=7,
    build=("make",),
)
FIRST = replace(PLAN, release=1, previous_release=None)
NAMES = [step.name for step in (*PLAN.steps, *PLAN.finishing)]


def operation(*events: e.Event, plan: Plan = PLAN) -> Operation:
    return replay(Header(42, "alice", "ssh", 0.0), plan, events)


def until(step: str, *more: e.Event, plan: Plan = PLAN) -> Operation:
    """It is in `step`, which began at 100."""
    done: list[e.Event] = []
    for name in NAMES[: NAMES.index(step)]:
        done += [e.StepStarted(at=10.0, step=name), e.StepDone(at=20.0, step=name)]
        if name == "watch":
            done.append(e.Committed(at=30.0))
    return operation(*done, e.StepStarted(at=100.0, step=step), *more, plan=plan)


def cancelled(op: Operation, reason: str = "") -> Operation:
    return apply(op, e.CancelRequested(at=101.0, by="bob", reason=reason, verdict=verdict(op)))


def unwound(op: Operation, ending: Ending, *, stuck: Sequence[str] = ()) -> Operation:
    """Undone, newest first, and ended."""
    if op.running is not None:
        op = apply(op, e.StepInterrupted(at=102.0, step=op.running.name))
    for step in reversed([step.name for step in op.steps if step.state not in ("pending", "undone")]):
        op = apply(op, e.UndoStarted(at=103.0, step=step))
        if step in stuck:
            op = apply(op, e.UndoFailed(at=104.0, step=step, reason="`migrate down` exited with status 1"))
            break
        op = apply(op, e.UndoDone(at=104.0, step=step))
    return apply(op, e.Ended(at=105.0, ending=ending))


BUILD_FAILED = until("build", e.StepFailed(at=101.0, step="build", reason="`make` exited with status 2"))
SUCCEEDED = apply(apply(until("prune"), e.StepDone(at=1.0, step="prune")), e.Ended(at=1.0, ending=Ending.SUCCEEDED))
STUCK = unwound(cancelled(until("start")), Ending.STUCK, stuck=["before_release.1"])


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (SUCCEEDED, "operation 42 succeeded: web now runs v8"),
        (unwound(cancelled(until("build")), Ending.CANCELLED), "operation 42 cancelled by bob; web still runs v7"),
        (
            unwound(cancelled(until("build", plan=FIRST), "wrong branch"), Ending.CANCELLED),
            "operation 42 cancelled by bob (wrong branch); web has no release, as before",
        ),
        (
            unwound(BUILD_FAILED, Ending.FAILED),
            "operation 42 failed in build: `make` exited with status 2; web still runs v7",
        ),
        (
            apply(operation(e.WorkerDied(at=1.0)), e.Ended(at=2.0, ending=Ending.FAILED)),
            "operation 42 failed: the deploy process died; web still runs v7",
        ),
        (
            STUCK,
            "operation 42 is stuck: undoing before_release.1 failed: `migrate down` exited with status 1; "
            "web is locked until `recover 42` succeeds",
        ),
        (until("build"), "operation 42 is running"),
        (cancelled(until("build")), "operation 42 is undoing"),
    ],
)
def test_the_closing_sentence_says_how_it_ended_and_what_runs(op: Operation, sentence: str) -> None:
    """Everybody's terminal ends with it, and git's own line."""
    assert wording.closing(op) == sentence
    assert wording.ending_lines(op)[len(op.warnings)] == sentence


@pytest.mark.parametrize(
    ("op", "given", "answer"),
    [
        (until("build"), Verdict.NOW, "Cancelling operation 42 now: build is interrupted"),
        (operation(), Verdict.NOW, "Cancelling operation 42 now"),
        (until("switch"), Verdict.AFTER_STEP, "Cancelling operation 42 after switch, which is finished first"),
        (
            cancelled(until("build")),
            Verdict.ALREADY_CANCELLING,
            "Operation 42 is already cancelling, as bob asked",
        ),
        (
            until("retire"),
            Verdict.TOO_LATE,
            "Too late: operation 42 has committed, web runs v8; take it back with: releases:rollback web v7",
        ),
        (until("retire", plan=FIRST), Verdict.TOO_LATE, "Too late: operation 42 has committed, web runs v1"),
        (BUILD_FAILED, Verdict.TOO_LATE, "Too late: operation 42 has failed and is being undone"),
        (
            SUCCEEDED,
            Verdict.ALREADY_ENDED,
            "Operation 42 has already ended: web got v8; take it back with: releases:rollback web v7",
        ),
        (
            unwound(BUILD_FAILED, Ending.FAILED),
            Verdict.ALREADY_ENDED,
            "Operation 42 has already ended: operation 42 failed in build: `make` exited with status 2; "
            "web still runs v7",
        ),
    ],
)
def test_the_answer_to_a_cancel_is_its_verdict_in_words(op: Operation, given: Verdict, answer: str) -> None:
    """What will happen, or why nothing will, and what to do then."""
    assert verdict(op) is given
    assert wording.answer(op, given) == answer
    if not given.accepted:
        assert wording.forecast(op, 112.0)[0] == answer


@pytest.mark.parametrize(
    ("op", "forecast"),
    [
        (until("build"), "A cancel would interrupt build of operation 42 now"),
        (until("switch"), "A cancel would end operation 42 after switch, which is finished first"),
    ],
)
def test_a_forecast_does_not_sound_like_a_cancel(op: Operation, forecast: str) -> None:
    """Whoever only asked must not think that it has begun."""
    assert wording.forecast(op, 112.0)[0] == forecast


def test_a_forecast_says_all_that_a_cancel_would_do() -> None:
    """What runs and for how long, what is undone, what cannot be, and what keeps serving."""
    assert wording.forecast(until("watch"), 112.0) == (
        "A cancel would interrupt watch of operation 42 now",
        "watch has run for 12 s",
        "will undo switch: Switching web back from v8 to v7",
        "will undo start: Stopping v8",
        "cannot be undone: `notify` (it declares no undo)",
        "will undo before_release.1: Undoing `migrate up`: migrate down",
        "will undo export: Removing v8",
        "web still runs v7",
    )
    assert wording.forecast(cancelled(until("build")), 112.0)[1:] == ("build is next to be undone",)
    assert wording.forecast(unwound(BUILD_FAILED, Ending.FAILED), 112.0)[1:] == ()


def test_a_busy_app_is_refused_with_what_to_do() -> None:
    """The ID, the step, and how to cancel that; for a stuck one, how to mend it."""
    reason, hint = wording.busy(until("build"), "ssh deploy@host operation:cancel 42")
    assert reason == "web is busy: operation 42 is running (in build)"
    assert hint == "wait for it, or cancel it: ssh deploy@host operation:cancel 42"
    assert wording.busy(STUCK, "") == (
        "web is locked: operation 42 is stuck (undoing before_release.1 failed: `migrate down` exited with status 1)",
        "see `operation:show 42`, then `recover 42`",
    )  # fmt: skip


def test_a_stuck_operation_says_what_is_left() -> None:
    """In the order in which `recover` goes on: the undo that failed, and what comes after it."""
    assert wording.left(STUCK) == ("before_release.1", "build", "export", "receive")
    assert wording.what_is_left(STUCK) == (
        "still to be undone: before_release.1, build, export, receive",
        "mend what is in the way, then `recover 42` goes on from there",
    )


def test_an_operation_that_cannot_be_journalled_says_what_becomes_of_it() -> None:
    """It is undone, or after the commit finished; and by whom."""
    assert wording.stopped(until("build"), "no space left") == (
        "operation 42 stops here: no space left",
        "once that is mended it is undone, by `safepoint serve` or by `recover 42`",
    )


def test_a_clock_that_was_set_back_makes_no_negative_durations() -> None:
    """It took no time, as far as anybody can tell."""
    assert wording.seconds(-3600.0) == "0 s"


@pytest.mark.parametrize("plan", [PLAN, FIRST, replace(PLAN, kind=Kind.ROLLBACK, steps=rollback_steps(), build=())])
def test_every_step_has_its_words(plan: Plan) -> None:
    """As it begins and as it is undone: one line, or none where there is nothing to say."""
    for step in (*plan.steps, *plan.finishing):
        for line in (wording.doing(plan, step.name), wording.undoing(plan, step.name)):
            assert line == wording.printable(line)
            assert line == "" or line.endswith("...")
            assert "None" not in line


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 s"), (0.25, "0.2 s"), (3.0, "3 s"), (59.6, "60 s"), (180.0, "3 min"), (185.4, "3 min 5 s")],
)
def test_durations_are_for_people(value: float, text: str) -> None:
    """No more digits than anybody wants."""
    assert wording.seconds(value) == text
