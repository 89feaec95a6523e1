"""Takes an app away, in an order in which a second try finishes what a first one left."""

from __future__ import annotations

import time

from safepoint.core import events as e
from safepoint.core.app import App
from safepoint.drivers.haproxy import HAProxy
from safepoint.drivers.supervisord import Supervisord
from safepoint.errors import UserError
from safepoint.git import repositories
from safepoint.state.durable import flush_directory
from safepoint.state.journal import Journal
from safepoint.state.paths import Home
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store
from safepoint.trees import remove_tree


def destroy(home: Home, store: Store, app: App) -> None:
    """Raises UserError while an operation runs on it. A stuck one is no hindrance: with the app it is settled."""
    lock = Lock.take(home.pidfile(app.name))
    if lock is None:
        unfinished = store.unfinished(app.name)
        number = f"operation {unfinished.id}" if unfinished else "another command"
        raise UserError(f"{app.name} is busy with {number}", "wait for it or cancel it first")
    try:
        waiting = store.waiting(app.name)
        if waiting is not None:
            raise UserError(f"operation {waiting.id} of {app.name} waits for its turn", "cancel it first")
        unfinished = store.unfinished(app.name)
        if unfinished is not None and unfinished.ending is None:
            raise UserError(f"operation {unfinished.id} of {app.name} was cut short", "run `recover` first")
        router, runtime = HAProxy(home), Supervisord(home)
        router.switch(app.name, None)
        for release in store.kept_releases(app.name):
            runtime.stop(app.name, release.number)
            runtime.forget(app.name, release.number)
        home.app(app.name).mkdir(mode=0o700, exist_ok=True)
        maker = Lock.take(home.spare_lock(app.name), wait=True)
        assert maker is not None
        try:
            repositories.destroy(home, app.name)
            remove_tree(home.app(app.name))
        finally:
            maker.close()
        flush_directory(home.app(app.name).parent)
        if unfinished is not None:
            Journal(store, unfinished.id).record(e.AppRemoved(at=time.time()))
        store.delete_app(app.name)
    finally:
        lock.close()
