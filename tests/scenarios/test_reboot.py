"""A reboot at any moment of a deploy: nothing runs, `run/` is empty or full of stale files, the boot ID is another one.

`serve` then has the unfinished story ended, and every app serves its current release again.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from busy import busy
from conftest import door_of, new_name
from deploying import App, Site, World, wait_until, world
from holding import STEPS, Gate, gates, holding, known, make_holdable
from rebooting import boot, cut_power


@pytest.fixture
def live(own_site: Site, tmp_path: Path) -> App:
    """An app whose v1 serves, and whose deploys can be held."""
    app = make_holdable(App.create(own_site, new_name(), tmp_path / "work"))
    app.commit("one")
    app.push(door_of(own_site, "local"))
    return app


@contextmanager
def somebody_has_the_port(before: World) -> Iterator[None]:
    """A stranger who was there first after the reboot."""
    with socket.create_server(("127.0.0.1", int(before.route.split()[1]))):
        yield


def ends(app: App, number: int) -> str:
    """How it ends by itself: nobody asks but the server."""
    wait_until(lambda: known(app.site, number).ending is not None, f"operation {number} ends")
    return known(app.site, number).state.value


def is_as_before(app: App, before: World) -> None:
    """All but the process, and the port that it may have lost."""
    wait_until(lambda: app.site.get(app.name) == before.answer, "it answers as before")
    after = world(app)
    assert replace(after, processes=before.processes, route=before.route) == before
    assert len(after.processes) == 1
    assert set(after.processes).isdisjoint(before.processes)
    app.commit("three")
    assert "now runs v2" in app.push(door_of(app.site, "embedded"))
    assert app.site.get(app.name) == (200, "three")


@pytest.mark.parametrize("step", [*STEPS, "switch"])
def test_in_the_middle_of_a_step(live: App, step: str) -> None:
    """It is rolled back, also where the release that serves again got another port than the switch knew."""
    before = world(live)
    live.commit("two")
    with holding(live, step, "two") as hold, live.pushing(door_of(live.site, "local")) as push:
        hold.reached(push)
        number = push.operation()
        cut_power(live.site)
        hold.let_go()
        with somebody_has_the_port(before):
            boot(live.site)
            assert ends(live, number) == "failed"
            assert known(live.site, number).failure.startswith("the deploy process died")
            wait_until(lambda: live.site.get(live.name) == before.answer, "it answers as before")
    is_as_before(live, before)


@pytest.mark.parametrize("what", ["undo", "stop"])
def test_in_the_middle_of_an_undo(live: App, what: str) -> None:
    """Of before_release, or of start: the cancel that was accepted is kept."""
    before = world(live)
    live.commit("two")
    step = {"undo": "before_release", "stop": "health"}[what]
    with (
        Gate(gates(live) / f"two.{what}") as undo,
        holding(live, step, "two") as hold,
        live.pushing(door_of(live.site, "local")) as push,
    ):
        hold.reached(push)
        number = push.operation()
        live.site.run("operation:cancel", str(number), "--no-wait")
        undo.wait_held()
        cut_power(live.site)
        undo.open()
        hold.let_go()
        boot(live.site)
        assert ends(live, number) == "cancelled"
    is_as_before(live, before)


def test_after_the_commit(live: App) -> None:
    """While the old release is being stopped: the new one serves after the reboot, and the branch says so."""
    before = world(live)
    commit = live.commit("two")
    with Gate(gates(live) / "one.stop") as stop, live.pushing(door_of(live.site, "local")) as push:
        number = push.operation()
        stop.wait_held()
        cut_power(live.site)
        stop.open()
        boot(live.site)
        assert ends(live, number) == "succeeded"
    wait_until(lambda: live.site.get(live.name) == (200, "two"), "it answers")
    after = world(live)
    assert after.branch == commit
    assert after.releases == ((2, "current"), (1, "kept"))
    assert len(after.processes) == 1
    assert set(after.processes).isdisjoint(before.processes)


@pytest.mark.parametrize("empty", [True, False], ids=["run is empty", "run is as it was"])
def test_while_one_runs_and_another_waits(own_site: Site, tmp_path: Path, *, empty: bool) -> None:
    """Both stories end, in their order. What the last boot has left in `run` is in nobody's way."""
    app = App.create(own_site, new_name(), tmp_path / "app")
    with busy(app, door_of(own_site, "local")) as found:
        running, waiting = found.running, found.waiting
        cut_power(own_site, empty=empty)
        if not empty:
            for slot in (app.name, f"{app.name}.next"):
                assert own_site.home.control_socket(slot).is_socket()
                sign_as_a_stranger(own_site.home.pidfile(slot))
        boot(own_site)
        found.open()
        assert ends(app, running) == "failed"
        assert ends(app, waiting) == "succeeded"
    wait_until(lambda: own_site.get(app.name) == (200, "three"), "it answers")
    after = world(app)
    assert after.branch == found.commit
    assert after.releases == ((2, "current"), (1, "kept"))
    assert not own_site.home.control_socket(f"{app.name}.next").exists()


def sign_as_a_stranger(pidfile: Path) -> None:
    """The number that is in there is that of a living process of this boot, which nobody may send a signal to."""
    fields = json.loads(pidfile.read_text().partition("\n")[2])
    pidfile.write_text(f"{os.getpid()}\n{json.dumps(fields | {'pid': os.getpid()})}\n")
