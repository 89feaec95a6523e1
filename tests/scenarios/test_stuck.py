"""An undo that fails, of each kind: the operation is stuck, and everything that is true of that is said."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from breaking import own_mounts, small_disk
from conftest import door_of, new_name
from deploying import App, Site, app_processes, site, world
from holding import SETTINGS, daemon, holding, make_holdable


@pytest.fixture(scope="module")
def mounting_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """It sees what the tests mount."""
    own_mounts()
    with site(tmp_path_factory.mktemp("site"), doors=True) as running:
        yield running


@pytest.fixture
def app(mounting_site: Site, tmp_path: Path) -> App:
    name = new_name()
    return App.create(mounting_site, name, tmp_path / name)


@contextmanager
def failing_command(app: App) -> Iterator[None]:
    """The undo that the app declares looks for a file."""
    yield
    (app.site.home.release(app.name, 2) / "mended").touch()


@contextmanager
def group_in_the_way(app: App) -> Iterator[None]:
    """A directory is where the runtime has a file to remove."""
    path = app.site.home.run / "supervisor.d" / f"{app.name}.v2.conf"
    path.unlink()
    (path / "x").mkdir(parents=True)
    yield
    (path / "x").rmdir()
    path.rmdir()


@contextmanager
def silent_router(app: App) -> Iterator[None]:
    """HAProxy does not answer."""
    pid = daemon(app.site, "haproxy")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def mounted_release(app: App) -> Iterator[None]:
    """A file system is mounted in the release's directory, which nobody can remove then."""
    with small_disk(app.site.home.release(app.name, 2) / "busy", 1):
        yield


HANGS = 'setsid sh -c "trap : TERM; sleep 98765; sleep 98765" & sleep 98765'
KINDS: dict[str, tuple[str, str, Callable[[App], object], str, str]] = {
    "a declared undo fails": (
        "test -e mended", "health", failing_command, "before_release.1", "exited with status 1",
    ),
    "a declared undo hangs": (
        f"test -e mended || {{ {HANGS}; }}", "health", failing_command, "before_release.1",
        "was ended after its timeout of 2 s",
    ),
    "the processes cannot be stopped": ("true", "health", group_in_the_way, "start", "cannot remove "),
    "the route cannot be switched back": ("true", "watch", silent_router, "switch", "the router does not answer"),
    "the release cannot be removed": ("true", "health", mounted_release, "export", "cannot remove "),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_undo_that_fails(kind: str, app: App, tmp_path: Path) -> None:
    """Stuck, and locked with the reason; what is left and what goes on is said, over ssh; all else works."""
    undo, step, obstacle, name, reason = KINDS[kind]
    settings = SETTINGS.replace('"sh hold undo"', f"""'''{undo}'''\ntimeout = "2s\"""")
    make_holdable(app, settings)
    door = door_of(app.site, "embedded")
    app.commit("one")
    app.push(door)
    app.commit("two", {"safepoint.toml": settings.replace('for = "2s"', 'for = "60s"')})
    before = world(app)
    with holding(app, "health", "two") as hold, app.pushing(door) as push:
        hold.reached(push)
        if step == "watch":
            hold.let_go()
            push.read_until("Watching v2")
        with obstacle(app):  # type: ignore[attr-defined]
            number = str(push.operation())
            cancelled = door.run("operation:cancel", number, status=4).stdout
            said = push.finish()
            assert push.process.returncode == 1
            stuck = f"operation {number} is stuck: undoing {name} failed: "
            for text in (cancelled, said):
                assert stuck in text, text
                assert reason in text, text
                assert "internal error" not in text, text
            shown = door.run("operation:show", number).stdout
            assert f"still to be undone: {name}" in shown, shown
            assert f"`recover {number}` goes on from there" in shown, shown
            assert "98765" not in str(app_processes(app.name))
            _check_locked(app, number, name)
            if step != "watch":
                assert app.site.get(app.name) == (200, "one")
            door.run("recover", number, status=4)
    assert app.site.get(app.name)[0] == 200
    _check_others(app.site, tmp_path)
    door.run("recover", number, status=3)
    assert world(app) == before
    app.commit("three", {"safepoint.toml": settings})
    app.push(door)
    assert app.site.get(app.name) == (200, "three")


def _check_locked(app: App, number: str, step: str) -> None:
    door = door_of(app.site, "embedded")
    locked = f"{app.name} is locked: operation {number} is stuck (undoing {step} failed: "
    assert locked in app.push(door, status=1)
    for words in (("deploy", app.name), ("releases:rollback", app.name, "v1")):
        refused = door.run(*words, status=1).stderr
        assert locked in refused or "already" in refused, refused


def _check_others(running: Site, tmp_path: Path) -> None:
    """Another app on the same server is deployed as ever."""
    name = new_name()
    other = App.create(running, name, tmp_path / name)
    other.commit("other")
    other.push(door_of(running, "embedded"))
    assert running.get(name) == (200, "other")
