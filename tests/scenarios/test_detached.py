"""A deploy needs nobody: not its push, not its connection, not the server. And anybody may watch it."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import door_of
from deploying import DOORS, App, Door, Site, Terminal, processes, wait_until, world
from holding import SETTINGS, holding, known, make_holdable, step_of
from ssh.servers import kill, wait_dead

from safepoint.core.slots import running_slot
from safepoint.state import pidfile

CUTS = [
    ("client", "embedded"),
    ("client", "openssh"),
    ("client", "local"),
    ("connection", "embedded"),
    ("connection", "openssh"),
    ("session", "openssh"),
    ("receive-pack", "embedded"),
    ("receive-pack", "openssh"),
    ("receive-pack", "local"),
]


@pytest.mark.parametrize("step", ["build", "health"])
def test_a_worker_that_waits_carries_no_openssl(app: App, step: str) -> None:
    """It may wait for an hour, as many others do: a third of its memory would be what it has no use for."""
    make_holdable(app)
    app.commit("one")
    with holding(app, step, "one") as hold, app.pushing(door_of(app.site, "local")) as push:
        hold.reached(push)
        signed = pidfile.read(app.site.home.pidfile(running_slot(app.name)))
        assert signed is not None
        mapped = Path(f"/proc/{signed[0].pid}/maps").read_text()
    assert "sqlite" in mapped
    assert "crypto" not in mapped


@pytest.mark.parametrize(("what", "door_name"), CUTS)
def test_a_deploy_outlives_its_push(app: App, what: str, door_name: str) -> None:
    """Whatever is SIGKILLed between the pusher and the worker, the deploy goes live, and the push is gone."""
    make_holdable(app)
    commit = app.commit("one")
    with holding(app, "build", "one") as hold, app.pushing(door_of(app.site, door_name)) as push:
        push.read_until("held in build")
        hold.reached(push)
        number = push.operation()
        receiver = receiver_of(app.site, number)
        match what:
            case "client":
                os.killpg(push.process.pid, signal.SIGKILL)
            case "connection":
                kill(member_of(push.process.pid, "ssh"))
            case "session":
                kill(ancestor_of(receiver, "sshd"))
            case "receive-pack":
                kill(receiver)
        push.finish()
        assert push.process.returncode != 0
        wait_dead(receiver)
        hold.let_go()
    app.site.run("follow", str(number), status=0)
    assert app.site.branch(app.name) == commit
    assert app.site.get(app.name) == (200, "one")
    hooks = f"repositories/{app.name}.git"
    wait_until(lambda: not any(hooks in each for each in processes(app.site.home).values()), "the push has gone")


def receiver_of(site: Site, number: int) -> int:
    """The pid of the push's git-receive-pack."""
    receiver = known(site, number).plan.receiver
    assert receiver is not None
    return receiver.pid


def member_of(group: int, name: str) -> int:
    """The pid of the one process of this name in a process group."""
    for entry in Path("/proc").iterdir():
        with suppress(ProcessLookupError, ValueError):
            if os.getpgid(int(entry.name)) == group and command_of(int(entry.name)) == name:
                return int(entry.name)
    raise AssertionError(f"no {name}")


def ancestor_of(pid: int, name: str) -> int:
    """The nearest one of this name."""
    while command_of(pid) != name:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert pid > 1, f"no {name}"
    return pid


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.mark.parametrize("step", ["build", "health", "watch"])
def test_a_deploy_outlives_serve(own_site: Site, tmp_path: Path, step: str) -> None:
    """Killed in the middle of one, `serve` is not needed for its end; apps answer meanwhile, and when it is back."""
    app = make_holdable(App.create(own_site, f"orphan-{secrets.token_hex(3)}", tmp_path / "app"))
    door = door_of(own_site, "embedded")
    app.commit("one")
    app.push(door)
    commit = app.commit("two")
    with started_again(own_site), holding(app, step, "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        own_site.end(signal.SIGKILL)
        if step != "watch":  # there the router is asked below; here it has the new release
            assert own_site.get(app.name) == (200, "one")
        push.finish()
        assert push.process.returncode != 0
        hold.let_go()
        own_site.run("follow", str(number), status=0)
        assert own_site.get(app.name) == (200, "two")
        assert own_site.branch(app.name) == commit
        before = world(app)
    assert world(app) == before
    app.commit("three")
    app.push(door)
    assert own_site.get(app.name) == (200, "three")


@contextmanager
def started_again(site: Site) -> Iterator[None]:
    """Whatever happens, `serve` runs at the end."""
    try:
        yield
    finally:
        if site.process is None:
            site.start()


def test_a_serve_that_starts_in_a_deploy_leaves_it_alone(own_site: Site, tmp_path: Path) -> None:
    """It is back before the deploy has ended: nothing of it is stopped or moved, and its worker is watched again."""
    app = make_holdable(App.create(own_site, f"back-{secrets.token_hex(3)}", tmp_path / "app"))
    door = door_of(own_site, "local")
    app.commit("one")
    app.push(door)
    app.commit("two")
    with started_again(own_site), holding(app, "health", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        own_site.end(signal.SIGKILL)
        own_site.start()
        assert own_site.get(app.name) == (200, "one")
        assert step_of(own_site, number) == "health"
        hold.let_go()
        push.finish()
    assert push.process.returncode == 0
    assert own_site.get(app.name) == (200, "two")


def test_many_follow_one_deploy(app: App) -> None:
    """From its start and live, through every door; each sees the same, which `logs` prints afterwards too."""
    make_holdable(app)
    app.commit("one")
    with (
        holding(app, "build", "one") as hold,
        app.pushing(door_of(app.site, "embedded")) as push,
        followers(app, push) as (first, second, third),
    ):
        hold.reached(push)
        for follower in (first, second, third):
            follower.read_until("held in build\n")
            assert "safepoint | Exporting " in follower.said
        so_far = app.site.run("logs", str(push.operation())).stdout
        assert so_far.endswith("held in build\n")
        hold.let_go()
        said = [follower.finish() for follower in (first, second, third)]
        assert [follower.process.returncode for follower in (first, second, third)] == [0, 0, 0]
        push.finish()
    number = push.operation()
    late = app.site.run("operation:follow", str(number)).stdout
    assert [*said, late] == [app.site.run("operation:logs", str(number)).stdout] * 4
    assert late.endswith(f"safepoint | operation {number} succeeded: {app.name} now runs v1\n")


@contextmanager
def followers(app: App, push: Terminal) -> Iterator[list[Terminal]]:
    """One through each door, that follow the push from its beginning."""
    number = str(push.operation())
    one, two, three = (door_of(app.site, name) for name in DOORS)
    with (
        one.running("operation:follow", number) as first,
        two.running("follow", number) as second,
        three.running("operation:follow", number) as third,
    ):
        yield [first, second, third]


def test_ctrl_c_on_a_follower_stops_the_following_only(app: App, door: Door) -> None:
    """And nothing of it stays on the server."""
    make_holdable(app)
    app.commit("one")
    with holding(app, "build", "one") as hold, app.pushing(door_of(app.site, "local")) as push:
        hold.reached(push)
        number = str(push.operation())
        with door.running("operation:follow", number) as follower:
            follower.read_until("held in build\n")
            follower.interrupt()
            follower.finish()
            assert follower.process.returncode != 0
        following = f"operation:follow {number}"
        wait_until(lambda: not any(following in each for each in processes(app.site.home).values()), "it has gone")
        assert step_of(app.site, int(number)) == "build"
        hold.let_go()
        push.finish()
    assert push.process.returncode == 0


def test_follow_tells_the_endings_apart(app: App) -> None:
    """0 succeeded, 1 failed, 3 cancelled, live and afterwards. (4, stuck, is with the cancels.)"""
    make_holdable(app)
    door = door_of(app.site, "openssh")
    for version, status in (("one", 0), ("two", 3), ("three", 1)):
        if version == "three":
            app.write({"safepoint.toml": SETTINGS.replace('"sh hold build"', '"sh hold build; exit 7"')})
        app.commit(version)
        with holding(app, "build", version) as hold, app.pushing(door) as push:
            hold.reached(push)
            number = str(push.operation())
            with door.running("follow", number) as follower:
                follower.read_until("held in build\n")
                if version == "two":
                    door.run("cancel", number)
                hold.let_go()
                said = follower.finish()
            push.finish()
        assert follower.process.returncode == status, said
        assert door.run("follow", number, status=status).stdout == said


def test_follow_for_scripts(app: App) -> None:
    """One object a line: the output as it comes, and the operation at the end."""
    make_holdable(app)
    app.commit("one")
    with holding(app, "build", "one") as hold, app.pushing(door_of(app.site, "local")) as push:
        hold.reached(push)
        number = push.operation()
        with door_of(app.site, "embedded").running("operation:follow", str(number), "--json") as follower:
            follower.read_until("held in build")
            hold.let_go()
            *output, ending = map(json.loads, follower.finish().splitlines())
        push.finish()
    assert follower.process.returncode == 0
    logs = app.site.json("operation:logs", str(number))
    assert "".join(each["output"] for each in output) == logs["output"]
    assert ending == {key: value for key, value in app.site.operation(number).items() if key != "audit"}
    assert (logs["id"], logs["state"]) == (number, "succeeded")


def test_what_is_known_of_an_operation(app: App) -> None:
    """While it runs and when it has ended: `show` for people and for scripts, and `list`, newest first."""
    make_holdable(app)
    commit = app.commit("one")
    door = door_of(app.site, "embedded")
    with holding(app, "build", "one") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        running = json.loads(door.run("operation:show", str(number), "--json").stdout)
        for_people = door.run("operation:show", str(number)).stdout
        listed = door.run("operation:list", "--app", app.name).stdout
        hold.let_go()
        push.finish()
    known = {
        "id": number, "app": app.name, "kind": "deploy", "commit": commit, "by": "alice", "state": "running",
        "step": "build", "release": 1, "previous_release": None, "door": "ssh", "cancel": None, "ended": None,
    }  # fmt: skip
    assert known.items() <= running.items()
    assert isinstance(running["pid"], int)
    states = {step["name"]: step["state"] for step in running["steps"]}
    assert states == {
        "receive": "done", "export": "done", "build": "running", "before_release.1": "pending", "start": "pending",
        "health": "pending", "switch": "pending", "watch": "pending", "publish": "pending", "retire": "pending",
        "prune": "pending",
    }  # fmt: skip
    assert (
        f"operation {number}: deploy of {app.name} v1 ({commit[:8]})\nby        alice (ssh from 127.0.0.1), "
        in for_people
    )
    assert "\nstate     running\n" in for_people
    assert f"\nprocess   {running['pid']}\n" in for_people
    assert "  build              running      " in for_people
    assert [str(number), app.name, "deploy", "v1", "running", "build", "alice"] == listed.splitlines()[1].split()[:7]

    app.commit("two")
    app.push(door)
    ended = app.site.operation(number)
    assert known.items() - {"state": "running", "step": "build", "ended": None}.items() <= ended.items()
    assert (ended["state"], ended["step"], ended["pid"]) == ("succeeded", None, None)
    assert all(step["state"] == "done" and step["seconds"] >= 0 for step in ended["steps"])
    assert [each["id"] for each in app.site.operations(app.name)] == [
        app.site.operations(app.name)[0]["id"],
        number,
    ]
    del ended["audit"]
    assert app.site.operations(app.name)[1] == ended
