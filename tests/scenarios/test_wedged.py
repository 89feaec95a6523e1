"""Whatever hangs, whoever cancels is told the truth in bounded time and has a way out. SIGSTOP stands for all of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from busy import busy, worker_of
from conftest import door_of, new_name
from deploying import App, Site, wait_until, world
from holding import FROM_OUTSIDE, SETTINGS, STEPS, Gate, daemon, gates, holding, known, make_holdable
from ssh.servers import is_alive, wait_dead

from safepoint.processes import identity
from safepoint.state.held import holder
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store


def live(app: App, settings: str = SETTINGS) -> App:
    """Its v1 serves, and says `one`; `two` is committed."""
    make_holdable(app, settings)
    app.commit("one")
    app.push(door_of(app.site, "local"))
    app.commit("two")
    return app


@contextmanager
def stopped(pid: int | None) -> Iterator[int]:
    """It does nothing any more, and goes on in the end where it still lives."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("step", STEPS)
def test_force_ends_a_stopped_worker_in_each_step(app: App, step: str) -> None:
    """It is seen dead, another one takes over, and all is as before."""
    live(app)
    before = world(app)
    door = door_of(app.site, "local")
    with holding(app, step, "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        with stopped(worker_of(app.site, number)) as worker:
            with door.running("operation:cancel", str(number), "--force") as canceller:
                canceller.read_until(
                    f"the deploy process {worker} did not answer and was killed; another one takes over"
                )
                if step in FROM_OUTSIDE:
                    hold.let_go()
                answer = canceller.finish()
            assert not is_alive(worker)
        hold.let_go()
        said = push.finish()
    assert canceller.process.returncode == 0, answer
    assert f"(operation {number} cancelled by {door.person}; {app.name} still runs v1)" in said
    assert world(app) == before


def test_force_ends_a_worker_that_is_stopped_in_an_undo(app: App) -> None:
    """The undo is begun again by the next worker: it bears being run twice."""
    live(app)
    before = world(app)
    door = door_of(app.site, "local")
    with Gate(gates(app) / "two.undo") as undo, holding(app, "health", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        app.site.run("operation:cancel", str(number), "--no-wait")
        undo.wait_held(push)
        with (
            stopped(worker_of(app.site, number)) as worker,
            door.running("operation:cancel", str(number), "--force") as canceller,
        ):
            canceller.read_until(f"the deploy process {worker} did not answer and was killed; another one takes over")
            undo.open()
            answer = canceller.finish()
        push.finish()
    assert canceller.process.returncode == 0, answer
    assert "already cancelling" in answer
    assert world(app) == before


def test_a_plain_cancel_of_a_stopped_worker_says_what_to_do(app: App) -> None:
    """In bounded time; with --no-wait it is over then, and the same words with --force end it."""
    live(app)
    before = world(app)
    with holding(app, "build", "two") as hold, app.pushing(door_of(app.site, "local")) as push:
        hold.reached(push)
        number = str(push.operation())
        with stopped(worker_of(app.site, int(number))) as worker:
            said = app.site.run("operation:cancel", number, "--no-wait").stdout
            assert f"the deploy process {worker} does not answer; it has got a SIGTERM." in said
            assert "`operation:cancel --force` ends it" in said
            app.site.run("operation:cancel", number, "--force")
        push.finish()
    assert world(app) == before


def test_force_ends_a_worker_that_is_stopped_while_it_waits(app: App) -> None:
    """For its turn: the running one goes on and ends well."""
    with busy(app, door_of(app.site, "local")) as found:
        with stopped(worker_of(app.site, found.waiting)) as worker:
            said = app.site.run("operation:cancel", str(found.waiting), "--force").stdout
            assert f"the deploy process {worker} did not answer and was killed" in said
            assert not is_alive(worker)
        found.end("succeeded", "cancelled")
    assert app.site.get(app.name) == (200, "two")


def test_a_stopped_worker_whose_operation_has_ended_keeps_nobody_waiting(app: App) -> None:
    """It was cancelled while it waited, and never says so; the next one that waits takes its place all the same."""
    with busy(app, door_of(app.site, "local")) as found, stopped(worker_of(app.site, found.waiting)) as worker:
        app.site.run("operation:cancel", str(found.waiting), "--no-wait")
        app.commit("four")
        with app.pushing(door_of(app.site, "local")) as fourth:
            fourth.read_until("waits for its turn")
            wait_dead(worker)
            fourth.read_until("CTRL + C")
            found.open()
            said = fourth.finish()
            assert fourth.process.returncode == 0, said
    assert app.site.get(app.name) == (200, "four")


def test_a_worker_that_hangs_after_its_end_keeps_no_push_out(app: App) -> None:
    """It holds the app's lock, and its operation has ended: the next push kills it."""
    live(app)
    number = app.site.operations(app.name)[0]["id"]
    holder = os.fork()
    if holder == 0:
        lock = Lock.take(app.site.home.pidfile(app.name), wait=True)
        me = identity.of(os.getpid())
        assert lock is not None
        assert me is not None
        lock.sign(me, number)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(1)
    os.waitid(os.P_PID, holder, os.WSTOPPED)
    try:
        app.push(door_of(app.site, "local"))
    finally:
        os.kill(holder, signal.SIGKILL)
        assert os.waitpid(holder, 0)[1] == signal.SIGKILL
    assert app.site.get(app.name) == (200, "two")


ENDLESS = """
CREATE TRIGGER endless AFTER INSERT ON events WHEN NEW.event LIKE '%"step done","at"%"step":"build"%' BEGIN
SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n);
END
"""


def test_force_ends_a_worker_that_hangs_with_the_database_in_its_hands(own_site: Site, tmp_path: Path) -> None:
    """Nobody else can write anything: each is told who it is, and what to do; --force does it."""
    app = live(App.create(own_site, new_name(), tmp_path / "app"))
    before = world(app)
    with Store.open(own_site.home) as store:
        store._db.execute(ENDLESS)
    with holding(app, "build", "two") as hold, app.pushing(door_of(own_site, "local")) as push:
        hold.reached(push)
        number = push.operation()
        hold.let_go()  # what it writes next is the end of the build, and it is never through with that
        wait_until(lambda: holder(own_site.home.database) == worker_of(own_site, number) is not None, "it hangs")
        with stopped(worker_of(own_site, number)) as worker:
            said = own_site.run("config:set", app.name, "A=1", status=1).stderr
            forced = own_site.run("operation:cancel", str(number), "--force").stdout
            assert f"the deploy process {worker} did not answer and was killed; another one takes over" in forced
        push.finish()
    assert said.startswith(f"safepoint: process {worker} holds {own_site.home.database} and does not let go of it\n")
    assert f"`kill -KILL {worker}`" in said
    assert world(app) == before


def test_a_stopped_haproxy_fails_the_deploy_and_is_said(own_site: Site, tmp_path: Path) -> None:
    """By a deadline. Whether the switch can be taken back nobody knows: it is stuck until the router answers."""
    app = live(App.create(own_site, new_name(), tmp_path / "app"))
    before = world(app)
    door = door_of(own_site, "local")
    with stopped(daemon(own_site, "haproxy")):
        said = app.push(door, status=1)
        assert "stuck: undoing switch failed: the router does not answer" in said
        number = str(own_site.operations(app.name)[0]["id"])
        own_site.run("recover", number, status=4)
    own_site.run("recover", number, status=1)
    assert known(own_site, int(number)).state == "failed"
    assert world(app) == before
    app.push(door)


def test_a_stopped_serve_is_not_missed(own_site: Site, tmp_path: Path) -> None:
    """By whoever does not come through it: deploys and cancels go on, and it goes on as if nothing had been."""
    app = live(App.create(own_site, new_name(), tmp_path / "app"))
    assert own_site.process is not None
    door = door_of(own_site, "local")
    with stopped(own_site.process.pid):
        app.push(door)
        assert own_site.get(app.name) == (200, "two")
        app.commit("three")
        with holding(app, "build", "three") as hold, app.pushing(door) as push:
            hold.reached(push)
            own_site.run("operation:cancel", str(push.operation()))
            push.finish()
    app.push(door_of(own_site, "embedded"))
    assert own_site.get(app.name) == (200, "three")
