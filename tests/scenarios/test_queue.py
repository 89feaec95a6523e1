"""An app that is busy: pushes that wait, overtake, supersede or are refused."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from busy import SETTINGS, begun, busy, worker_of
from conftest import door_of
from deploying import QUICK, App, Door, Site, Terminal, wait_until, world
from holding import Gate, gates, known, make_holdable
from ssh.servers import git

SLOW = '[build]\ncommand = "echo held; cat {fifo} >/dev/null"\n' + QUICK


@pytest.fixture
def gate(outside: Path) -> Path:
    """A build that has said `held` goes on when somebody writes here."""
    path = outside / "gate"
    os.mkfifo(path)
    return path


def test_the_newest_waiting_push_goes_next(app: App, door: Door, gate: Path) -> None:
    """The one that it overtook ends as superseded, without having begun; first the running one is finished."""
    app.commit("one", {"safepoint.toml": SLOW.format(fifo=gate)})
    with app.pushing(door) as first:
        first.read_until("held")
        app.commit("two", {"safepoint.toml": QUICK})
        with app.pushing(door) as second:
            second.read_until("waits for its turn")
            second.read_until("CTRL + C")
            commit = app.commit("three")
            with app.pushing(door) as third:
                third.read_until("CTRL + C")
                said = second.finish()
                assert second.process.returncode == 1
                assert f"superseded by operation {third.operation()}, without having begun" in said
                gate.write_text("go")
                first.finish()
                assert first.process.returncode == 0
                said = third.finish()
                assert third.process.returncode == 0, said
    assert app.site.get(app.name) == (200, "three")
    assert app.site.branch(app.name) == commit
    states = [each["state"] for each in app.site.operations(app.name)]
    assert states == ["succeeded", "superseded", "succeeded"]


def test_supersede_cancels_what_runs_and_goes_next(app: App, door: Door, gate: Path) -> None:
    """Both terminals say so."""
    app.commit("zero", {"safepoint.toml": QUICK})
    app.push(door)
    app.commit("one", {"safepoint.toml": SLOW.format(fifo=gate)})
    with app.pushing(door) as first:
        first.read_until("held")
        app.commit("two", {"safepoint.toml": QUICK})
        said = app.push(door, "-o", "on-busy=supersede", "main")
        number = app.site.operations(app.name)[0]["id"]
        assert "on-busy" not in said
        ended = first.finish()
        assert first.process.returncode == 1
        assert f"superseded by operation {number}" in ended
    assert app.site.get(app.name) == (200, "two")
    assert world(app).releases == ((2, "current"), (1, "kept"))


def test_reject_is_refused_at_once(app: App, door: Door, gate: Path) -> None:
    """With the running ID and its cancel command."""
    app.site.run("apps:on-busy", app.name, "reject")
    app.commit("one", {"safepoint.toml": SLOW.format(fifo=gate)})
    with app.pushing(door) as first:
        number = first.operation()
        first.read_until("held")
        app.commit("two")
        said = app.push(door, status=1)
        assert f"busy: operation {number}" in said
        assert door.cancel_command(number) in said
        gate.write_text("go")
        first.finish()


def test_a_waiting_operation_is_cancelled_and_nothing_has_happened(app: App, gate: Path) -> None:
    """It is followed and cancelled like any other."""
    local = door_of(app.site, "local")
    app.commit("one", {"safepoint.toml": SLOW.format(fifo=gate)})
    with app.pushing(local) as first:
        first.read_until("held")
        app.commit("two", {"safepoint.toml": QUICK})
        with app.pushing(local) as second:
            second.read_until("CTRL + C")
            number = second.operation()
            assert app.site.operation(number)["state"] == "queued"
            app.site.run("operation:cancel", str(number), "--reason", "no")
            said = second.finish()
            assert f"operation {number} cancelled by" in said
            assert "without having begun" in said
        gate.write_text("go")
        first.finish()
    assert app.site.get(app.name) == (200, "one")


@contextmanager
def held(app: App, door: Door, *words: str, settings: str = SETTINGS) -> Iterator[tuple[Terminal, Gate]]:
    """v1 says `one`; a push of `two` stands in before_release."""
    make_holdable(app, settings)
    app.commit("one")
    app.push(door_of(app.site, "local"))
    app.commit("two")
    with Gate(gates(app) / "two.before_release") as gate, app.pushing(door, *words, "main") as push:
        gate.wait_held(None if "no-wait" in words else push)
        yield push, gate


def ended(site: Site, number: int) -> str:
    """How it ends, without a command that could help."""
    wait_until(lambda: known(site, number).ending is not None, f"operation {number} ends")
    return known(site, number).state.value


# What has waited, and what happened meanwhile.


def test_a_waiting_push_that_is_no_fast_forward_any_more_is_refused(app: App, door: Door) -> None:
    """On git's line for the branch: to fetch first, and who moved it. When it was pushed, it was one."""
    local = door_of(app.site, "local")
    with held(app, local) as (first, gate):
        moved = git("-C", app.tree, "rev-parse", "HEAD").strip()
        git("-C", app.tree, "reset", "-q", "--hard", "HEAD~1")
        commit = app.commit("three")
        with app.pushing(door) as second:
            second.read_until("CTRL + C")
            gate.open()
            first.finish()
            said = second.finish()
            number = second.operation()
    assert second.process.returncode == 1
    assert (
        f"! [remote rejected] main -> main (operation {number} failed: fetch first: operation {first.operation()} "
        f"({local.person}) moved main to {moved[:8]} meanwhile, and {commit[:8]} does not have it; "
        "it has not begun)"
    ) in said
    assert app.site.branch(app.name) == moved
    assert app.site.get(app.name) == (200, "two")
    assert begun(app.site, number) == 0


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_waiting_push_goes_on_where_the_running_one_came_to_nothing(app: App, how: str) -> None:
    """The branch has not moved, so it need not be a fast-forward of what was taken back."""
    fails = SETTINGS.replace('"sh hold before_release"', '"sh hold before_release; test $(cat version) != two"')
    with held(app, door_of(app.site, "local"), settings=fails) as (first, gate):
        git("-C", app.tree, "reset", "-q", "--hard", "HEAD~1")
        commit = app.commit("three")
        with app.pushing(door_of(app.site, "embedded")) as second:
            second.read_until("CTRL + C")
            if how == "cancelled":
                app.site.run("operation:cancel", str(first.operation()))
            gate.open()
            first.finish()
            second.finish()
        assert second.process.returncode == 0
        assert known(app.site, first.operation()).state == how
    assert app.site.branch(app.name) == commit
    assert world(app).releases == ((2, "current"), (1, "kept"))


def test_a_push_that_waits_behind_a_stuck_one_is_refused(app: App, door: Door) -> None:
    """With the reason; and none can come after it until somebody has recovered the app."""
    stuck = SETTINGS.replace('undo = "sh hold undo"', 'undo = "false"')
    with held(app, door_of(app.site, "local"), settings=stuck) as (first, _gate):
        app.commit("three")
        with app.pushing(door) as second:
            second.read_until("CTRL + C")
            app.site.run("operation:cancel", str(first.operation()), status=4)
            said = second.finish()
    why = "undoing before_release.1 failed: `false` exited with status 1"
    reason = f"{app.name} is locked: operation {first.operation()} is stuck ({why})"
    assert (
        f"! [remote rejected] main -> main (operation {second.operation()} failed: {reason}; it has not begun)" in said
    )
    assert app.site.get(app.name) == (200, "one")
    assert reason in app.push(door, status=1)


def test_a_cancelled_one_whose_worker_hangs_keeps_nobody_out(app: App) -> None:
    """Its place in the queue is free once the cancel is accepted, whenever its worker comes to say so."""
    with busy(app, door_of(app.site, "local")) as found:
        pid = worker_of(app.site, found.waiting)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            app.site.run("operation:cancel", str(found.waiting), "--no-wait")
            app.commit("four")
            with app.pushing(door_of(app.site, "local")) as fourth:
                said = fourth.read_until("waits for its turn")
                number = fourth.operation()
                assert known(app.site, found.waiting).state == "cancelled"
                os.kill(pid, signal.SIGCONT)
                fourth.read_until("CTRL + C")
                found.open()
                said = fourth.finish()
                assert fourth.process.returncode == 0, said
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert "without having begun" in found.three.finish()
    assert number > found.waiting
    assert app.site.get(app.name) == (200, "four")


# Push options.


def test_no_wait_ends_the_push_when_it_is_detached(app: App, door: Door) -> None:
    """With status 0; the branch follows by itself, and the one that waits does the same."""
    with held(app, door, "-o", "no-wait") as (first, gate):
        said = first.finish()
        assert first.process.returncode == 0
        number = first.operation()
        assert "Not waiting for its end; follow it with: " in said
        assert f"operation:follow {number}" in said
        assert known(app.site, number).state == "running"
        old = app.site.branch(app.name)
        commit = app.commit("three")
        assert "waits for its turn" in (said := app.push(door, "-o", "no-wait", "main"))
        second = app.site.operations(app.name)[0]["id"]
        assert f"operation:follow {second}" in said
        assert app.site.branch(app.name) == old
        gate.open()
        assert [ended(app.site, each) for each in (number, second)] == ["succeeded", "succeeded"]
    assert app.site.branch(app.name) == commit


def of_group(push: Terminal, name: str) -> int:
    """The pid of the one process of this name in the push's process group."""
    for entry in Path("/proc").iterdir():
        with suppress(ProcessLookupError, ValueError, OSError):
            same = os.getpgid(int(entry.name)) == push.process.pid
            if same and (entry / "comm").read_text().strip() == name:
                return int(entry.name)
    raise AssertionError(f"no {name}")


def interrupt(push: Terminal) -> None:
    push.interrupt()


def kill_group(push: Terminal) -> None:
    os.killpg(push.process.pid, signal.SIGKILL)


def kill_client(push: Terminal) -> None:
    push.process.kill()


def cut_connection(push: Terminal) -> None:
    os.kill(of_group(push, "ssh"), signal.SIGKILL)


LOSSES = [
    *((interrupt, door) for door in ("embedded", "openssh", "local")),
    *((kill_group, door) for door in ("embedded", "openssh", "local")),
    *((cut_connection, door) for door in ("embedded", "openssh")),
    (kill_client, "local"),
]


@pytest.mark.parametrize(("lose", "door_name"), LOSSES)
def test_an_attached_push_takes_its_deploy_with_it(app: App, lose: Callable[[Terminal], None], door_name: str) -> None:
    """However it is lost; noticed at once by whoever holds the connection, and everything is as before."""
    door = door_of(app.site, door_name)
    with held(app, door, "-o", "attach") as (push, _gate):
        said = push.read_until("From another terminal you can cancel it with:")
        assert "pressing CTRL + C, or losing the connection, cancels it" in said
        assert "will NOT interrupt" not in said
        number = push.operation()
        lose(push)
        assert ended(app.site, number) == "cancelled"
    shown = app.site.operation(number)["cancel"]
    assert (shown["by"], shown["reason"]) == (door.person, "the attached push was lost")
    after = world(app)
    assert (after.answer, after.releases) == ((200, "one"), ((1, "current"),))
    assert after.directories == ("v1",)


@pytest.mark.parametrize("door_name", ["embedded", "local"])
def test_an_attached_push_that_waits_is_lost_too(app: App, door_name: str) -> None:
    """It never begins, and the running one goes on."""
    door = door_of(app.site, door_name)
    with held(app, door_of(app.site, "local")) as (first, gate):
        app.commit("three")
        with app.pushing(door, "-o", "attach", "main") as second:
            second.read_until("From another terminal")
            number = second.operation()
            second.interrupt()
            second.finish()
        assert ended(app.site, number) == "cancelled"
        assert begun(app.site, number) == 0
        gate.open()
        assert ended(app.site, first.operation()) == "succeeded"


def test_an_attached_push_that_is_not_lost_succeeds(app: App, door: Door) -> None:
    """Its ordinary end is no loss."""
    with held(app, door, "-o", "attach") as (push, gate):
        gate.open()
        assert "now runs v2" in push.finish()
        assert push.process.returncode == 0


def test_a_reason_is_kept_and_shown(app: App, door: Door) -> None:
    """As one line, whatever was in it."""
    app.commit("one")
    app.push(door, "-o", "reason=the  fix\tfor \x1b[31mred", "main")
    shown = app.site.operations(app.name)[0]
    assert shown["reason"] == "the fix for \x1b[31mred"
    for_people = door.run("operation:show", str(shown["id"])).stdout
    assert "the fix for" in for_people
    assert "\x1b" not in for_people


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("quickly",), "there is no push option 'quickly'"),
        (("on-busy=never",), "there is no push option 'on-busy=never'"),
        (("no-wait=yes",), "there is no push option 'no-wait=yes'"),
        (("reason= ",), "there is no push option 'reason= '"),
        (("no-wait", "attach"), "the push options no-wait and attach exclude each other"),
        (tuple(f"reason={number}" for number in range(101)), "there are too many push options"),
    ],
)
def test_wrong_push_options_are_refused(app: App, options: tuple[str, ...], sentence: str) -> None:
    """With the list of what there is; nothing is opened and nothing is stored."""
    app.commit("one")
    words = [word for option in options for word in ("-o", option)]
    said = app.push(door_of(app.site, "embedded"), *words, "main", status=1)
    assert sentence in said
    assert "! [remote rejected] main -> main" in said
    if "no push option" in sentence:
        listed = "on-busy=queue, on-busy=supersede, on-busy=reject, no-wait, attach, reason=TEXT"
        assert f"there are: {listed}" in said
    assert app.site.operations(app.name) == []
    assert app.site.branch(app.name) == ""


# Commands.


def test_the_policy_of_an_app_is_shown_and_set(app: App, door: Door) -> None:
    """And a push may wish for another one."""
    assert door.run("apps:on-busy", app.name).stdout == f"{app.name}: queue\n"
    assert door.run("apps:on-busy", app.name, "reject").stdout == f"{app.name}: reject\n"
    assert door.run("apps:on-busy", app.name, "perhaps", status=2).stdout == ""
    with held(app, door) as (_first, _gate):
        app.commit("three")
        assert "is busy" in app.push(door, status=1)
        said = app.push(door, "-o", "on-busy=supersede", "main")
        assert f"{app.name} now runs v2" in said


def test_deploys_and_rollbacks_by_command_wait_too(app: App, door: Door) -> None:
    """The newest of them overtakes; each may choose."""
    make_holdable(app, SETTINGS)
    app.commit("zero")
    app.push(door_of(app.site, "local"))
    with held(app, door_of(app.site, "local")) as (first, gate), ExitStack() as stack:
        running = first.operation()
        refused = door.run("deploy", app.name, "--on-busy", "reject", status=None)
        assert refused.returncode != 0
        assert f"is busy: operation {running}" in refused.stderr
        deploy = stack.enter_context(door.running("deploy", app.name))
        deploy.read_until("CTRL + C")
        rollback = stack.enter_context(door.running("releases:rollback", app.name, "v1", "--reason", "to be sure"))
        deploy.finish()
        assert deploy.process.returncode == 3
        gate.open()
        said = rollback.finish()
        assert rollback.process.returncode == 0, said
    assert app.site.get(app.name) == (200, "zero")
    states = [(each["kind"], each["state"]) for each in app.site.operations(app.name)[:3]]
    assert states == [("rollback", "succeeded"), ("deploy", "superseded"), ("deploy", "succeeded")]


def test_a_deploy_by_command_may_supersede(app: App, door: Door) -> None:
    """Here the branch's own commit, once more."""
    with held(app, door_of(app.site, "local")) as (first, _gate):
        door.run("deploy", app.name, "--on-busy", "supersede")
        said = first.finish()
        assert first.process.returncode == 1
        assert "superseded by operation" in said
    assert world(app).releases == ((2, "current"), (1, "kept"))


# Many.


def test_ten_pushes_at_once_to_one_app(app: App) -> None:
    """The first runs, the newest goes next, all others end as superseded; never two at a time, and none twice."""
    door = door_of(app.site, "embedded")
    make_holdable(app, SETTINGS)
    app.commit("one")
    app.push(door_of(app.site, "local"))
    commit = app.commit("two")
    with Gate(gates(app) / "two.before_release") as gate, ExitStack() as stack:
        pushes = [stack.enter_context(app.pushing(door, "main")) for _ in range(10)]
        wait_until(lambda: len(app.site.operations(app.name)) == 11, "all have been admitted")
        gate.open()
        said = [push.finish() for push in pushes]
    ids = sorted(push.operation() for push in pushes)
    assert len(set(ids)) == 10
    found = {number: known(app.site, number) for number in ids}
    states = [found[number].state.value for number in ids]
    assert states == ["succeeded", *["superseded"] * 8, "succeeded"], said
    for push in pushes:
        assert push.process.returncode == (0 if found[push.operation()].state == "succeeded" else 1)
    first, last = found[ids[0]], found[ids[-1]]
    began = next(step.started for step in last.steps if step.started is not None)
    assert first.ended is not None
    assert first.ended <= began
    assert begun(app.site, ids[-1]) == 1
    assert app.site.branch(app.name) == commit
    assert world(app).releases == ((3, "current"), (2, "kept"), (1, "kept"))


def test_ten_apps_at_once(make_app: Callable[..., App]) -> None:
    """Each goes live, and whoever asks meanwhile is answered."""
    apps = [make_app() for _ in range(10)]
    door = door_of(apps[0].site, "embedded")
    for app in apps:
        app.commit(app.name)
    with ExitStack() as stack:
        pushes = [stack.enter_context(app.pushing(door)) for app in apps]
        asked = 0
        while any(push.process.poll() is None for push in pushes) and asked < 100:
            listed = subprocess.run(door.command("operation:list"), capture_output=True, timeout=60, check=True)
            assert listed.stdout
            asked += 1
        said = [push.finish() for push in pushes]
    assert [push.process.returncode for push in pushes] == [0] * 10, said
    assert asked > 0
    for app in apps:
        assert app.site.get(app.name) == (200, app.name)
        assert [each["state"] for each in app.site.operations(app.name)] == ["succeeded"]
