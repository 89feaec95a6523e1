"""`safepoint serve`: how it begins and ends, and that whatever dies, the apps answer again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import urllib.error
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import door_of, new_name
from deploying import App, Site, app_processes, processes, wait_until, world
from dying import await_death
from holding import daemon, holding, make_holdable
from ssh.servers import Place


@pytest.fixture
def app(own_site: Site, tmp_path: Path) -> App:
    """An app that serves."""
    app = App.create(own_site, new_name(), tmp_path / "work")
    app.commit("one")
    app.push(door_of(own_site, "embedded"))
    return app


def wait_answers(app: App, version: str) -> None:
    def answers() -> bool:
        with suppress(urllib.error.URLError, ConnectionError):
            return app.site.get(app.name) == (200, version)
        return False

    wait_until(answers, f"{app.name} answers with {version}")


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        assert await_death(pid)


def test_what_cannot_be_served_is_said_and_nothing_is_started(own_site: Site, tmp_path: Path) -> None:
    """A home that is in use, ports that are taken, places that are none: one sentence each, and status 1."""
    used = own_site.run("serve", "--ssh-port", "0", "--http-port", "0", status=1).stderr
    assert used.startswith(f"safepoint: another `safepoint serve` uses {own_site.home.root}\n")
    other = Site(Place(tmp_path / "other"))
    (tmp_path / "file").write_text("")
    any_port = ("--ssh-port", "0", "--http-port", "0")
    for words, complaint in (
        (("--ssh-port", str(own_site.ssh_port)), f"port {own_site.ssh_port}: Address already in use\n"),
        (
            ("--http-port", str(own_site.http_port)),
            f"port {own_site.http_port} on 127.0.0.1 is taken by another program",
        ),
        (("--listen", "203.0.113.9"), "cannot listen for ssh on 203.0.113.9 "),
        (("--listen", "no address"), "cannot listen for ssh on no address "),
        (("--home", str(tmp_path / "file")), f"cannot use {tmp_path / 'file'} as Safepoint's home: "),
    ):
        refused = other.run("serve", *any_port, *words, status=1)
        assert refused.stdout == ""
        assert complaint in refused.stderr
        assert "Traceback" not in refused.stderr
        assert processes(other.home) == {}
    other.run("serve", "--ssh-port", "70000", status=2)
    assert own_site.run("apps").returncode == 0


def test_stopping_and_starting_again(app: App) -> None:
    """SIGTERM and Ctrl-C leave nothing running. The next start takes up where it was; --keep-apps leaves the apps."""
    site, local = app.site, door_of(app.site, "local")
    for number in (signal.SIGTERM, signal.SIGINT):
        assert site.end(number) == 0
        assert processes(site.home) == {}
        site.start()
        assert site.get(app.name) == (200, "one")
        assert len(site.json("releases", app.name)) == 1

    site.end()
    before = site.branch(app.name)
    app.commit("two")
    said = app.push(local, status=1)  # over the local door one can push all the same
    assert f"supervisord does not run; start it with `safepoint serve`; {app.name} still runs v1" in said
    assert site.branch(app.name) == before

    site.start("--keep-apps")
    assert site.get(app.name) == (200, "one")
    pids = app_processes(app.name)
    assert site.end() == 0
    assert site.get(app.name) == (200, "one")
    site.start()
    assert site.get(app.name) == (200, "one")
    assert app_processes(app.name) == pids
    assert "now runs v2" in app.push(door_of(site, "embedded"))


def test_whatever_is_killed_comes_back(app: App) -> None:
    """The apps do not notice the death of serve; of supervisord and HAProxy they recover without anybody's help."""
    site = app.site
    pids = app_processes(app.name)
    assert site.end(signal.SIGKILL) == -signal.SIGKILL
    assert site.get(app.name) == (200, "one")
    site.start()
    assert app_processes(app.name) == pids

    kill([daemon(site, "haproxy")])
    wait_answers(app, "one")
    assert app_processes(app.name) == pids

    kill([daemon(site, "supervisord")])
    wait_until(lambda: bool(app_processes(app.name)) and app_processes(app.name).keys() != pids.keys(), "it runs anew")
    wait_answers(app, "one")

    kill(app_processes(app.name))
    wait_answers(app, "one")
    app.commit("two")
    assert "now runs v2" in app.push(door_of(site, "embedded"))


def test_a_reboot_in_the_middle_of_a_deploy(app: App) -> None:
    """All is dead, run/ is empty, and somebody else has the app's port: it serves again, and the deploy is undone."""
    site = app.site
    make_holdable(app)
    before = world(app)
    (port,) = (int(word) for word in before.route.split()[1:])
    app.commit("two")
    with holding(app, "build", "two") as hold, app.pushing(door_of(site, "local")) as push:
        number = push.operation()
        hold.reached(push)
        push.process.kill()
        while left := processes(site.home):
            kill(left)
        assert site.process is not None
        with site.process:
            site.process.wait()
        shutil.rmtree(site.home.run)
        site.home.run.mkdir(mode=0o700)
        with socket.create_server(("127.0.0.1", port)):
            site.start()
            wait_answers(app, "one")
            assert site.wait_ended(number)["state"] == "failed"
            after = world(app)
            assert after.processes != before.processes
            assert len(after.processes) == 1
            assert after.route != before.route
    assert replace(after, processes=before.processes, route=before.route) == before
    assert "now runs v2" in app.push(door_of(site, "local"))
