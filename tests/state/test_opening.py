"""Opening operations on a real database: one answer for everybody who comes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from safepoint.core import events as e
from safepoint.core.events import Ending, Verdict
from safepoint.core.failures import Overtaken
from safepoint.core.operation import IllegalEvent, State
from safepoint.core.plan import FINISHING, SWITCH, Kind, Plan, deploy_steps
from safepoint.core.queueing import OnBusy
from safepoint.core.settings import Settings
from safepoint.errors import NotPermitted
from safepoint.record import replace
from safepoint.state.journal import Journal
from safepoint.state.opening import AppBusy, Opened, open_operation
from safepoint.state.paths import Home
from safepoint.state.store import Store

PLAN = Plan(
    Kind.DEPLOY, "shop", "main", 1, "c" * 40, deploy_steps(Settings(), pushed=True), FINISHING, Settings(), {"web": "x"}
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(Home(tmp_path / "home")) as store:
        store.create_app("shop", "main")
        yield store


def open_one(store: Store, policy: OnBusy = OnBusy.QUEUE, *, may_start: bool = True, **more: object) -> Opened:
    return open_operation(
        store,
        replace(PLAN, release=store.next_release("shop")),
        by="alice",
        door="local",
        reason="",
        environment={},
        policy=policy,
        may_start=may_start,
        **more,  # type: ignore[arg-type]
    )


def write(store: Store, number: int, *events: e.Event) -> None:
    journal = Journal(store, number)
    for event in events:
        journal.append(event)


def state(store: Store, number: int) -> State:
    return store.operation(number).state


def cancel(store: Store, number: int) -> Verdict:
    return Journal(store, number).request_cancel(by="bob", reason="no", force=False)


def begin(store: Store, number: int) -> None:
    write(store, number, e.Begun(at=2.0, plan=replace(PLAN, release=store.next_release("shop")).to_json()))


def commit(store: Store, number: int) -> None:
    for step in PLAN.steps:
        write(store, number, e.StepStarted(at=2.0, step=step.name), e.StepDone(at=2.0, step=step.name))
    write(store, number, e.Committed(at=3.0))


def finish(store: Store, number: int) -> None:
    commit(store, number)
    for step in PLAN.finishing:
        write(store, number, e.StepStarted(at=4.0, step=step.name), e.StepDone(at=4.0, step=step.name))
    write(store, number, e.Ended(at=5.0, ending=Ending.SUCCEEDED))


def get_stuck(store: Store, number: int) -> None:
    step = PLAN.steps[0].name
    write(
        store, number, e.StepStarted(at=2.0, step=step), e.StepFailed(at=2.0, step=step, reason="it broke"),
        e.UndoStarted(at=3.0, step=step), e.UndoFailed(at=3.0, step=step, reason="it stays"),
        e.Ended(at=4.0, ending=Ending.STUCK),
    )  # fmt: skip


def test_the_first_one_starts_and_the_next_one_waits(store: Store) -> None:
    """Each by its own row and its own header."""
    assert open_one(store) == Opened(1, queued=False)
    assert open_one(store, may_start=False) == Opened(2, queued=True)
    assert (state(store, 1), state(store, 2)) == (State.RUNNING, State.QUEUED)
    running, waiting = store.unfinished("shop"), store.waiting("shop")
    assert running is not None
    assert waiting is not None
    assert (running.id, waiting.id, waiting.header.queued) == (1, 2, True)


def test_the_newest_takes_the_place_of_the_one_that_waits(store: Store) -> None:
    """In one transaction: that one has ended as superseded, and says by whom."""
    open_one(store)
    open_one(store)
    assert open_one(store) == Opened(3, queued=True, superseded=(2,))
    assert state(store, 2) is State.SUPERSEDED
    assert store.operation(2).superseded == 3
    assert [event.type for event in store.events(2)] == ["superseded", "ended"]
    assert state(store, 3) is State.QUEUED


def test_one_that_was_cancelled_in_the_queue_makes_way_as_cancelled(store: Store) -> None:
    """Its worker has not come to end it, or is dead; the new one has its place all the same."""
    open_one(store)
    open_one(store)
    assert cancel(store, 2) is Verdict.NOW
    assert open_one(store) == Opened(3, queued=True, superseded=(2,))
    assert state(store, 2) is State.CANCELLED
    assert store.operation(2).superseded is None
    assert state(store, 3) is State.QUEUED


def test_one_that_was_cancelled_in_the_queue_is_nobodys_obstacle(store: Store) -> None:
    """Not even to one that would rather be rejected; and where that is not opened, it is as if it had not been."""
    open_one(store)
    open_one(store)
    cancel(store, 2)
    with pytest.raises(AppBusy) as busy:
        open_one(store, OnBusy.REJECT)
    assert busy.value.operation == 1
    assert state(store, 2) is State.UNDOING
    finish(store, 1)
    assert open_one(store, OnBusy.REJECT) == Opened(3, queued=False)
    assert state(store, 2) is State.CANCELLED


def test_one_that_was_refused_in_the_queue_makes_way_as_failed(store: Store) -> None:
    """As one that was cancelled."""
    open_one(store)
    open_one(store)
    write(store, 2, e.Refused(at=2.0, reason="fetch first"))
    assert open_one(store) == Opened(3, queued=True, superseded=(2,))
    assert (state(store, 2), store.operation(2).failure) == (State.FAILED, "fetch first")


def test_nobody_passes_the_one_that_waits_for_a_free_app(store: Store) -> None:
    """The running one has ended and the lock is free: the new one queues, in the place of the other."""
    open_one(store)
    open_one(store)
    finish(store, 1)
    with pytest.raises(AppBusy) as busy:
        open_one(store, OnBusy.REJECT)
    assert busy.value.operation == 2
    assert open_one(store) == Opened(3, queued=True, superseded=(2,))
    assert store.unfinished("shop") is None


def test_without_the_lock_a_free_app_is_tried_again(store: Store) -> None:
    """Whoever holds it is about to leave, or to begin."""
    with pytest.raises(AppBusy) as busy:
        open_one(store, may_start=False)
    assert busy.value.operation == 0
    assert store.operations("shop") == []


def test_supersede_cancels_what_runs_in_the_same_transaction(store: Store) -> None:
    """With who did it, and why."""
    open_one(store)
    assert open_one(store, OnBusy.SUPERSEDE) == Opened(2, queued=True, cancelled=1)
    found = store.operation(1).cancel
    assert found is not None
    assert (found.by, found.reason, found.verdict) == ("alice", "superseded by operation 2", Verdict.NOW)


def test_supersede_waits_for_a_step_that_finishes_first(store: Store) -> None:
    """It is cancelled, after the step."""
    open_one(store)
    for step in PLAN.steps[: [step.name for step in PLAN.steps].index(SWITCH)]:
        write(store, 1, e.StepStarted(at=2.0, step=step.name), e.StepDone(at=2.0, step=step.name))
    write(store, 1, e.StepStarted(at=2.0, step=SWITCH))
    assert open_one(store, OnBusy.SUPERSEDE).cancelled == 1
    found = store.operation(1).cancel
    assert found is not None
    assert found.verdict is Verdict.AFTER_STEP


@pytest.mark.parametrize("verdict", [Verdict.TOO_LATE, Verdict.ALREADY_CANCELLING])
def test_supersede_says_where_it_has_cancelled_nothing(store: Store, verdict: Verdict) -> None:
    """It was too late, or somebody else had done it; that it asked is in the journal."""
    open_one(store)
    if verdict is Verdict.TOO_LATE:
        commit(store, 1)
    else:
        cancel(store, 1)
    before = store.operation(1)
    assert open_one(store, OnBusy.SUPERSEDE) == Opened(2, queued=True)
    assert store.operation(1).cancel == before.cancel
    last = store.events(1)[-1]
    assert isinstance(last, e.CancelRequested)
    assert last.verdict is verdict


def test_supersede_takes_both_places(store: Store) -> None:
    """The running one is cancelled, and the one that waits is overtaken."""
    open_one(store)
    open_one(store)
    assert open_one(store, OnBusy.SUPERSEDE) == Opened(3, queued=True, superseded=(2,), cancelled=1)
    assert (state(store, 1), state(store, 2), state(store, 3)) == (State.UNDOING, State.SUPERSEDED, State.QUEUED)


def test_who_may_not_cancel_supersedes_nobody(store: Store) -> None:
    """Neither the running one nor the one that waits: the whole opening has not been."""
    open_one(store)
    open_one(store)
    asked: list[int] = []

    def permit(running: int) -> None:
        asked.append(running)
        raise NotPermitted("it is not yours")

    with pytest.raises(NotPermitted):
        open_one(store, OnBusy.SUPERSEDE, permit_cancel=permit)
    assert asked == [1]
    assert [op.id for op in store.operations("shop")] == [2, 1]
    assert store.events(1) == store.events(2) == []


@pytest.mark.parametrize("policy", [OnBusy.QUEUE, OnBusy.REJECT])
def test_who_cancels_nobody_needs_no_permission(store: Store, policy: OnBusy) -> None:
    """It is not asked for."""

    def permit(_running: int) -> None:
        raise AssertionError

    assert not open_one(store, policy, permit_cancel=permit).queued
    assert open_one(store, permit_cancel=permit).queued


def test_reject_opens_nothing(store: Store) -> None:
    """It names the one that is in the way, and leaves it alone."""
    open_one(store)
    with pytest.raises(AppBusy) as busy:
        open_one(store, OnBusy.REJECT)
    assert busy.value.operation == 1
    assert [op.id for op in store.operations("shop")] == [1]
    assert store.events(1) == []


@pytest.mark.parametrize("policy", list(OnBusy))
def test_a_stuck_app_takes_nothing_in(store: Store, policy: OnBusy) -> None:
    """Nor does one that waits lose its place to it."""
    open_one(store)
    open_one(store)
    get_stuck(store, 1)
    with pytest.raises(AppBusy) as busy:
        open_one(store, policy)
    assert busy.value.operation == 1
    assert state(store, 2) is State.QUEUED


def test_another_app_has_places_of_its_own(store: Store) -> None:
    """Nobody waits for it."""
    store.create_app("blog", "main")
    open_one(store)
    opened = open_operation(
        store, replace(PLAN, app="blog"), by="alice", door="local", reason="", environment={},
        policy=OnBusy.REJECT, may_start=True,
    )  # fmt: skip
    assert opened == Opened(2, queued=False)


def test_the_database_refuses_two_that_run(store: Store) -> None:
    """Whatever a defect may try: one that waits cannot begin while another has not ended, or is stuck."""
    open_one(store)
    open_one(store)
    with pytest.raises(Exception, match="UNIQUE constraint failed"):
        begin(store, 2)
    assert state(store, 2) is State.QUEUED
    get_stuck(store, 1)
    with pytest.raises(Exception, match="UNIQUE constraint failed"):
        begin(store, 2)


def test_who_begins_leaves_its_place(store: Store) -> None:
    """It works with the configuration of now, and the next one waits for it."""
    open_one(store)
    open_one(store)
    store.change_config("shop", {"COLOUR": "red"})
    finish(store, 1)
    begin(store, 2)
    assert store.environment(2) == {"COLOUR": "red"}
    assert store.operation(2).plan.release == 2
    assert store.waiting("shop") is None
    assert open_one(store) == Opened(3, queued=True)


def test_the_objects_of_one_that_has_ended_are_of_no_interest(store: Store) -> None:
    """They arrive while it is superseded: nothing is written, and nothing is illegal. Twice is once."""
    open_one(store)
    open_one(store)
    journal = Journal(store, 2)
    journal.receive()
    Journal(store, 2).receive()
    assert [event.type for event in store.events(2)] == ["received"]
    open_one(store)
    journal.receive()
    assert state(store, 2) is State.SUPERSEDED
    assert [event.type for event in store.events(2)] == ["received", "superseded", "ended"]
    with pytest.raises(IllegalEvent):
        journal.record(e.Received(at=1.0))


# Races: everybody with a connection of their own, as processes have.

TOGETHER = 8


def at_once(home: Home, what: Callable[[Store, int], object]) -> list[object]:
    """What each of TOGETHER got, or the exception that it met."""
    barrier = Barrier(TOGETHER)

    def one(index: int) -> object:
        with Store.open(home) as store:
            barrier.wait()
            try:
                return what(store, index)
            except AppBusy as busy:
                return busy

    with ThreadPoolExecutor(TOGETHER) as pool:
        return list(pool.map(one, range(TOGETHER)))


def test_of_many_that_open_at_once_one_starts_and_the_last_one_waits(store: Store) -> None:
    """The others are superseded, each by the next; none is lost, and no number is used twice."""
    got = at_once(store.home, lambda own, _: open_one(own))
    opened = sorted((each for each in got if isinstance(each, Opened)), key=lambda each: each.operation)
    assert [each.operation for each in opened] == list(range(1, TOGETHER + 1))
    assert [each.queued for each in opened] == [False, *[True] * (TOGETHER - 1)]
    assert [each.superseded for each in opened] == [(), (), *[(number,) for number in range(2, TOGETHER)]]
    states = [state(store, number) for number in range(1, TOGETHER + 1)]
    assert states == [State.RUNNING, *[State.SUPERSEDED] * (TOGETHER - 2), State.QUEUED]


def test_of_many_that_supersede_at_once_one_cancels(store: Store) -> None:
    """The others find it cancelled."""
    open_one(store)
    got = at_once(store.home, lambda own, _: open_one(own, OnBusy.SUPERSEDE, may_start=False))
    assert [each.cancelled for each in got if isinstance(each, Opened)].count(1) == 1
    requests = [event for event in store.events(1) if isinstance(event, e.CancelRequested)]
    assert [event.verdict for event in requests] == [Verdict.NOW, *[Verdict.ALREADY_CANCELLING] * (TOGETHER - 1)]


def test_of_many_that_reject_at_once_one_starts(store: Store) -> None:
    """The others name it."""
    got = at_once(store.home, lambda own, _: open_one(own, OnBusy.REJECT))
    assert [each for each in got if isinstance(each, Opened)] == [Opened(1, queued=False)]
    assert {each.operation for each in got if isinstance(each, AppBusy)} == {1}


def test_to_begin_and_to_be_superseded_exclude_each_other(store: Store) -> None:
    """Whoever is first: the one that waits begins and the new one queues behind it, or it ends without having begun."""
    for _ in range(5):
        open_one(store)
        number = open_one(store).operation
        finish(store, number - 1)

        def race(own: Store, index: int, number: int = number) -> object:
            if index:
                return open_one(own) if index == 1 else None
            try:
                begin(own, number)
            except (IllegalEvent, Overtaken):
                return "too late"
            return "begun"

        got = at_once(store.home, race)
        assert isinstance(got[1], Opened)
        if got[1].superseded:
            assert got[0] == "too late"
            assert state(store, number) is State.SUPERSEDED
        else:
            assert got[0] == "begun"
            assert state(store, number) is State.RUNNING
            finish(store, number)
        cancel(store, got[1].operation)
        write(store, got[1].operation, e.Ended(at=9.0, ending=Ending.CANCELLED))
