"""What must always hold of an app's queue, whatever an adversary does; and that each rule can be seen to break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from queue_adversary import Exploration, Invariant, Model

from safepoint.core import events as e
from safepoint.core import operation
from safepoint.core.events import Ending, Verdict
from safepoint.core.operation import Operation
from safepoint.core.queueing import Admission, OnBusy, Start, Wait, admit
from safepoint.record import replace


@cache
def explored() -> Exploration:
    return Model().explore()


@cache
def explored_attached() -> Exploration:
    return Model(pushes=2, attach=True).explore()


def test_no_adversary_breaks_a_rule_of_the_queue() -> None:
    """Three pushes of any policy at any time, two crashes or reboots, cancels and failures: every invariant holds."""
    assert explored().violations == {}, explored().report()


def test_no_adversary_breaks_a_rule_of_attached_pushes() -> None:
    """Nor where losing the client is a cancel."""
    assert explored_attached().violations == {}, explored_attached().report()


def test_the_exploration_of_the_queue_is_not_empty() -> None:
    """The numbers of states, of different operations, of moves and of quiet ends are what three pushes make them."""
    seen = explored()
    assert seen.states >= 119_000
    assert seen.operations >= 275
    assert seen.moves >= 550_000
    assert seen.ends >= 680
    assert explored_attached().states >= 12_000


def test_everything_that_can_happen_to_a_queue_happens() -> None:
    """Each admission of each policy, each verdict, each reason to refuse, each ending with and without a beginning."""
    seen = explored()
    every = {f"{policy}: {what}" for policy in OnBusy for what in ("start", "wait", "reject")}
    assert set(seen.admissions) == every - {"reject: wait"}
    assert set(seen.verdicts) == set(Verdict) - {Verdict.AFTER_STEP}, "its one step is interrupted"
    assert set(seen.refusals) == {"not everything came", "the app is stuck", "fetch first"}
    assert set(seen.endings) == {
        (Ending.SUCCEEDED, True),
        (Ending.FAILED, True),
        (Ending.CANCELLED, True),
        (Ending.STUCK, True),
        (Ending.FAILED, False),
        (Ending.CANCELLED, False),
        (Ending.SUPERSEDED, False),
    }
    assert {"is killed", "reboot", "is recovered", "is tried again", "loses its push"} <= set(seen.labels)
    assert {"loses its client", "notices that its client is gone"} <= set(explored_attached().labels)


# Rules broken on purpose: an exploration that finds nothing wrong with these would prove nothing.

Break = Callable[[pytest.MonkeyPatch], None]
Admit = Callable[[Operation | None, tuple[Operation, ...], OnBusy], Admission]


@dataclass(frozen=True)
class Mutant:
    breaks: Invariant
    core: Break = lambda patch: None
    model: dict[str, Any] = field(default_factory=dict)


def nobody_is_overtaken(running: Operation | None, queued: tuple[Operation, ...], policy: OnBusy) -> Admission:
    admission = admit(running, queued, policy)
    return replace(admission, supersedes=()) if isinstance(admission, Wait) else admission


def those_that_wait_are_passed(running: Operation | None, queued: tuple[Operation, ...], policy: OnBusy) -> Admission:
    return Start() if running is None else admit(running, queued, policy)


def cancelled_ones_keep_their_place(
    running: Operation | None, queued: tuple[Operation, ...], policy: OnBusy
) -> Admission:
    return admit(running, tuple(each for each in queued if not each.turned), policy)


def stuck_is_only_busy(running: Operation | None, queued: tuple[Operation, ...], policy: OnBusy) -> Admission:
    stuck = running is not None and running.ending is Ending.STUCK
    return Wait(tuple(each.id for each in queued), None) if stuck else admit(running, queued, policy)


def reject_waits(running: Operation | None, queued: tuple[Operation, ...], policy: OnBusy) -> Admission:
    return admit(running, queued, OnBusy.QUEUE if policy is OnBusy.REJECT else policy)


def queue_cancels(running: Operation | None, queued: tuple[Operation, ...], policy: OnBusy) -> Admission:
    return admit(running, queued, OnBusy.SUPERSEDE if policy is OnBusy.QUEUE else policy)


def whoever_runs_is_overtaken(running: Operation | None, queued: tuple[Operation, ...], policy: OnBusy) -> Admission:
    everybody = (*queued, *([running] if running is not None and running.ending is None else []))
    return admit(running, everybody, policy)


def anything_is_superseded(patch: pytest.MonkeyPatch) -> None:
    honest = operation._require
    patch.setattr(
        operation, "_require", lambda legal, op, event: honest(legal or isinstance(event, e.Superseded), op, event)
    )


def late_cancel_is_accepted(patch: pytest.MonkeyPatch) -> None:
    honest = operation.verdict
    patch.setattr(operation, "verdict", lambda op: Verdict.NOW if op.committed and op.ending is None else honest(op))


def death_ends_the_wait(patch: pytest.MonkeyPatch) -> None:
    honest = operation._worker_died

    def died(op: Operation, event: e.WorkerDied) -> Operation:
        return replace(op, failure="the deploy process died") if op.queued and not op.turned else honest(op, event)

    patch.setattr(operation, "_worker_died", died)


def ends_differently(real: Ending, told: Ending) -> Break:
    def install(patch: pytest.MonkeyPatch) -> None:
        honest = operation.ending
        patch.setattr(operation, "ending", lambda op: told if honest(op) is real else honest(op))

    return install


def journal_forgets_the_new_plan(patch: pytest.MonkeyPatch) -> None:
    honest = e.to_json

    def to_json(event: e.Event) -> dict[str, Any]:
        old = honest(event)
        return old | {"plan": old["plan"] | {"release": 0}} if isinstance(event, e.Begun) else old

    patch.setattr(e, "to_json", to_json)


MUTANTS = {
    "the newest does not overtake": Mutant(Invariant.ONE_WAITS, model={"admit": nobody_is_overtaken}),
    "one that was cancelled keeps its place": Mutant(
        Invariant.ONE_WAITS, model={"polite": True, "admit": cancelled_ones_keep_their_place}
    ),
    "a new push passes the one that waits": Mutant(
        Invariant.IN_ORDER, model={"crashes": 0, "admit": those_that_wait_are_passed}
    ),
    "a dead waiting operation is forgotten": Mutant(Invariant.ENDS, model={"forgetful": True}),
    "a dead worker is not told of the objects, and its successor neither": Mutant(
        Invariant.ENDS, model={"unheard": True}
    ),
    "a waiting one begins without the lock": Mutant(Invariant.ONE_RUNS, model={"lockless": True}),
    "a waiting one begins though a dead one has not ended": Mutant(Invariant.ONE_RUNS, model={"blind": True}),
    "a waiting one begins though the app is stuck": Mutant(
        Invariant.STUCK, model={"pushes": 2, "crashes": 0, "blind": True}
    ),
    "a stuck app takes pushes in": Mutant(Invariant.STUCK, model={"admit": stuck_is_only_busy}),
    "who opened starts a second worker": Mutant(Invariant.ONE_WORKER, model={"pushes": 2, "hasty": True}),
    "a worker begins what was cancelled in between": Mutant(Invariant.LEGAL, model={"pushes": 2, "stubborn": True}),
    "it begins though its branch moved": Mutant(Invariant.FAST_FORWARD, model={"pushes": 2, "careless": True}),
    "it begins with its old plan": Mutant(Invariant.PLANNED, model={"pushes": 2, "lazy": True}),
    "a lost client is not noticed": Mutant(Invariant.ATTACHED, model={"pushes": 2, "attach": True, "deaf": True}),
    "a crash ends the wait": Mutant(Invariant.SURVIVES, death_ends_the_wait),
    "reject waits": Mutant(Invariant.REJECTED, model={"admit": reject_waits}),
    "queue cancels what runs": Mutant(Invariant.UNASKED, model={"admit": queue_cancels}),
    "what runs ends as superseded": Mutant(
        Invariant.NEVER_BEGAN, anything_is_superseded, {"admit": whoever_runs_is_overtaken}
    ),
    "supersede cancels what is committed": Mutant(Invariant.TRUTH, late_cancel_is_accepted),
    "a cancelled one says that it failed": Mutant(Invariant.KEPT, ends_differently(Ending.CANCELLED, Ending.FAILED)),
    "a refused one says that it was superseded": Mutant(
        Invariant.OVERTAKEN, ends_differently(Ending.FAILED, Ending.SUPERSEDED)
    ),
    "the journal forgets the new plan": Mutant(Invariant.REPLAY, journal_forgets_the_new_plan, {"pushes": 2}),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_bug_put_into_the_queue_on_purpose_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same exploration names the invariant that the bug breaks, and the way there."""
    mutant.core(monkeypatch)
    seen = Model(**{"crashes": 1, **mutant.model}).explore(until=mutant.breaks)
    assert mutant.breaks in seen.violations, f"found only:\n{seen.report()}"
    assert seen.violations[mutant.breaks][0] == "an idle app"


def test_every_rule_of_the_queue_can_be_seen_to_break() -> None:
    """There is a bug on purpose for each invariant, so none is a check that cannot fail."""
    assert {mutant.breaks for mutant in MUTANTS.values()} == set(Invariant)
