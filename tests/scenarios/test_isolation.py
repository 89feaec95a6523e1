"""An attacker's app, pushed over ssh like any other, next to somebody else's; and what it leaves for root to trip."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import attacking
import pytest
from conftest import door_of, new_name
from deploying import APP, QUICK, App, Site, app_processes, outside, site, wait_until
from holding import daemon
from processes.trials import isolating

from safepoint.processes import containment, isolation

ROOT = os.geteuid() == 0
PYTHON = shlex.quote(sys.executable)
ONLY_AGAINST_ROOT = {
    "leave_its_cgroup",
    "be_root_by_a_set_user_id_program",
    "read_a_file_of_the_servers_user",  # `doctor` says so
    "signal_its_own_worker",  # it sees the keeper in its place
}
"""What another user than root cannot do anyway, or cannot keep its apps from."""
EXPECTED = set(attacking.ATTACKS) if ROOT else set(attacking.ATTACKS) - ONLY_AGAINST_ROOT

_APP = APP.replace("import http", "import attacking, json, http").replace(
    'pathlib.Path("version").read_bytes()', "json.dumps(attacking.main()).encode()"
)


@pytest.fixture(scope="module", params=["isolated", "off"] if isolating() else ["off"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A served home that isolates apps, and one that does not."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "off" and not ROOT:
            patch.setenv(containment.FORCED, "subreaper")  # a PID namespace alone hides a lot
        with site(tmp_path_factory.mktemp(request.param)) as running:
            if request.param == "off":
                (running.home.root / isolation.SWITCH).touch()
            yield running


@pytest.fixture
def victim(either: Site, tmp_path: Path) -> App:
    app = App.create(either, new_name(), tmp_path / "victim", QUICK + '[build]\ncommand = "touch $DATA_DIR/x"\n')
    either.run("config:set", app.name, "TOKEN=SECRET_OF_THE_VICTIM")
    app.commit("victim")
    app.push(door_of(either, "embedded"))
    return app


def targets(victim: App) -> dict[str, object]:
    running = victim.site
    directory = outside(victim.name)
    private = directory / "private"
    private.write_text("of the server's user")
    private.chmod(0o600)
    set_user_id = directory / "id"
    if ROOT:
        shutil.copy(shutil.which("id") or "", set_user_id)
        set_user_id.chmod(0o4755)
    assert running.process is not None
    wait_until(
        lambda: len(app_processes(victim.name)) == 1,
        f"nothing but the victim's server is left of its start: {app_processes(victim.name)}",
    )
    (victim_pid,) = app_processes(victim.name)
    return {
        "home": str(running.home.root),
        "victim": victim.name,
        "victim_pid": victim_pid,
        "serve_pid": running.process.pid,
        "supervisord_pid": daemon(running, "supervisord"),
        "haproxy_socket": "haproxy.socket",
        "cgroup": next(iter(map(str, containment.cgroup_bases())), "/none"),
        "private": str(private),
        "set_user_id": str(set_user_id),
    }


def test_an_attacker_gets_nowhere(either: Site, victim: App, tmp_path: Path) -> None:
    """From its build and from its process. Without isolation the same attacks succeed, so they are some."""
    build = f'[build]\ncommand = "PARENT=$PPID {PYTHON} attacking.py build.json"\n'
    attacker = App.create(either, new_name(), tmp_path / "attacker", QUICK + build)
    either.run("config:set", attacker.name, f"TARGETS={json.dumps(targets(victim))}")
    attacker.commit("one", {"app.py": _APP, "attacking.py": Path(attacking.__file__).read_text()})
    attacker.push(door_of(either, "embedded"))
    release = either.home.release(attacker.name, 1)
    in_build = json.loads((release / "build.json").read_text())
    in_process = json.loads(either.get(attacker.name)[1])
    could = {name for found in (in_build, in_process) for name, what in found.items() if what == "done"}
    if (either.home.root / isolation.SWITCH).exists():
        assert could & EXPECTED == EXPECTED, (in_build, in_process)
    else:
        assert could & EXPECTED == set(), (in_build, in_process)
    assert either.get(victim.name) == (200, "victim")
    assert json.loads(either.get(attacker.name)[1]) == in_process


def test_what_the_server_does_afterwards_follows_no_link(either: Site, tmp_path: Path) -> None:
    """A release, a cache and a scratch directory full of links to what is precious: cleaned up, given away, removed."""
    name = new_name()
    precious = outside(name) / "precious"
    precious.mkdir(mode=0o700)
    (precious / "file").write_text("precious")
    before = looked_at(precious)
    links = "; ".join(f"ln -sfn {precious} {place}/link" for place in ("$CACHE_DIR", "$TMPDIR", "$DATA_DIR", "."))
    build = f"{links}; rm -rf app.d; ln -s {precious} app.d; ln -sf {precious}/file planted; test ! -e fail"
    app = App.create(either, name, tmp_path / "work", QUICK + f'[build]\ncommand = "{build}"\n')
    door = door_of(either, "embedded")
    for version in ("one", "two"):
        app.commit(version, {"app.d/x": "x"})
        app.push(door)
    app.commit("three", {"fail": ""})
    app.push(door, status=1)
    assert either.get(name) == (200, "two")
    either.run("apps:destroy", name, "--yes")
    assert looked_at(precious) == before


def looked_at(directory: Path) -> dict[str, tuple[int, int, int, int]]:
    found = {str(path): path.lstat() for path in (directory, *directory.rglob("*"))}
    return {path: (stat.st_mode, stat.st_uid, stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}
