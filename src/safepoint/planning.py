"""Makes plans: reads what a commit or a kept release is, and what runs now. Changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from safepoint.core.app import App
from safepoint.core.detect import FILES, AppShape, shape
from safepoint.core.plan import FINISHING, Kind, Plan, ProcessIdentity, deploy_steps, rollback_steps
from safepoint.core.release import Release
from safepoint.errors import NotFound, UserError
from safepoint.git import objects
from safepoint.git.repositories import GitRepository
from safepoint.state.paths import Home
from safepoint.state.store import Store


def deploy(home: Home, store: Store, app: App, commit: str, receiver: ProcessIdentity | None = None) -> Plan:
    """`receiver` brings the commit by a push; without one it is there already.

    Raises UserError, one sentence, where the commit cannot be deployed as it is.
    """
    repository = home.repository(app.name)
    found = look(repository, commit)
    current = store.current_release(app.name)
    return Plan(
        kind=Kind.DEPLOY,
        app=app.name,
        branch=app.branch,
        release=store.next_release(app.name),
        commit=commit,
        steps=deploy_steps(found.settings, pushed=receiver is not None),
        finishing=FINISHING,
        settings=found.settings,
        processes=found.processes,
        previous_commit=GitRepository(repository).branch(app.branch),
        previous_release=current.number if current else None,
        receiver=receiver,
        build=found.build,
    )


def look(repository: Path, commit: str) -> AppShape:
    """What the commit is. Raises UserError, one sentence, where it cannot be deployed as it is."""
    tree = objects.read(repository, commit, FILES)
    names = {name.decode(errors="replace") for name in tree.entries}
    return shape(names, {name: tree.text(name) for name in FILES}, sys.executable)


def rollback(home: Home, store: Store, app: App, number: int | None) -> tuple[Plan, Release]:
    """To release `number`, or to the newest one kept. Raises UserError where that is not possible."""
    current = store.current_release(app.name)
    target = _target(store, app, current, number)
    plan = Plan(
        kind=Kind.ROLLBACK,
        app=app.name,
        branch=app.branch,
        release=target.number,
        commit=target.commit,
        steps=rollback_steps(),
        finishing=FINISHING,
        settings=target.settings,
        processes=target.processes,
        previous_commit=GitRepository(home.repository(app.name)).branch(app.branch),
        previous_release=current.number if current else None,
    )
    return plan, target


def _target(store: Store, app: App, current: Release | None, number: int | None) -> Release:
    hint = f"`releases {app.name}` lists what is kept"
    if number is None:
        kept = [each for each in store.kept_releases(app.name) if each.state == "kept"]
        older = [each for each in kept if current is None or each.number < current.number]
        if not older:
            raise NotFound(f"{app.name} has no earlier release to go back to", hint)
        return older[0]
    release = store.release(app.name, number)
    if release is None:
        raise NotFound(f"{app.name} has no release v{number}", hint)
    if release.state == "current":
        raise UserError(f"{app.name} runs v{number} already", hint)
    if release.state == "pruned":
        raise NotFound(
            f"v{number} of {app.name} is not kept any more",
            f"deploy its commit again: `deploy {app.name} {release.commit[:12]}`",
        )
    return release
