"""A worker that is SIGKILLed after any record of its journal, and what recovery makes of it.

The number is that of the record after which the kill comes (0: the opening). The world is compared each time.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import door_of, new_name
from deploying import App, World, app_processes, site, wait_until, world
from holding import holding, known, make_holdable

from safepoint.drivers.supervisord import Supervisord
from safepoint.faults import VARIABLE

SETTINGS = """
[build]
command = "echo built > built"
[[before_release]]
command = "echo up >> $MIGRATIONS"
undo = "echo down >> $MIGRATIONS"
[health]
expect = "2xx"
timeout = "60s"
[watch]
for = "100ms"
[stop]
grace = "5s"
"""
BROKEN = 'raise SystemExit("this release is broken")\n'

DEPLOY = ("receive", "export", "build", "before_release.1", "start", "health", "switch", "watch")
ROLLBACK = ("start", "health", "switch", "watch")
FINISHING = ("publish", "retire", "prune")


def commit_record(steps: tuple[str, ...]) -> int:
    """Two records a step, and that the objects are there; then the commit."""
    return 2 * len(steps) + ("receive" in steps) + 1


def last_record(steps: tuple[str, ...]) -> int:
    return commit_record(steps) + 2 * len(FINISHING) + 1


UNWINDING = range(13, 27)
"""A deploy that fails in health: 12 records to there, the failure, two a step undone, the end."""


@pytest.fixture
def live(make_app: Callable[..., App], outside: Path) -> App:
    """An app whose v1 serves."""
    app = make_app(SETTINGS)
    app.site.run("config:set", app.name, f"MIGRATIONS={outside / 'migrations'}")
    app.commit("one")
    app.push(door_of(app.site, "local"))
    (outside / "migrations").unlink()
    return app


def crash(*records: int) -> dict[str, str]:
    return {VARIABLE: ",".join(map(str, records))}


def is_now(app: App, before: World, version: str, commit: str, releases: tuple[tuple[int, str], ...]) -> None:
    """Another release serves, alone, and everything agrees on it."""
    after = world(app)
    assert after.answer == (200, version)
    assert after.branch == commit
    assert after.releases == releases
    assert after.directories == before.directories + tuple(
        f"v{n}" for n, _ in releases if f"v{n}" not in before.directories
    )
    assert len(after.processes) == len(before.processes)
    assert set(after.processes).isdisjoint(before.processes)
    assert not after.locked
    assert not any("v1" in left for left in after.leftovers) or releases[0] != (2, "current")


@pytest.mark.parametrize("record", range(last_record(DEPLOY) + 1))
def test_deploy_killed_after_a_record_goes_back_or_forward(live: App, outside: Path, record: int) -> None:
    """Before the commit record everything is as before; from it on the release goes live. The push says which."""
    before = world(live)
    commit = live.commit("two")
    said = live.push(door_of(live.site, "local"), status=None, environment=crash(record))
    ended = live.site.wait_ended(live.site.operations(live.name)[0]["id"])
    migrations = outside / "migrations"
    lines = migrations.read_text().splitlines() if migrations.exists() else []
    if record < commit_record(DEPLOY):
        assert ended["state"] == "failed", ended
        assert world(live) == before
        assert lines.count("up") <= lines.count("down")
        assert "[remote rejected]" in said
    else:
        assert ended["state"] == "succeeded", ended
        is_now(live, before, "two", commit, ((2, "current"), (1, "kept")))
        assert lines == ["up"]
        assert "[remote rejected]" not in said
    assert live.site.operation(ended["id"])["pid"] is None


@pytest.mark.parametrize("record", UNWINDING)
def test_unwinding_killed_after_a_record_is_finished(live: App, record: int) -> None:
    """A release that fails its health check is undone to the end, whoever has to do it."""
    before = world(live)
    live.commit("two", {"app.py": BROKEN})
    said = live.push(door_of(live.site, "local"), status=1, environment=crash(record))
    ended = live.site.operations(live.name)[0]
    assert ended["state"] == "failed"
    assert ended["failure"].startswith("web.1 of v2 died")
    assert "still runs v1" in said
    assert world(live) == before


def test_unwinding_has_the_records_that_are_tried(live: App) -> None:
    """So that the range above cannot miss the end of the story."""
    live.commit("two", {"app.py": BROKEN})
    live.push(door_of(live.site, "local"), status=1)
    steps = live.site.operations(live.name)[0]["steps"]
    started = sum(step["started"] is not None for step in steps)
    assert 1 + 2 * started + 2 * started + 1 == UNWINDING.stop - 1


@pytest.mark.parametrize("record", range(last_record(ROLLBACK) + 1))
def test_rollback_killed_after_a_record_goes_back_or_forward(live: App, record: int) -> None:
    """The same holds for going back to a kept release."""
    first = live.site.branch(live.name)
    live.commit("two")
    live.push(door_of(live.site, "local"))
    before = world(live)
    live.site.run("releases:rollback", live.name, status=None, by=crash(record))
    ended = live.site.wait_ended(live.site.operations(live.name)[0]["id"])
    if record < commit_record(ROLLBACK):
        assert ended["state"] == "failed", ended
        assert world(live) == before
    else:
        assert ended["state"] == "succeeded", ended
        is_now(live, before, "one", first, ((2, "kept"), (1, "current")))


@pytest.mark.parametrize("record", [1, 5, 12, 14, 16, 18, 19, 21])
def test_recovery_is_killed_too(live: App, record: int) -> None:
    """Recovery is a worker like any other: killed after its third record, the next one finishes the story."""
    before = world(live)
    commit = live.commit("two")
    live.push(door_of(live.site, "local"), status=None, environment=crash(record, record + 3))
    ended = live.site.wait_ended(live.site.operations(live.name)[0]["id"])
    if record < commit_record(DEPLOY):
        assert ended["state"] == "failed", ended
        assert world(live) == before
    else:
        assert ended["state"] == "succeeded", ended
        is_now(live, before, "two", commit, ((2, "current"), (1, "kept")))


@pytest.fixture
def unserved(tmp_path: Path, outside: Path) -> object:
    """A site whose `serve` has ended and left the apps serving: nobody recovers unasked."""
    with site(tmp_path) as running:
        running.end()
        running.start("--keep-apps")
        app = App.create(running, new_name(), tmp_path / "work", SETTINGS)
        running.run("config:set", app.name, f"MIGRATIONS={outside / 'migrations'}")
        app.commit("one")
        app.push(door_of(running, "local"))
        assert running.end() == 0
        yield app
        if running.process is None:
            running.start()


def _by_recover(app: App) -> None:
    app.site.run("recover")


def _by_recover_of_id(app: App) -> None:
    app.site.run("recover", str(app.site.operations(app.name)[0]["id"]), status=None)


def _by_cancel(app: App) -> None:
    app.site.run("operation:cancel", str(app.site.operations(app.name)[0]["id"]), status=None)


def _by_follow(app: App) -> None:
    app.site.run("operation:follow", str(app.site.operations(app.name)[0]["id"]), status=None)


def _by_serve(app: App) -> None:
    app.site.start()
    app.site.wait_ended(app.site.operations(app.name)[0]["id"])


@pytest.mark.parametrize("recover", [_by_recover, _by_recover_of_id, _by_cancel, _by_follow, _by_serve])
def test_everybody_finishes_what_a_dead_worker_left(unserved: App, recover: Callable[[App], None]) -> None:
    """A deploy that died in switch, with nobody there, is rolled back by whoever comes next."""
    before = world(unserved)
    unserved.commit("two")
    commit = unserved.commit("two")
    died = commit_record(DEPLOY[1:]) - 3  # the switch is done; a deploy by command has no receive
    _store(unserved, commit)
    unserved.site.run("deploy", unserved.name, commit, "--no-wait", by=crash(died))
    _wait_dead_worker(unserved)
    assert unserved.site.operations(unserved.name)[0]["state"] == "running"
    recover(unserved)
    ended = unserved.site.operations(unserved.name)[0]
    assert ended["state"] == ("cancelled" if recover is _by_cancel else "failed")
    assert world(unserved) == before


def test_the_next_push_finishes_what_a_dead_worker_left(unserved: App) -> None:
    """It has the dead deploy undone first, says so, and then deploys."""
    first = unserved.commit("two")
    _store(unserved, first)
    unserved.site.run("deploy", unserved.name, first, "--no-wait", by=crash(9))
    _wait_dead_worker(unserved)
    commit = unserved.commit("three")
    said = unserved.push(door_of(unserved.site, "local"))
    dead = unserved.site.operations(unserved.name)[1]
    assert f"Finishing operation {dead['id']}, whose process died..." in said
    assert dead["state"] == "failed"
    assert unserved.site.get(unserved.name) == (200, "three")
    assert unserved.site.branch(unserved.name) == commit


def _store(app: App, commit: str) -> None:
    """Have the commit on the server without a deploy."""
    app.push(door_of(app.site, "local"), f"{commit}:refs/heads/other")


def _wait_dead_worker(app: App) -> None:
    """Until the kernel has let go of the worker's lock."""
    from safepoint.state.pidfile import Lock

    lock = Lock.take(app.site.home.pidfile(app.name), wait=True)
    assert lock is not None
    lock.close()


def test_a_running_serve_recovers_at_once(live: App) -> None:
    """Nobody asks: the server itself notices the death of a worker whose pusher has gone."""
    before = world(live)
    commit = live.commit("two")
    _store(live, commit)
    live.site.run("deploy", live.name, commit, "--no-wait", by=crash(9))
    number = live.site.operations(live.name)[0]["id"]
    # Following would recover it, too: so look at the journal only.
    wait_until(lambda: live.site.operation(number)["state"] == "failed", "serve recovers")
    wait_until(lambda: not world(live).locked, "the worker that recovered is gone")
    assert dataclasses.replace(world(live)) == before
    assert app_processes(live.name)


def test_a_running_serve_recovers_what_has_no_worker_yet(live: App) -> None:
    """Whoever opened it died before the worker was started, and has told nobody else."""
    before = world(live)
    commit = live.commit("two")
    _store(live, commit)
    live.site.run("deploy", live.name, commit, status=-9, by=crash(0))
    number = live.site.operations(live.name)[0]["id"]
    wait_until(lambda: known(live.site, number).ending is not None, "serve recovers")
    assert known(live.site, number).state == "failed"
    assert world(live) == before


def test_a_worker_that_is_killed_before_it_is_detached(live: App, tmp_path: Path) -> None:
    """That is a dead worker like any other: the push says what has become of its operation."""
    before = world(live)
    live.commit("two")
    setsid = tmp_path / "setsid"
    setsid.write_text("#!/bin/sh\nkill -KILL $$\n")
    setsid.chmod(0o755)
    said = live.push(door_of(live.site, "local"), status=1, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    (number,) = (each["id"] for each in live.site.operations(live.name) if each["state"] == "failed")
    assert f"(operation {number} failed" in said
    assert "the deploy process died" in said
    assert "internal error" not in said
    assert world(live) == before


def test_the_socket_of_an_opening_that_died_goes(live: App) -> None:
    """It was bound, and no operation opened: there is nothing to recover, and nothing is left."""
    opening = (
        "import sys; from pathlib import Path; from safepoint import launch; from safepoint.state.paths import Home\n"
        "home, app = Home(Path(sys.argv[1])), sys.argv[2]\n"
        "lock = launch.Lock.take(home.pidfile(app), wait=True)\n"
        "launch.listen(home, app)\n"
    )
    subprocess.run([sys.executable, "-c", opening, live.site.home.root, live.name], check=True)
    wait_until(lambda: not live.site.home.control_socket(live.name).exists(), "the socket goes")


def test_a_release_that_was_lost_under_its_deploy_is_started_again(live: App) -> None:
    """supervisord died, say, after the last look at it and before the commit: then `serve` started what was current."""
    make_holdable(live, SETTINGS.replace("100ms", "0s"))
    live.commit("two")
    with holding(live, "switch", "two") as hold, live.pushing(door_of(live.site, "local")) as push:
        hold.reached(push)
        Supervisord(live.site.home).stop(live.name, 2)
        hold.let_go()
        push.finish()
        assert push.process.returncode == 0, push.said
    wait_until(lambda: live.site.get(live.name) == (200, "two"), "it answers again")
