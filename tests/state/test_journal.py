"""The journal: several may write to it, and each decision is made on all that is in it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from state.plans import PLAN, deploy, open_operation, run_to_commit

from safepoint.core import events as e
from safepoint.core.events import Verdict
from safepoint.core.failures import Overtaken
from safepoint.core.operation import IllegalEvent
from safepoint.core.plan import Kind, rollback_steps
from safepoint.record import replace
from safepoint.state.journal import Journal
from safepoint.state.paths import Home
from safepoint.state.store import Store


def test_what_was_appended_is_what_others_read(store: Store) -> None:
    """Whoever replays it comes to the same operation. `on_record` is told of each record, once it is there."""
    number = open_operation(store).operation.id
    seen: list[int] = []
    journal = Journal(store, number, on_record=lambda _now: seen.append(store.operation(number).length))
    journal.append(e.StepStarted(at=1.0, step="export", data={"caf\xe9 \udcff": [1, "two"]}))
    journal.record(e.StepDone(at=2.0, step="export", warnings=("it was close",)))
    assert seen == [1, 2]
    assert store.operation(number) == journal.operation
    assert Journal(store, number).operation.step("export").data == {"caf\xe9 \udcff": [1, "two"]}


def test_whoever_was_overtaken_decides_again(store: Store) -> None:
    """Nothing is written on old knowledge, except for what has happened anyway."""
    worker = open_operation(store)
    number = worker.operation.id
    canceller = Journal(store, number)
    assert canceller.request_cancel(by="bob", reason="", force=False) is Verdict.NOW
    with pytest.raises(Overtaken):
        worker.append(e.StepStarted(at=1.0, step="export"))
    assert worker.operation == canceller.operation
    assert store.operation(number).length == 1

    other = open_operation(store, replace(PLAN, app="blog"))
    late = Journal(store, other.operation.id)
    other.append(e.StepStarted(at=1.0, step="export"))
    assert late.request_cancel(by="bob", reason="", force=False) is Verdict.NOW
    other.record(e.StepDone(at=2.0, step="export"))
    assert other.operation.length == 3
    assert other.operation.cancel is not None


def test_what_cannot_be_is_not_written(store: Store) -> None:
    """The journal and the writer's knowledge stay as they were."""
    journal = open_operation(store)
    before = journal.operation
    for write in (journal.append, journal.record):
        with pytest.raises(IllegalEvent):
            write(e.Committed(at=1.0))
    assert journal.operation == before == store.operation(before.id)


def test_a_cancel_that_races_the_commit_has_one_true_answer(store: Store) -> None:
    """Either it is accepted and there is no commit, or it is too late and there is."""
    for number in range(30):
        store.create_app(f"app{number}", "main")
        worker = open_operation(store, replace(PLAN, app=f"app{number}"))
        run_to_commit(worker)
        start = threading.Barrier(2)
        with ThreadPoolExecutor(1) as other:
            cancel = other.submit(_cancel, store.home, worker.operation.id, start)
            start.wait()
            committed = _commit(worker)
            verdict = cancel.result()
        found = store.operation(worker.operation.id)
        assert verdict is (Verdict.TOO_LATE if committed else Verdict.NOW)
        assert (found.committed is not None) is committed
        assert (found.cancel is None) is committed
        assert (store.current_release(found.app) is not None) is committed


def _cancel(home: Home, number: int, start: threading.Barrier) -> Verdict:
    with Store.open(home) as store:
        journal = Journal(store, number)
        start.wait()
        return journal.request_cancel(by="bob", reason="", force=False)


def _commit(worker: Journal) -> bool:
    try:
        worker.append(e.Committed(at=3.0))
    except Overtaken:
        return False
    return True


def test_the_commit_record_makes_the_release_current(store: Store) -> None:
    """In the same transaction, with its ports and its environment; the one before it is kept. A rollback likewise."""
    deploy(store, 1)
    deploy(store, 2)
    two, one = store.releases("web")
    assert (two.state, one.state) == ("current", "kept")
    assert (two.ports, two.environment) == ({"web.1": 4711}, {"TOKEN": "secret"})
    plan = replace(PLAN, kind=Kind.ROLLBACK, release=1, steps=rollback_steps())
    journal = open_operation(store, plan)
    run_to_commit(journal)
    assert [each.state for each in store.releases("web")] == ["current", "kept"]
    journal.append(e.Committed(at=3.0))
    assert [each.state for each in store.releases("web")] == ["kept", "current"]
    assert store.release("web", 1) == replace(one, state="current")
