"""A running deploy is taken back: in every step, over every door, and whatever its worker is doing."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import door_of
from deploying import DOORS, App, Door, Site, wait_until, world
from holding import FROM_OUTSIDE, SETTINGS, STEPS, Gate, gates, holding, known, make_holdable, step_of
from ssh.servers import DEADLINE, kill

from safepoint.control.client import Connection
from safepoint.core import wording
from safepoint.state import pidfile


def live(app: App, settings: str = SETTINGS) -> App:
    """Its v1 serves, and says `one`."""
    make_holdable(app, settings)
    app.commit("one")
    app.push(door_of(app.site, "local"))
    return app


def pid_of(app: App, number: int) -> int:
    """The worker's."""
    signed = pidfile.read(app.site.home.pidfile(app.name))
    assert signed is not None
    assert signed[1] == number
    return signed[0].pid


@pytest.mark.parametrize("step", STEPS)
def test_a_cancel_leaves_the_world_as_it_was(app: App, door: Door, step: str) -> None:
    """In every step; both terminals say so, and the same commit can be pushed. Over one door, a first deploy too."""
    rounds = [("two", 2, "still runs v1")]
    if DOORS.index(door.name) == STEPS.index(step) % len(DOORS):
        rounds.insert(0, ("one", 1, "has no release, as before"))
        make_holdable(app)
    else:
        live(app)
    for version, release, still in rounds:
        commit = app.commit(version)
        before = world(app)
        with holding(app, step, version) as hold, app.pushing(door) as push:
            hold.reached(push)
            number = push.operation()
            with door.running("operation:cancel", str(number)) as canceller:
                name = {"quarantine": "receive", "before_release": "before_release.1"}.get(step, step)
                canceller.read_until(f"Cancelling operation {number} now: {name} is interrupted\n")
                if step in FROM_OUTSIDE:
                    hold.let_go()
                answer = canceller.finish()
            said = push.finish()
        closing = f"operation {number} cancelled by {door.person}; {app.name} {still}"
        assert canceller.process.returncode == 0, answer
        assert answer.endswith(f"safepoint | {closing}\n")
        assert push.process.returncode == 1, said
        assert f"remote: safepoint | {closing}" in said
        assert f" ! [remote rejected] main -> main ({closing})" in said
        assert world(app) == before

        assert f"{app.name} now runs v{release}" in app.push(door)
        assert app.site.branch(app.name) == commit
        assert app.site.get(app.name) == (200, version)


def test_a_cancel_in_switch_lets_it_finish_first(app: App) -> None:
    """The traffic is on the new release for a moment, and goes back."""
    live(app)
    app.commit("two")
    before = world(app)
    with holding(app, "switch", "two") as hold, app.pushing(door_of(app.site, "local")) as push:
        hold.reached(push)
        number = push.operation()
        # Not by the command: the worker waits for the router for a few seconds only.
        with Connection.to(app.site.home, app.name) as connection:
            answer = connection.ask("cancel", number, by="alice", reason="", force=False)
        hold.let_go()
        said = push.finish()
    assert answer == {
        "verdict": "after step",
        "answer": f"Cancelling operation {number} after switch, which is finished first",
    }
    assert f"operation {number} cancelled by alice; {app.name} still runs v1" in said
    assert known(app.site, number).step("switch").state == "undone"
    assert world(app) == before


TREE = """
import os, signal, subprocess, sys, time
sleep = ["sleep", sys.argv[1]]
subprocess.Popen(sleep)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True)
subprocess.Popen(sleep, start_new_session=True, env={}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", sleep)
    os._exit(0)
os.wait()
print("the tree has grown", flush=True)
time.sleep(1000)
"""


def test_a_build_dies_with_all_its_processes(app: App) -> None:
    """Those in sessions of their own, the double-forked, and those that ignore SIGTERM, when the cancel returns."""
    seconds = f"1000.{secrets.randbelow(10**9):09}"
    build = f"{shlex.quote(sys.executable)} tree.py {seconds}"
    app.write({"tree.py": TREE, "safepoint.toml": f'[build]\ncommand = "{build}"\n[stop]\ngrace = "1s"\n'})
    app.commit("one")
    before = world(app)
    door = door_of(app.site, "embedded")
    with app.pushing(door) as push:
        push.read_until("the tree has grown")
        wait_until(lambda: len(commands_with(seconds)) >= 6, "everything of the tree runs")
        answer = json.loads(door.run("operation:cancel", str(push.operation()), "--json").stdout)
        assert commands_with(seconds) == []
        said = push.finish()
    closing = f"operation {answer['id']} cancelled by alice; {app.name} has no release, as before"
    assert answer == {
        "id": push.operation(),
        "verdict": "now",
        "answer": f"Cancelling operation {answer['id']} now: build is interrupted",
        "note": None,
        "state": "cancelled",
        "summary": closing,
        "warnings": [],
    }
    assert closing in said
    assert world(app) == before


def commands_with(word: str) -> list[str]:
    """Of every process of this machine that has the word in its command line; zombies have none."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            found.append(b" ".join(words).decode(errors="replace"))
    return found


MIGRATIONS = """
[[before_release]]
command = "echo 1 up >> {trace}"
undo = "echo 1 down >> {trace}"
[[before_release]]
command = "echo 2 up >> {trace}"
[[before_release]]
command = "sh hold before_release && echo 3 up >> {trace}"
undo = "echo 3 down >> {trace}"
on_cancel = "{on_cancel}"
[watch]
for = "0s"
"""


@pytest.fixture
def trace(outside: Path) -> Path:
    return outside / "trace"


@pytest.mark.parametrize("person", ["alice", "bob"])
def test_a_command_that_is_to_be_finished_is(app: App, trace: Path, person: str) -> None:
    """Then everything is undone, newest first; what declares no undo is reported on both terminals."""
    live(app, MIGRATIONS.format(trace=trace, on_cancel="finish"))
    app.commit("two")
    before = world(app)
    trace.unlink()
    door = door_of(app.site, "embedded", person)
    with holding(app, "before_release", "two") as hold, app.pushing(door_of(app.site, "openssh")) as push:
        hold.reached(push)
        number = push.operation()
        with door.running("operation:cancel", str(number)) as canceller:
            canceller.read_until(f"Cancelling operation {number} after before_release.3, which is finished first\n")
            hold.let_go()
            answer = canceller.finish()
        said = push.finish()
    assert trace.read_text().splitlines() == ["1 up", "2 up", "3 up", "3 down", "1 down"]
    warning = f"safepoint | warning: not undone: `echo 2 up >> {trace}` (it declares no undo)"
    closing = f"safepoint | operation {number} cancelled by {person}; {app.name} still runs v1"
    assert canceller.process.returncode == 0
    assert answer.endswith(f"{warning}\n{closing}\n")
    assert [line.strip() for line in said.splitlines() if line.startswith("remote: ")][-2:] == [
        f"remote: {warning}",
        f"remote: {closing}",
    ]
    asked = known(app.site, number).cancel
    assert asked is not None
    assert asked.verdict == "after step"
    assert world(app) == before


def test_a_command_that_was_interrupted_is_undone_too(app: App, trace: Path) -> None:
    """Half of it may have happened."""
    live(app, MIGRATIONS.format(trace=trace, on_cancel="interrupt"))
    app.commit("two")
    trace.unlink()
    door = door_of(app.site, "local")
    with holding(app, "before_release", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        door.run("operation:cancel", str(push.operation()))
        push.finish()
    assert trace.read_text().splitlines() == ["1 up", "2 up", "3 down", "1 down"]


def test_a_dry_run_says_what_a_cancel_would_do(app: App, trace: Path) -> None:
    """And does nothing: the deploy goes on."""
    live(app, MIGRATIONS.format(trace=trace, on_cancel="interrupt"))
    commit = app.commit("two")
    door = door_of(app.site, "embedded")
    with holding(app, "before_release", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = str(push.operation())
        lines = door.run("operation:cancel", number, "--dry-run").stdout.splitlines()
        told = json.loads(door.run("operation:cancel", number, "--dry-run", "--json").stdout)
        hold.let_go()
        push.finish()
    third = f"sh hold before_release && echo 3 up >> {trace}"
    expected = [
        f"A cancel would interrupt before_release.3 of operation {number} now",
        f"will undo before_release.3: Undoing `{third}`: echo 3 down >> {trace}",
        f"cannot be undone: `echo 2 up >> {trace}` (it declares no undo)",
        f"will undo before_release.1: Undoing `echo 1 up >> {trace}`: echo 1 down >> {trace}",
        "will undo export: Removing v2",
        f"{app.name} still runs v1",
    ]
    assert lines.pop(1).startswith("before_release.3 has run for ")
    assert lines == expected
    assert told["id"] == int(number)
    assert told["verdict"] == "now"
    assert [line for line in told["forecast"] if " has run for " not in line] == expected
    assert push.process.returncode == 0
    assert app.site.branch(app.name) == commit
    assert known(app.site, int(number)).cancel is None


def test_a_cancel_under_load_loses_no_request(app: App) -> None:
    """The new release has all the traffic while it is watched; it goes there and back while eight clients hammer."""
    live(app)
    app.write({"safepoint.toml": SETTINGS.replace('for = "2s"', 'for = "10m"')})
    app.commit("two")
    before = world(app)
    door = door_of(app.site, "local")
    with holding(app, "health", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        with hammering(app) as answers:
            hold.let_go()
            push.read_until("Watching v2 for 10 min")
            wait_until(lambda: answers["two"] > 100, "the new release has the traffic")
            door.run("operation:cancel", str(push.operation()))
            so_far = answers["one"]
            wait_until(lambda: answers["one"] > so_far + 100, "the old release has the traffic again")
        push.finish()
    assert set(answers) == {"one", "two"}, answers
    assert world(app) == before


@contextmanager
def hammering(app: App, clients: int = 8) -> Iterator[dict[str, int]]:
    """How often there was which answer, or which error in the place of one."""
    answers = {"one": 0, "two": 0}
    over = threading.Event()
    lock = threading.Lock()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", app.site.http_port, timeout=DEADLINE)
        while not over.is_set():
            try:
                connection.request("GET", "/", headers={"Host": f"{app.name}.localhost"})
                response = connection.getresponse()
                answer = response.read().decode() if response.status == 200 else f"status {response.status}"
            except (OSError, http.client.HTTPException) as error:
                answer = repr(error)
                connection.close()
            with lock:
                answers[answer] = answers.get(answer, 0) + 1
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_too_late(app: App) -> None:
    """After the commit a cancel is refused with the command that takes the release back, and that command works."""
    live(app, SETTINGS.replace('grace = "5s"', 'grace = "10m"'))
    commit = app.site.branch(app.name)
    app.commit("two")
    door = door_of(app.site, "embedded")
    with Gate(gates(app) / "one.stop") as stopping, app.pushing(door) as push:
        stopping.wait_held(push)
        number = str(push.operation())
        way_back = f"take it back with: releases:rollback {app.name} v1"
        too_late = f"Too late: operation {number} has committed, {app.name} runs v2; {way_back}\n"
        assert door.run("operation:cancel", number, status=3).stdout == too_late
        assert door.run("operation:cancel", number, "--dry-run", status=3).stdout == too_late
        assert door.run("operation:cancel", number, "--force", "--no-wait", status=3).stdout == too_late
        told = json.loads(door.run("operation:cancel", number, "--json", status=3).stdout)
        assert (told["verdict"], told["state"]) == ("too late", "running")
        stopping.open()
        push.finish()
    assert push.process.returncode == 0
    ended = f"Operation {number} has already ended: {app.name} got v2; {way_back}\n"
    assert door.run("cancel", number, status=3).stdout == ended
    assert app.site.get(app.name) == (200, "two")
    door.run("releases:rollback", app.name, "v1")
    assert app.site.get(app.name) == (200, "one")
    assert app.site.branch(app.name) == commit


def test_a_cancel_of_what_has_ended_otherwise(app: App) -> None:
    """It has already ended, and how: in failure, or by a cancel before this one."""
    app.write({"safepoint.toml": '[build]\ncommand = "exit 7"\n'})
    app.commit("one")
    door = door_of(app.site, "local")
    app.push(door, status=1)
    number = app.site.operations(app.name)[0]["id"]
    closing = f"operation {number} failed in build: `exit 7` exited with status 7; {app.name} has no release, as before"
    assert door.run("operation:cancel", str(number), status=3).stdout == (
        f"Operation {number} has already ended: {closing}\n"
    )
    told = app.site.json("operation:cancel", str(number), status=3)
    assert (told["verdict"], told["state"], told["summary"]) == ("already ended", "failed", closing)


def test_a_second_cancel_joins_the_first(app: App) -> None:
    """--no-wait returns with the verdict; the second one is told who was first, waits, and ends with 0 too.

    The reason is in every closing sentence, and nothing of it is obeyed by a terminal.
    """
    live(app)
    app.commit("two")
    alice, bob = (door_of(app.site, "embedded", person) for person in ("alice", "bob"))
    with (
        Gate(gates(app) / "two.undo") as undoing,
        holding(app, "health", "two") as hold,
        app.pushing(alice) as push,
    ):
        hold.reached(push)
        number = str(push.operation())
        first = alice.run("operation:cancel", number, "--no-wait", "--reason", "wrong\x1b[m   branch")
        undoing.wait_held(push)
        now = app.site.operation(int(number))
        forecast = bob.run("operation:cancel", number, "--dry-run").stdout
        refused = app.push(bob, "-o", "on-busy=reject", "main", status=1)
        with bob.running("operation:cancel", number) as second:
            second.read_until(f"Operation {number} is already cancelling, as alice asked\n")
            undoing.open()
            answer = second.finish()
        said = push.finish()
    closing = f"operation {number} cancelled by alice (wrong [m branch); {app.name} still runs v1"
    assert first.stdout == f"Cancelling operation {number} now: health is interrupted\n"
    assert (now["state"], now["step"]) == ("undoing", "before_release.1")
    asked = {"by": "alice", "reason": "wrong [m branch", "verdict": "now", "force": False}
    assert asked.items() <= now["cancel"].items()
    assert forecast.startswith(f"Operation {number} is already cancelling, as alice asked\n")
    assert f"{app.name} is busy: operation {number} is undoing (undoing before_release.1)" in refused
    assert second.process.returncode == 0
    assert answer.endswith(f"safepoint | {closing}\n")
    assert f"({closing})" in said
    shown = bob.run("operation:show", number).stdout
    assert ": wrong [m branch\n" in shown
    assert shown.endswith(f"{closing}\n")


def test_force_skips_the_grace_period(app: App) -> None:
    """Also where it comes after a cancel that grants one."""
    app.write({"safepoint.toml": '[build]\ncommand = "trap \'\' TERM; sh hold build"\n[stop]\ngrace = "10m"\n'})
    make_holdable(app, (app.tree / "safepoint.toml").read_text())
    app.commit("one")
    before = world(app)
    door = door_of(app.site, "openssh")
    with holding(app, "build", "one") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = str(push.operation())
        door.run("operation:cancel", number, "--no-wait")
        assert step_of(app.site, int(number)) == "build"
        door.run("operation:cancel", number, "--force")
        push.finish()
    assert world(app) == before


def test_a_sigterm_is_a_cancel(app: App) -> None:
    """To the pid that the pidfile has in its first line."""
    live(app)
    app.commit("two")
    before = world(app)
    with holding(app, "build", "two") as hold, app.pushing(door_of(app.site, "embedded")) as push:
        hold.reached(push)
        number = push.operation()
        pid = int(app.site.home.pidfile(app.name).read_text().splitlines()[0])
        assert pid == pid_of(app, number)
        os.kill(pid, signal.SIGTERM)
        said = push.finish()
    assert f"(operation {number} cancelled by SIGTERM; {app.name} still runs v1)" in said
    assert world(app) == before
    app.site.run("follow", str(number), status=3)


@pytest.mark.parametrize("mended_by", ["waking it", "force"])
def test_a_worker_that_is_wedged(app: App, mended_by: str) -> None:
    """A cancel says that it does not answer. Once it wakes up it obeys; with --force it is killed and recovered."""
    live(app)
    app.commit("two")
    before = world(app)
    door = door_of(app.site, "embedded")
    with holding(app, "build", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        worker = pid_of(app, number)
        os.kill(worker, signal.SIGSTOP)
        with door.running("operation:cancel", str(number)) as canceller:
            canceller.read_until(f"the deploy process {worker} does not answer; it has got a SIGTERM")
            if mended_by == "force":
                forced = door.run("operation:cancel", str(number), "--force").stdout
                assert f"the deploy process {worker} did not answer and was killed; another one takes over" in forced
            else:
                os.kill(worker, signal.SIGCONT)
            canceller.finish()
        said = push.finish()
    assert canceller.process.returncode == 0
    assert f"(operation {number} cancelled by alice; {app.name} still runs v1)" in said
    assert world(app) == before


def test_a_dead_worker_is_recovered_by_the_cancel(own_site: Site, tmp_path: Path) -> None:
    """Where nobody else is there to do it: no `serve`, and no push that waits."""
    app = live(App.create(own_site, f"dead-{secrets.token_hex(3)}", tmp_path / "app"))
    app.commit("two")
    before = world(app)
    door = door_of(own_site, "local")
    with holding(app, "build", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        worker = pid_of(app, number)
        own_site.end(signal.SIGKILL)
        os.killpg(push.process.pid, signal.SIGKILL)
        push.finish()
        kill(worker)
        answer = door.run("operation:cancel", str(number)).stdout
    assert answer.endswith(f"safepoint | operation {number} cancelled by {door.person}; {app.name} still runs v1\n")
    assert world(app) == before
    own_site.start()
    assert world(app) == before


def test_a_cancel_that_races_a_recovery_is_told_the_truth(app: App) -> None:
    """The worker is dead and a running `serve` notices at once: 0 says cancelled, 3 says that it had failed before."""
    live(app)
    app.commit("two")
    before = world(app)
    door = door_of(app.site, "embedded")
    with holding(app, "build", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        kill(pid_of(app, number))
        status = door.run("operation:cancel", str(number), status=None).returncode
        said = push.finish()
    ended = known(app.site, number)
    assert (status, ended.state) in [(0, "cancelled"), (3, "failed")]
    assert f"({wording.closing(ended)})" in said
    assert world(app) == before


def test_an_undo_that_fails_ends_as_stuck(app: App, outside: Path) -> None:
    """The cancel, the push and every follower say so; the app is locked until a person has mended it."""
    mended = outside / "mended"
    live(app, SETTINGS.replace('undo = "sh hold undo"', f'undo = "test -e {mended}"'))
    app.commit("two")
    before = world(app)
    door = door_of(app.site, "local")
    with holding(app, "health", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = str(push.operation())
        answer = door.run("operation:cancel", number, status=4).stdout
        said = push.finish()
    reason = f"operation {number} is stuck: undoing before_release.1 failed: `test -e {mended}` exited with status 1"
    assert reason in answer
    assert reason in said
    assert push.process.returncode == 1
    door.run("follow", number, status=4)
    door.run("cancel", number, status=4)
    assert f"{app.name} is locked: operation {number} is stuck" in app.push(door, status=1)
    assert app.site.get(app.name) == (200, "one")
    door.run("recover", number, status=4)
    mended.touch()
    assert f"cancelled by {door.person}; {app.name} still runs v1\n" in door.run("recover", number, status=3).stdout
    assert world(app) == before
    app.push(door)
    assert app.site.get(app.name) == (200, "two")


def test_wrong_words(shared_site: Site, door: Door) -> None:
    """No such operation is 6, a wrong use is 2, over every door; each says so in a sentence."""
    assert "there is no operation 999999" in door.run("operation:cancel", "999999", status=6).stderr
    assert "not UTF-8" in door.run("operation:cancel", "1", "--reason", "\udcff", status=2).stderr
    for words in (("operation:cancel",), ("follow", "forty-two"), ("cancel", "1", "--perhaps")):
        said = door.run(*words, status=2)
        assert said.stdout == ""
        assert "Usage:" in said.stderr


def test_a_removed_key_is_not_permitted(app: App) -> None:
    """The cancel is refused with 5, although sshd still knows the key, and the deploy goes on."""
    make_holdable(app)
    app.commit("one")
    bob = door_of(app.site, "openssh", "bob")
    with holding(app, "build", "one") as hold, app.pushing(door_of(app.site, "openssh")) as push:
        hold.reached(push)
        app.site.run("keys:remove", "bob")
        try:
            refused = bob.run("operation:cancel", str(push.operation()), status=5)
        finally:
            app.site.run("keys:add", "bob", str(bob.key.with_suffix(".pub")))
        hold.let_go()
        push.finish()
    assert "the key bob has been removed from this server" in refused.stderr
    assert push.process.returncode == 0
