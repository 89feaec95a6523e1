"""The health of a new release: asked before it gets any traffic, and watched for a while when it has it."""

from __future__ import annotations

import re
import shlex
import sys

import pytest
from conftest import door_of
from deploying import APP, App, Door, Site, world

PYTHON = shlex.quote(sys.executable)


def answering(status: str) -> str:
    """The app, with another status: an expression."""
    return APP.replace("self.send_response(200)", f"self.send_response({status})")


def toml(*, health: str = "", watch: str = "0s") -> str:
    return f'[health]\n{health}\n[watch]\nfor = "{watch}"\n[stop]\ngrace = "5s"\n'


UNHEALTHY: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
    "dies at once": (
        {"app.py": "print('cannot find the database')\nraise SystemExit(7)\n"},
        "web.1 of v1 died: exited with status 7",
        ("The last lines of web.1:", "    cannot find the database"),
    ),
    "is killed": (
        {"app.py": "import os, time\ntime.sleep(0.2)\nos.kill(os.getpid(), 9)\n"},
        "web.1 of v1 died: was killed by SIGKILL",
        (),
    ),
    "answers with an error where 2xx is expected": (
        {"app.py": answering("500"), "safepoint.toml": toml(health='expect = "2xx"\ntimeout = "1s"')},
        "v1 was not healthy within 1 s: answered 500, expected 2xx",
        ("Checking the health of v1: GET /, 2xx is healthy...",),
    ),
    "has no such page": (
        {
            "app.py": answering('200 if self.path == "/" else 404'),
            "safepoint.toml": toml(health='path = "/up"\nexpect = "2xx"\ntimeout = "1s"'),
        },
        "v1 was not healthy within 1 s: answered 404, expected 2xx",
        ("Checking the health of v1: GET /up, 2xx is healthy...",),
    ),
    "never listens": (
        {
            "app.py": "import time\nprint('thinking')\ntime.sleep(600)\n",
            "safepoint.toml": toml(health='timeout = "700ms"'),
        },
        "v1 was not healthy within 0.7 s: nothing listens on port ",
        ("    thinking",),
    ),
    "never answers": (
        {
            "app.py": answering("__import__('time').sleep(600)"),
            "safepoint.toml": toml(health='timeout = "700ms"'),
        },
        "v1 was not healthy within 0.7 s: no answer within ",
        (),
    ),
    "has another process that dies": (
        {"Procfile": f"web: exec {PYTHON} app.py\nworker: sleep 0.3; echo no queue; exit 3\n",
         "safepoint.toml": toml(watch="60s")},
        "worker.1 of v1 died: exited with status 3",
        ("The last lines of worker.1:", "    no queue"),
    ),
    "has no web process and dies before it has settled": (
        {"Procfile": "worker: sleep 0.5; exit 4\n"},
        "worker.1 of v1 died: exited with status 4",
        ("Waiting until v1 has settled...",),
    ),
}  # fmt: skip


@pytest.fixture
def local(shared_site: Site) -> Door:
    return door_of(shared_site, "local")


@pytest.mark.parametrize("how", UNHEALTHY)
def test_an_unhealthy_release_never_goes_live(app: App, local: Door, how: str) -> None:
    """The deploy fails, as soon as a process dies; the push has the reason and the last that the processes said."""
    files, reason, lines = UNHEALTHY[how]
    before = world(app)
    app.commit("one", {"safepoint.toml": toml(), **files})
    said = app.push(local, status=1)
    for line in lines:
        assert f"remote: {'' if line.startswith(' ') else 'safepoint | '}{line}" in said, said
    rejected = said.rpartition(" ! [remote rejected] main -> main (operation ")[2]
    assert reason in rejected
    assert f"; {app.name} has no release, as before)" in rejected
    assert world(app) == before


FRAIL = """
import os
well = True
def status(path):
    global well
    if path == "/die":
        os._exit(9)
    well = well and path != "/sicken"
    return 200 if well else 503
"""


def test_a_release_that_becomes_ill_while_it_is_watched(app: App, local: Door) -> None:
    """The old release, which is still warm, gets the traffic back; also when the new one dies."""
    app.commit("one", {"safepoint.toml": toml()})
    app.push(local)
    before = world(app)
    settings = toml(health='expect = "2xx"\ninterval = "50ms"', watch="300s")
    files = {"app.py": answering('__import__("frail").status(self.path)'), "frail.py": FRAIL}
    app.commit("two", {**files, "safepoint.toml": settings})
    for request, answer, reason in (
        ("/sicken", 503, "v2 became unhealthy: answered 503, expected 2xx"),
        ("/die", 502, "web.1 of v2 died: exited with status 9"),
    ):
        with app.pushing(local) as push:
            push.read_until("Watching v2 for 5 min...")
            assert app.site.get(app.name) == (200, "two")
            assert app.site.get(app.name, request)[0] == answer
            said = push.finish()
        assert re.search(f"failed in watch: {reason}(, and was started again)?; {app.name} still runs v1", said), said
        assert f"safepoint | Switching {app.name} back from v2 to v1..." in said
        assert world(app) == before


def test_any_answer_is_healthy_by_default(app: App, local: Door) -> None:
    """As at Aptible: an app whose front page is an error is up."""
    app.commit("one", {"app.py": answering("500"), "safepoint.toml": toml(watch="100ms")})
    assert "GET /, any answer is healthy..." in app.push(local)
    assert app.site.get(app.name) == (500, "one")


def test_an_app_without_a_web_process(app: App, local: Door) -> None:
    """It has settled when it has stayed up for a while. It has no route, and gets none."""
    app.commit("one", {"Procfile": "worker: exec sleep 600\n", "safepoint.toml": toml(watch="100ms")})
    assert "Waiting until v1 has settled..." in app.push(local)
    assert app.site.get(app.name)[0] == 404
    assert len(world(app).processes) == 1
