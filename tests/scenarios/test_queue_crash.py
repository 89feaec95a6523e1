"""A busy app, and what befalls the push that runs and the one that waits: Ctrl-C, cancel, crash and reboot of either.

Under each policy, with real git. `two` runs and stands still, `three` waits for its turn; the app runs v1, `one`.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from busy import begun, busy, kill_worker, worker_of
from conftest import door_of
from deploying import App, Door, Site, wait_until, world
from holding import Gate, gates, known, make_holdable
from rebooting import boot, cut_power

from safepoint.faults import VARIABLE

POLICIES = ["queue", "supersede"]
SOME_DOORS = ["local", "embedded"]


def first_ends(policy: str) -> str:
    """How the running one ends where nothing befalls it."""
    return "succeeded" if policy == "queue" else "cancelled"


def runs(app: App, version: str, *releases: tuple[int, str]) -> None:
    """It answers so, and all that is kept says the same."""
    found = world(app)
    assert found.answer == (200, version)
    assert found.releases == releases
    assert found.directories == tuple(sorted(f"v{number}" for number, _ in releases))
    assert len(found.processes) == 1, found.processes
    assert not [each for each in found.leftovers if not each.startswith(("specs", "supervisor.d", "cgroup"))]


@pytest.mark.parametrize("door_name", SOME_DOORS)
@pytest.mark.parametrize("policy", POLICIES)
def test_ctrl_c_on_either_changes_nothing(app: App, door_name: str, policy: str) -> None:
    """Both go on: the running one as it would have, and then the one that waits."""
    with busy(app, door_of(app.site, door_name), policy) as found:
        found.leave()
        found.end(first_ends(policy), "succeeded")
    assert app.site.branch(app.name) == found.commit
    if policy == "queue":
        runs(app, "three", (3, "current"), (2, "kept"), (1, "kept"))
    else:
        runs(app, "three", (2, "current"), (1, "kept"))


@pytest.mark.parametrize("door_name", SOME_DOORS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_cancel_of_the_running_one_lets_the_waiting_one_go(app: App, door_name: str, policy: str) -> None:
    """Where it is superseded it is cancelling already, and that is what the canceller is told."""
    door = door_of(app.site, door_name)
    with busy(app, door, policy) as found:
        said = door.run("operation:cancel", str(found.running), "--no-wait", status=None).stdout
        assert ("is already cancelling" in said) == (policy == "supersede")
        found.end("cancelled", "succeeded")
        ended = found.two.finish()
        assert "[remote rejected]" in ended
        assert f"{app.name} now runs v2" in found.three.finish()
    runs(app, "three", (2, "current"), (1, "kept"))


@pytest.mark.parametrize("door_name", SOME_DOORS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_cancel_of_the_waiting_one_leaves_the_running_one(app: App, door_name: str, policy: str) -> None:
    """It never begins. A running one that was cancelled in its favour stays cancelled."""
    door = door_of(app.site, door_name)
    with busy(app, door, policy) as found:
        door.run("operation:cancel", str(found.waiting))
        said = found.three.finish()
        assert found.three.process.returncode == 1
        assert f"operation {found.waiting} cancelled by {door.person}, without having begun" in said
        found.end(first_ends(policy), "cancelled")
    if policy == "queue":
        runs(app, "two", (2, "current"), (1, "kept"))
    else:
        runs(app, "one", (1, "current"))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_running_worker_is_killed(app: App, policy: str) -> None:
    """`serve` has its deploy rolled back at once, and the waiting one goes on from there."""
    with busy(app, door_of(app.site, "local"), policy) as found:
        found.leave()
        kill_worker(app.site, found.running)
        found.end("failed" if policy == "queue" else "cancelled", "succeeded")
    runs(app, "three", (2, "current"), (1, "kept"))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_waiting_worker_is_killed(app: App, policy: str) -> None:
    """`serve` starts another one, which waits in its place."""
    with busy(app, door_of(app.site, "local"), policy) as found:
        found.leave()
        killed = kill_worker(app.site, found.waiting)
        wait_until(lambda: worker_of(app.site, found.waiting) not in (None, killed), "another worker waits")
        assert known(app.site, found.waiting).state == "queued"
        found.end(first_ends(policy), "succeeded")
    assert app.site.get(app.name) == (200, "three")


@pytest.mark.parametrize("policy", POLICIES)
def test_both_workers_are_killed(app: App, policy: str) -> None:
    """Whichever is found first, the running one's story is finished before the other one begins."""
    with busy(app, door_of(app.site, "local"), policy) as found:
        found.leave()
        kill_worker(app.site, found.waiting)
        kill_worker(app.site, found.running)
        found.end("failed" if policy == "queue" else "cancelled", "succeeded")
    runs(app, "three", (2, "current"), (1, "kept"))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_reboot_loses_no_waiting_push(own_site: Site, tmp_path: Path, policy: str) -> None:
    """Nothing runs any more and home/run is empty. `serve` starts, and both stories end, in their order."""
    app = App.create(own_site, f"boot-{secrets.token_hex(3)}", tmp_path / "app")
    with busy(app, door_of(own_site, "local"), policy) as found:
        running, waiting = found.running, found.waiting
        cut_power(own_site)
        boot(own_site)
        assert (running, waiting) == (found.running, found.waiting)
        found.end("failed" if policy == "queue" else "cancelled", "succeeded")
    assert own_site.branch(app.name) == found.commit
    runs(app, "three", (2, "current"), (1, "kept"))


def test_serve_is_killed_while_one_waits(own_site: Site, tmp_path: Path) -> None:
    """Neither needs it; and when it is back it watches both, as a worker that dies then can tell."""
    app = App.create(own_site, f"serve-{secrets.token_hex(3)}", tmp_path / "app")
    with busy(app, door_of(own_site, "local")) as found:
        found.leave()
        own_site.end(9)
        own_site.start()
        kill_worker(own_site, found.waiting)
        found.end("succeeded", "succeeded")
    runs(app, "three", (3, "current"), (2, "kept"), (1, "kept"))


RECORDS = {0: "failed", 1: "succeeded", 2: "failed", 3: "failed", 4: "failed", 5: "failed", 6: "failed"}
"""Of the waiting worker: received, begun, then two a step. After the opening, its push is what dies."""


@pytest.mark.parametrize("record", RECORDS)
def test_the_waiting_worker_is_killed_after_a_record(app: App, record: int) -> None:
    """Nobody but `serve` finds it. Nothing of it has happened until it has begun, so only then does it fail."""
    with busy(app, door_of(app.site, "local"), environment={VARIABLE: str(record)}) as found:
        if record == 0:
            found.three.finish()
            number = app.site.operations(app.name)[0]["id"]
            found.three.said += f" (operation {number}:"
        else:
            found.three.operation()
            wait_until(lambda: known(app.site, found.waiting).received, "its push is not needed any more")
        found.leave_quietly()
        before = world(app)
        found.open()
        wait_until(lambda: known(app.site, found.waiting).ending is not None, "it ends")
    assert known(app.site, found.running).state == "succeeded"
    assert known(app.site, found.waiting).state == RECORDS[record], known(app.site, found.waiting)
    assert begun(app.site, found.waiting) == (record > 0)
    assert before.locked
    if RECORDS[record] == "succeeded":
        runs(app, "three", (3, "current"), (2, "kept"), (1, "kept"))
    else:
        runs(app, "two", (2, "current"), (1, "kept"))


WHAT = ["nothing", "ctrl-c", "cancel", "kill", "reboot"]


@pytest.mark.parametrize("what", WHAT)
def test_a_push_that_is_rejected_leaves_no_trace(own_site: Site, tmp_path: Path, what: str) -> None:
    """It has no operation, whatever befalls the one that runs; and it is welcome when that has ended."""
    app = make_holdable(App.create(own_site, f"reject-{secrets.token_hex(3)}", tmp_path / "app"))
    door = door_of(own_site, "local")
    own_site.run("apps:on-busy", app.name, "reject")
    app.commit("one")
    app.push(door)
    app.commit("two")
    with Gate(gates(app) / "two.before_release") as gate, app.pushing(door) as push:
        gate.wait_held(push)
        number = push.operation()
        app.commit("three")
        said = app.push(door, status=1)
        assert f"! [remote rejected] main -> main ({app.name} is busy: operation {number} is running" in said
        assert door.cancel_command(number) in said
        match what:
            case "ctrl-c":
                push.interrupt()
                push.finish()
            case "cancel":
                own_site.run("operation:cancel", str(number))
            case "kill":
                kill_worker(own_site, number)
            case "reboot":
                cut_power(own_site)
                boot(own_site)
        gate.open()
        wait_until(lambda: known(own_site, number).ending is not None, "it ends")
    ends = {"cancel": "cancelled", "kill": "failed", "reboot": "failed"}
    assert known(own_site, number).state == ends.get(what, "succeeded")
    assert own_site.operations(app.name)[0]["id"] == number
    app.push(door)
    assert own_site.get(app.name) == (200, "three")


def test_a_dead_running_one_is_finished_before_a_newer_push_runs(app: App, door: Door) -> None:
    """Both workers are killed, and a third push comes at that moment."""
    with busy(app, door_of(app.site, "local")) as found:
        kill_worker(app.site, found.waiting)
        kill_worker(app.site, found.running)
        commit = app.commit("four")
        said = app.push(door, "--force", "main")
        assert "now runs v" in said
        number = app.site.operations(app.name)[0]["id"]
        assert known(app.site, found.running).state == "failed"
        assert known(app.site, found.waiting).state in ("superseded", "succeeded")
        assert number > found.waiting
    assert app.site.branch(app.name) == commit
    assert app.site.get(app.name) == (200, "four")
