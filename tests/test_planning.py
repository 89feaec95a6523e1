"""Plans, from real commits and from what is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh.servers import Place, git, make_commit
from state.plans import deploy

from safepoint import planning
from safepoint.core.app import App
from safepoint.core.plan import Kind, ProcessIdentity
from safepoint.core.settings import Settings
from safepoint.errors import NotFound, UserError
from safepoint.state.store import Store

PUSH = ProcessIdentity(pid=4711, started=1, boot="b00f")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.add_app("web")
    return place


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with Store.open(place.home) as store:
        yield store


@pytest.fixture
def app(store: Store) -> App:
    return store.need_app("web")


def commit(place: Place, name: str, text: str) -> str:
    """A commit on main, which is pushed."""
    work = place.directory / "work"
    oid = make_commit(work, text.encode(), name)
    git("-C", work, "push", "-q", place.home.repository("web"), "main")
    return oid


def test_a_deploy_is_planned_from_its_commit(place: Place, store: Store, app: App) -> None:
    """What is run and how, what there is now, and who brings it."""
    oid = commit(place, "Procfile", "release: b\nweb: a\n")
    commit(place, "requirements.txt", "flask\n")
    plan = planning.deploy(place.home, store, app, oid, PUSH)
    assert (plan.kind, plan.app, plan.branch, plan.release, plan.commit) == (Kind.DEPLOY, "web", "main", 1, oid)
    assert (plan.previous_release, plan.receiver, plan.build, plan.processes) == (None, PUSH, (), {"web": "a"})
    names = [step.name for step in plan.steps]
    assert names == ["receive", "export", "build", "before_release.1", "start", "health", "switch", "watch"]

    deploy(store, 1)
    newest = git("--git-dir", place.home.repository("web"), "rev-parse", "main").strip()
    plan = planning.deploy(place.home, store, app, newest)
    assert [step.name for step in plan.steps] == names[1:]
    assert (plan.release, plan.previous_release, plan.previous_commit, plan.receiver) == (2, 1, newest, None)
    assert plan.build[0].startswith(f"{sys.executable} -I -m venv")


def test_what_cannot_be_deployed_has_no_plan(place: Place, store: Store, app: App) -> None:
    """A sentence says why."""
    oid = commit(place, "README", "nothing to run")
    with pytest.raises(UserError, match="the app does not say what to run"):
        planning.deploy(place.home, store, app, oid)
    with pytest.raises(NotFound, match="there is no commit"):
        planning.deploy(place.home, store, app, "0" * 40)


def test_a_rollback_is_planned_from_what_is_kept(place: Place, store: Store, app: App) -> None:
    """The one before what runs, or the one that was named; never what runs or what is gone."""
    with pytest.raises(NotFound, match="web has no earlier release to go back to"):
        planning.rollback(place.home, store, app, None)
    for release in (1, 2, 3):
        deploy(store, release)
    plan, target = planning.rollback(place.home, store, app, None)
    assert (plan.kind, plan.release, plan.previous_release, plan.receiver) == (Kind.ROLLBACK, 2, 3, None)
    assert [step.name for step in plan.steps] == ["start", "health", "switch", "watch"]
    assert (target.environment, plan.settings, plan.build) == ({"TOKEN": "secret"}, Settings(), ())
    assert planning.rollback(place.home, store, app, 1)[0].release == 1
    store.mark_pruned("web", 1)
    for number, complaint in (
        (3, "web runs v3 already"),
        (1, "v1 of web is not kept any more; deploy its commit again: `deploy web cccccccccccc`"),
        (9, "web has no release v9; `releases web` lists what is kept"),
    ):
        with pytest.raises(UserError, match=complaint):
            planning.rollback(place.home, store, app, number)
