"""What must always hold, in every state that an adversary can bring about; and that each rule can be seen to break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from adversary import Exploration, Invariant, Model

from safepoint.core import events as e
from safepoint.core import operation
from safepoint.core.events import Ending, Verdict
from safepoint.core.operation import Operation, StepState
from safepoint.core.plan import FINISHING, SWITCH, Kind, OnCancel, Plan, Step, deploy_steps, rollback_steps
from safepoint.core.settings import BeforeRelease, Settings
from safepoint.record import replace

SETTINGS = Settings(before_release=(BeforeRelease("migrate", undo="back"), BeforeRelease("slow", on_cancel="finish")))


def plan(kind: Kind) -> Plan:
    deploy = kind is Kind.DEPLOY
    return Plan(
        kind=kind,
        app="shop",
        branch="main",
        release=8,
        commit="c" * 40,
        steps=deploy_steps(SETTINGS, pushed=True) if deploy else rollback_steps(),
        finishing=FINISHING,
        settings=SETTINGS,
        processes={"web": "python app.py"},
        previous_commit="d" * 40,
        previous_release=7,
        build=("make",) if deploy else (),
    )


@cache
def explored(kind: Kind) -> Exploration:
    return Model(plan(kind)).explore()


KINDS = pytest.mark.parametrize("kind", list(Kind))


@KINDS
def test_no_adversary_breaks_a_rule(kind: Kind) -> None:
    """With failures anywhere, two kills anywhere and cancels at any time, every invariant holds in every state."""
    assert explored(kind).violations == {}, explored(kind).report()


@KINDS
def test_the_exploration_is_not_empty(kind: Kind) -> None:
    """The numbers of states, of different operations and of moves are what the plan's length makes them."""
    seen = explored(kind)
    least = {Kind.DEPLOY: (12_000, 1_000, 30_000), Kind.ROLLBACK: (2_700, 250, 7_000)}[kind]
    assert seen.states >= least[0]
    assert seen.operations >= least[1]
    assert seen.moves >= least[2]


@KINDS
def test_everything_that_can_happen_happens(kind: Kind) -> None:
    """Each kind of event, each verdict and each ending is met, but for those of the queue: see test_queue_adversary."""
    seen = explored(kind)
    elsewhere = {e.Begun.type, e.Refused.type, e.Superseded.type}
    elsewhere |= {e.Received.type} if kind is Kind.ROLLBACK else set()
    assert set(seen.events) == set(e._TYPES) - elsewhere
    assert set(seen.verdicts) == set(Verdict)
    assert set(seen.endings) == set(Ending) - {Ending.SUPERSEDED}


@KINDS
def test_left_alone_a_deploy_succeeds(kind: Kind) -> None:
    """Without kills there is one way to succeed; what else ends was failed, cancelled or stuck."""
    seen = Model(plan(kind), crashes=0).explore()
    assert seen.violations == {}, seen.report()
    assert seen.endings[Ending.SUCCEEDED] == 1


# Rules broken on purpose: an exploration that finds nothing wrong with these would prove nothing.

Break = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    breaks: Invariant
    core: Break = lambda patch: None
    model: Callable[[Plan], Model] = Model


def late_cancel_is_accepted(patch: pytest.MonkeyPatch) -> None:
    honest = operation.verdict
    patch.setattr(operation, "verdict", lambda op: Verdict.NOW if op.committed and op.ending is None else honest(op))


def not_undone(*states: StepState) -> Break:
    def install(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(operation, "next_undo", lambda op: _next_undo(op, StepState.PENDING, StepState.UNDONE, *states))

    return install


def undone_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operation, "next_undo", lambda op: _next_undo(op, StepState.PENDING))


def undone_oldest_first(patch: pytest.MonkeyPatch) -> None:
    def oldest(op: Operation) -> str | None:
        return next((s.name for s in op.steps if s.state not in (StepState.PENDING, StepState.UNDONE)), None)

    patch.setattr(operation, "next_undo", oldest)


def _next_undo(op: Operation, *but: StepState) -> str | None:
    steps = op.steps[: len(op.plan.steps)]
    return next((step.name for step in reversed(steps) if step.state not in but), None)


def committed_despite_a_cancel(patch: pytest.MonkeyPatch) -> None:
    def ready(op: Operation) -> bool:
        return op.committed is None and all(s.state is StepState.DONE for s in op.steps[: len(op.plan.steps)])

    patch.setattr(operation, "ready_to_commit", ready)
    patch.setattr(operation, "next_undo", lambda op: None if ready(op) else _next_undo(op, *PENDING_OR_UNDONE))
    honest = operation.ending
    patch.setattr(operation, "ending", lambda op: None if ready(op) else honest(op))


PENDING_OR_UNDONE = (StepState.PENDING, StepState.UNDONE)


def death_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operation, "_worker_died", lambda op, event: op)


def death_resumes_the_step(patch: pytest.MonkeyPatch) -> None:
    honest = operation._worker_died

    def resume(op: Operation, event: e.WorkerDied) -> Operation:
        if op.running is None or op.running.state is StepState.UNDOING or op.turned:
            return honest(op, event)
        return operation._set(op, op.running.name, StepState.PENDING)

    patch.setattr(operation, "_worker_died", resume)


def death_turns_what_is_committed(patch: pytest.MonkeyPatch) -> None:
    honest = operation._worker_died
    patch.setattr(operation, "_worker_died", lambda op, event: replace(honest(op, event), failure="it died"))
    patch.setattr(Operation, "turned", property(lambda op: op.cancel is not None or bool(op.failure)))


def failed_undo_is_passed_over(patch: pytest.MonkeyPatch) -> None:
    not_undone(StepState.UNDO_FAILED)(patch)
    honest = operation.ending

    def ending(op: Operation) -> Ending | None:
        steps = (replace(s, state=StepState.UNDONE) if s.state is StepState.UNDO_FAILED else s for s in op.steps)
        return honest(replace(op, steps=tuple(steps)))

    patch.setattr(operation, "ending", ending)


def ends_differently(real: Ending, told: Ending) -> Break:
    def install(patch: pytest.MonkeyPatch) -> None:
        honest = operation.ending
        patch.setattr(operation, "ending", lambda op: told if honest(op) is real else honest(op))

    return install


def succeeds_at_the_commit(patch: pytest.MonkeyPatch) -> None:
    honest = operation.ending
    patch.setattr(operation, "ending", lambda op: Ending.SUCCEEDED if op.committed is not None else honest(op))


def cancel_never_waits(patch: pytest.MonkeyPatch) -> None:
    honest = operation.verdict
    patch.setattr(operation, "verdict", lambda op: Verdict.NOW if honest(op) is Verdict.AFTER_STEP else honest(op))


def any_verdict_will_do(patch: pytest.MonkeyPatch) -> None:
    honest = operation._require
    patch.setattr(
        operation,
        "_require",
        lambda legal, op, event: honest(legal or isinstance(event, e.CancelRequested), op, event),
    )


def journal_forgets(patch: pytest.MonkeyPatch) -> None:
    honest = e.to_json
    patch.setattr(
        e, "to_json", lambda event: honest(event) | ({"reason": "?"} if isinstance(event, e.StepFailed) else {})
    )


def switched_before_started(sound: Plan) -> Model:
    switch = Step(SWITCH, OnCancel.FINISH)
    return Model(replace(sound, steps=(switch, *(step for step in sound.steps if step.name != SWITCH))))


MUTANTS = {
    "a late cancel is accepted": Mutant(Invariant.KEPT, late_cancel_is_accepted),
    "a failed step is not undone": Mutant(Invariant.RESTORED, not_undone(StepState.FAILED)),
    "an interrupted step is not undone": Mutant(Invariant.RESTORED, not_undone(StepState.INTERRUPTED)),
    "a failed undo is passed over": Mutant(Invariant.RESTORED, failed_undo_is_passed_over),
    "an undo leaves half-done work": Mutant(Invariant.RESTORED, model=lambda plan: Model(plan, squeamish=True)),
    "a cancelled operation says that it failed": Mutant(
        Invariant.KEPT, ends_differently(Ending.CANCELLED, Ending.FAILED)
    ),
    "a failed operation says that it is stuck": Mutant(Invariant.STUCK, ends_differently(Ending.FAILED, Ending.STUCK)),
    "it has succeeded before it is finished": Mutant(Invariant.FINISHED, succeeds_at_the_commit),
    "it commits despite an accepted cancel": Mutant(Invariant.NO_WAY_ON, committed_despite_a_cancel),
    "a new worker resumes the step that was cut": Mutant(Invariant.NO_WAY_ON, death_resumes_the_step),
    "a new worker turns what is committed": Mutant(Invariant.NO_WAY_BACK, death_turns_what_is_committed),
    "a dead worker is ignored": Mutant(Invariant.LEGAL, death_is_ignored),
    "undos go oldest first": Mutant(Invariant.NEWEST_FIRST, undone_oldest_first),
    "an undo is due for ever": Mutant(Invariant.ENDS, undone_for_ever),
    "cancel promises now where it has to wait": Mutant(Invariant.SAYS_WHEN, cancel_never_waits),
    "the executor interrupts what finishes first": Mutant(
        Invariant.LEGAL, model=lambda plan: Model(plan, impatient=True)
    ),
    "the executor does what it decided before a cancel": Mutant(
        Invariant.LEGAL, model=lambda plan: Model(plan, stubborn=True)
    ),
    "the executor acts before its intent is durable": Mutant(
        Invariant.INTENT, model=lambda plan: Model(plan, eager=True)
    ),
    "any verdict will do": Mutant(Invariant.ONE_VERDICT, any_verdict_will_do),
    "the journal forgets a reason": Mutant(Invariant.REPLAY, journal_forgets),
    "the route is switched before anything runs": Mutant(Invariant.SERVED, model=switched_before_started),
}


@KINDS
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_bug_put_in_on_purpose_is_found(mutant: Mutant, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same exploration names the invariant that the bug breaks, and the way there."""
    mutant.core(monkeypatch)
    seen = mutant.model(plan(kind)).explore(until=mutant.breaks)
    assert mutant.breaks in seen.violations, f"found only:\n{seen.report()}"
    assert seen.violations[mutant.breaks][0] == "opened"


def test_every_rule_can_be_seen_to_break() -> None:
    """There is a bug on purpose for each invariant, so none is a check that cannot fail."""
    assert {mutant.breaks for mutant in MUTANTS.values()} == set(Invariant)
