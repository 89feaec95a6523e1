"""A disk that is full: each step ends in one clear sentence, the old release serves, and afterwards all goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from breaking import Disk, small_disk
from conftest import door_of, new_name
from deploying import App, site, wait_until, world
from holding import STEPS, holding, known, make_holdable

from safepoint.state.paths import Home

CHATTY = """
import threading
def talk():
    while True:
        print("x" * 4000, flush=True)
        time.sleep(0.05)
threading.Thread(target=talk, daemon=True).start()
"""
SETTINGS = """
[build]
command = "sh hold build"
[[before_release]]
command = "sh hold before_release"
[health]
expect = "2xx"
interval = "50ms"
[watch]
for = "1s"
[stop]
grace = "5s"
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """With the whole home on it."""
    with small_disk(tmp_path / "home") as found:
        yield found


@pytest.fixture
def app(disk: Disk, tmp_path: Path) -> Iterator[App]:
    """Its v1 runs, and writes to its log all the time. It can be held in each step."""
    assert disk.left() > 0
    with site(tmp_path) as running:
        name = new_name()
        app = make_holdable(App.create(running, name, tmp_path / name), SETTINGS)
        text = (app.tree / "app.py").read_text()
        app.write({"app.py": f"import time\n{CHATTY}{text}"})
        app.commit("one")
        app.push(door_of(running, "embedded"))
        yield app


def check_words(said: str) -> None:
    """One clear sentence, and nothing for developers."""
    assert "no space left on the disk" in said, said
    assert "Traceback" not in said
    assert "internal error" not in said, said


def test_a_disk_that_fills_up_during_a_step(app: App, disk: Disk) -> None:
    """The deploy ends, live or restored, and says why; what served goes on serving; then the next deploy works."""
    door = door_of(app.site, "embedded")
    version = "one"
    for step in STEPS:
        commit = app.commit(step)
        before = world(app)
        with holding(app, step, step) as hold, app.pushing(door) as push:
            hold.reached(push)
            disk.fill()
            hold.let_go()
            said = push.finish()
        number = push.operation()
        ended = known(app.site, number)
        if push.process.returncode == 0:
            version = step
        else:
            check_words(said)
            assert ended.state == "failed", (step, said)
        assert app.site.get(app.name) == (200, version)
        disk.free()
        if push.process.returncode != 0:
            assert world(app) == before
        else:
            wait_until(lambda: app.site.branch(app.name) == commit, "serve has moved the branch")  # noqa: B023
    app.commit("last")
    app.push(door)
    assert app.site.get(app.name) == (200, "last")


def test_a_push_to_a_full_disk(app: App, disk: Disk) -> None:
    """It is refused with the reason, in git's words or in ours; so is a deploy that needs no push."""
    app.commit("two")
    before = world(app)
    disk.fill()
    said = app.push(door_of(app.site, "embedded"), status=1)
    assert "No space left" in said or "no space left" in said, said
    assert "Traceback" not in said
    assert "internal error" not in said, said
    refused = door_of(app.site, "embedded").run("deploy", app.name, before.branch, status=1)
    assert "no space left on the disk" in refused.stdout + refused.stderr
    assert "internal error" not in refused.stdout + refused.stderr
    assert app.site.run("operation:list").stdout
    disk.free()
    assert world(app) == before
    app.push(door_of(app.site, "embedded"))
    assert app.site.get(app.name) == (200, "two")


def test_a_journal_that_has_no_space(app: App, disk: Disk) -> None:
    """As where what was set aside was not kept: the push is told, what served serves, and `serve` ends it later."""
    app.commit("two")
    before = world(app)
    with holding(app, "build", "two") as hold, app.pushing(door_of(app.site, "embedded")) as push:
        hold.reached(push)
        disk.fill()
        _give_up_the_reserve(app.site.home)
        disk.fill()
        hold.let_go()
        said = push.finish()
        number = push.operation()
    assert push.process.returncode == 1
    assert f"operation {number} stops here: no space left on the disk of" in said, said
    assert "by `safepoint serve` or by `recover" in said
    assert "Traceback" not in said
    assert "internal error" not in said, said
    assert app.site.get(app.name) == (200, "one")
    assert app.site.run("operation:show", str(number)).stdout
    disk.free()
    wait_until(lambda: known(app.site, number).ending is not None, "serve has ended it")
    assert known(app.site, number).state == "failed"
    assert world(app) == before
    app.push(door_of(app.site, "embedded"))
    assert app.site.get(app.name) == (200, "two")


def _give_up_the_reserve(home: Home) -> None:
    log = home.database.with_name(f"{home.database.name}-wal")
    used = len(log.read_bytes().rstrip(b"\0")) // 4096 * 4096 + 4096
    subprocess.run(["fallocate", "--punch-hole", "--offset", str(used), "--length", "8MiB", log], check=True)
