"""A machine that refuses: disks that fail or are read-only, no descriptors. A clear ending, and then all goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from breaking import failing, small_disk
from conftest import door_of, new_name
from deploying import App, Site, site, world
from holding import SETTINGS, holding, known, make_holdable

from safepoint.state import pidfile


@pytest.fixture
def app(own_site: Site, tmp_path: Path) -> App:
    """Its v1 runs; v2 is committed."""
    name = new_name()
    found = make_holdable(App.create(own_site, name, tmp_path / name))
    found.commit("one")
    found.push(door_of(own_site, "embedded"))
    found.commit("two")
    return found


def worker(app: App) -> int:
    signed = pidfile.read(app.site.home.pidfile(app.name))
    assert signed is not None
    return signed[0].pid


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EROFS"])
def test_a_worker_that_cannot_write_the_journal(app: App, error: str) -> None:
    """It stops there, and says why; another one, which can, takes everything back."""
    before = world(app)
    with holding(app, "build", "two") as hold, app.pushing(door_of(app.site, "embedded")) as push:
        hold.reached(push)
        with failing(worker(app), "pwrite64,fdatasync", error):
            hold.let_go()
            said = push.finish()
    assert push.process.returncode == 1
    assert "Stopping here: " in said, said
    assert "the deploy process died during build" in said, said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert known(app.site, push.operation()).state == "failed"
    assert world(app) == before
    app.push(door_of(app.site, "embedded"))
    assert app.site.get(app.name) == (200, "two")


def test_a_worker_without_descriptors(app: App) -> None:
    """The step fails and says why; where the undo needs one too it is stuck, and `recover` ends it."""
    before = world(app)
    door = door_of(app.site, "embedded")
    with holding(app, "build", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        pid = worker(app)
        # The limit is on the number of a new one: below this there is none free.
        used = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
        most = min(set(range(len(used) + 1)) - used)
        subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={most}:{most}"], check=True)
        hold.let_go()
        said = push.finish()
        number = push.operation()
    assert push.process.returncode == 1
    assert "Too many open files" in said, said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert app.site.get(app.name) == (200, "one")
    if known(app.site, number).state == "stuck":
        door.run("recover", str(number), status=1)
    assert world(app) == before
    app.push(door)
    assert app.site.get(app.name) == (200, "two")


def test_a_home_that_is_read_only(tmp_path: Path) -> None:
    """A push, a command and `serve` are refused in one sentence each; what reads goes on; then all of it works."""
    with small_disk(tmp_path / "home") as disk, site(tmp_path) as running:
        name = new_name()
        app = make_holdable(App.create(running, name, tmp_path / name), SETTINGS)
        app.commit("one")
        door = door_of(running, "local")
        app.push(door)
        app.commit("two")
        running.stop()
        disk.read_only()
        refused = [running.run(*words, status=1).stderr for words in (("apps:create", "x"), ("serve",))]
        pushed = app.push(door, status=1)  # in git's own words: it cannot even make its quarantine
        disk.read_only(False)
        assert "Traceback" not in pushed
        for said in refused:
            assert "read-only" in said.lower(), said
            assert "Traceback" not in said
            assert "internal error" not in said
        running.start()
        app.push(door)
        assert running.get(name) == (200, "two")


CLOCK = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), Path("faketime-is-not-installed"))


def test_a_clock_that_jumps(app: App, tmp_path: Path) -> None:
    """A day on, and a day back, in the middle of a deploy: no timeout fires, none is for ever, no time is negative."""
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    faked = {
        "LD_PRELOAD": str(CLOCK),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    door = door_of(app.site, "local")
    for version, jump in (("ahead", "+1d\n"), ("back", "-1d\n")):
        app.commit(version)
        with holding(app, "build", version) as hold, app.pushing(door, environment=faked) as push:
            hold.reached(push)
            clock.write_text(jump)
            hold.let_go()
            said = push.finish()
        assert push.process.returncode == 0, said
        ended = app.site.operation(push.operation())
        build = next(step for step in ended["steps"] if step["name"] == "build")
        assert abs(build["seconds"]) > 80_000, "the clock did not jump"
        shown = app.site.run("operation:show", str(push.operation())).stdout
        assert " -" not in shown.replace("-\n", ""), shown
