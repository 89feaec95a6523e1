"""A home and plans, for tests of what is kept in the store."""

from __future__ import annotations

from safepoint.core import events as e
from safepoint.core.events import Ending
from safepoint.core.plan import FINISHING, Kind, Plan, deploy_steps
from safepoint.core.queueing import OnBusy
from safepoint.core.settings import Settings
from safepoint.record import replace
from safepoint.state import opening
from safepoint.state.journal import Journal
from safepoint.state.store import Store

PLAN = Plan(
    kind=Kind.DEPLOY,
    app="web",
    branch="main",
    release=1,
    commit="c" * 40,
    steps=deploy_steps(Settings(), pushed=False),
    finishing=FINISHING,
    settings=Settings(),
    processes={"web": "python app.py"},
)


def open_operation(store: Store, plan: Plan = PLAN) -> Journal:
    """As somebody who holds the app's lock, and who does not want to wait."""
    opened = opening.open_operation(
        store,
        plan,
        by="alice",
        door="ssh",
        reason="",
        environment={"TOKEN": "secret"},
        policy=OnBusy.REJECT,
        may_start=True,
    )
    return Journal(store, opened.operation)


def run_to_commit(journal: Journal) -> None:
    """Up to where the commit record is next. `start` has chosen port 4711."""
    for step in journal.operation.plan.steps:
        data = {"ports": {"web.1": 4711}} if step.name == "start" else {}
        journal.append(e.StepStarted(at=1.0, step=step.name, data=data))
        journal.append(e.StepDone(at=2.0, step=step.name))


def deploy(store: Store, release: int = 1, app: str = "web") -> int:
    """A whole deploy, as its journal tells it; its ID."""
    journal = open_operation(store, replace(PLAN, app=app, release=release))
    run_to_end(journal)
    return journal.operation.id


def run_to_end(journal: Journal) -> None:
    run_to_commit(journal)
    journal.append(e.Committed(at=3.0))
    for step in journal.operation.plan.finishing:
        journal.append(e.StepStarted(at=4.0, step=step.name))
        journal.append(e.StepDone(at=5.0, step=step.name))
    journal.append(e.Ended(at=6.0, ending=Ending.SUCCEEDED))
