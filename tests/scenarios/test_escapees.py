"""Pushed code that does not want to be ended, in each kind of containment that this machine gives."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from threading import Thread

import nasty
import pytest
from conftest import door_of, new_name
from deploying import APP, App, Site, site, world

from safepoint.processes import containment
from safepoint.state.pidfile import Lock

GRACE, SLOWNESS = 0.2, 60.0
"""Seconds. The second is for a machine that is busy: what is not ended hangs for ten minutes."""
LIMIT = 300_000
"""Bytes of output that the site keeps."""

SETTINGS = f'[build]\ncommand = "%s"\n[watch]\nfor = "%s"\n[stop]\ngrace = "{GRACE}s"\n'
PROGRAM = Path(nasty.__file__).read_text()


@pytest.fixture(scope="module", params=list(containment.Kind))
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app whose v1 serves, on a site that contains by that kind, or by the next one that works here."""
    directory, kinds = tmp_path_factory.mktemp("escapees"), list(containment.Kind)
    kind = next(each for each in kinds[kinds.index(request.param) :] if containment.possible(each, directory))
    settings = {containment.FORCED: str(kind), "SAFEPOINT_OUTPUT_LIMIT": str(LIMIT)}
    with site(directory, environment=settings) as served:
        app = App.create(served, new_name(), directory / "work")
        app.commit("one", {"nasty.py": PROGRAM, "safepoint.toml": SETTINGS % ("true", "0s")})
        app.push(door_of(served, "local"))
        yield app


def kind_of(site: Site) -> str:
    return site.environment[containment.FORCED]


def tagged(app: App) -> dict[int, str]:
    """The live processes of the build, found without the code under test: by environment, or by command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if not entry.name.isdigit() or (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
            variables = (entry / "environ").read_bytes().split(b"\0")
            if tag(app).encode() in words or f"NASTY_TAG={tag(app)}".encode() in variables:
                found[int(entry.name)] = b" ".join(words).decode(errors="replace")
    return found


def tag(app: App) -> str:
    return f"nasty-{app.name}"


class Witness:
    """Waits for an app's lock as a process of its own would, and looks at once who still lives."""

    def __init__(self, app: App, pids: set[int], stack: ExitStack) -> None:
        self._app = app
        self._pidfds = {}
        for pid in pids:
            with suppress(ProcessLookupError):
                self._pidfds[pid] = os.pidfd_open(pid)
                stack.callback(os.close, self._pidfds[pid])
        self.alive: set[int] | None = None
        self._thread = Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        lock = Lock.take(self._app.site.home.pidfile(self._app.name), wait=True)
        assert lock is not None
        poll = select.poll()
        for pidfd in self._pidfds.values():
            poll.register(pidfd, select.POLLIN)
        dead = {descriptor for descriptor, _ in poll.poll(0)}
        later = set(tagged(self._app))
        lock.close()
        self.alive = later | {pid for pid, pidfd in self._pidfds.items() if pidfd not in dead}

    def saw(self) -> set[int] | None:
        self._thread.join(120)
        return self.alive


@pytest.mark.parametrize("trick", nasty.TRICKS)
def test_a_cancelled_build_is_dead_before_the_lock_is_free(app: App, trick: str) -> None:
    """Whatever it does: within the grace period and what a busy machine needs, with the world as it was."""
    before, own = world(app), app.site
    build = f"NASTY_TAG={tag(app)} exec python3 nasty.py {trick} {tag(app)}"
    app.commit(f"{trick}", {"safepoint.toml": SETTINGS % (build, "0s")})
    with ExitStack() as stack:
        push = stack.enter_context(app.pushing(door_of(own, "local")))
        number = push.operation()
        push.read_until("it is ready")
        spec = json.loads((own.home.run / "specs" / f"{number}.build.json").read_text())
        assert spec["kind"] == kind_of(own)
        living = set(tagged(app))
        assert living
        witness = Witness(app, living, stack)
        cancel = own.json("operation:cancel", str(number))
        assert (cancel["verdict"], cancel["state"]) == ("now", "cancelled")
        assert witness.saw() == set()
        said = push.finish()
        assert push.process.returncode == 1
    assert tagged(app) == {}
    assert world(app) == before
    shown = own.operation(number)
    asked, ended = (datetime.fromisoformat(text).timestamp() for text in (shown["cancel"]["at"], shown["ended"]))
    assert ended - asked < GRACE + SLOWNESS
    assert "Traceback" not in said
    assert f"! [remote rejected] main -> main (operation {number} cancelled by " in said
    assert own.home.output(number).stat().st_size < LIMIT + 200_000


LIKE_ANY = APP.replace(
    "server.serve_forever()",
    "import subprocess\nfor each in {tricks}: subprocess.Popen({start})\nserver.serve_forever()",
).replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")


def test_an_app_that_does_not_want_to_stop(app: App) -> None:
    """It serves as any other, and neither it nor its children hear a signal: cancelled or retired, nothing is left."""
    own, local = app.site, door_of(app.site, "local")
    start = f'[sys.executable, "nasty.py", each, "{tag(app)}"], env={{"NASTY_TAG": "{tag(app)}"}}'
    tricks = ("double_fork", "ignore_term", "endless_lines", "slow_fork_bomb")
    nasty_app = LIKE_ANY.replace("{tricks}", repr(tricks)).replace("{start}", start)
    good = (app.tree / "app.py").read_text()
    before = world(app)
    app.commit("nasty", {"app.py": nasty_app, "safepoint.toml": SETTINGS % ("true", "600s")})
    with app.pushing(local) as push:
        number = push.operation()
        push.read_until("Watching v")
        assert tagged(app)
        assert own.json("operation:cancel", str(number))["state"] == "cancelled"
        push.finish()
    assert tagged(app) == {}
    assert world(app) == before
    app.commit("nasty again", {"safepoint.toml": SETTINGS % ("true", "0s")})
    app.push(local)
    assert own.get(app.name) == (200, "nasty again")
    assert tagged(app)
    app.commit("good", {"app.py": good})
    app.push(local)
    assert own.get(app.name) == (200, "good")
    assert tagged(app) == {}
