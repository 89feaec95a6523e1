"""`safepoint doctor`: on a home that is well, and on homes that are not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import door_of, new_name
from deploying import App, Site, site
from ssh.servers import Place
from state.plans import open_operation

from safepoint.core import events as e
from safepoint.core.events import Ending
from safepoint.core.findings import Finding, Level
from safepoint.doctor.examine import examine
from safepoint.processes import containment
from safepoint.processes.containment import Kind
from safepoint.state.paths import Home
from safepoint.state.store import Store


def about(findings: list[Finding], word: str) -> list[Finding]:
    return [each for each in findings if each.about == word]


def problems(place: Place) -> list[str]:
    return [each.text for each in examine(place.home) if each.level is Level.PROBLEM]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home that nobody serves, with one app."""
    place = Place(tmp_path)
    place.add_app("web")
    return place


def test_a_server_that_is_well(tmp_path: Path) -> None:
    """Nothing is a problem, and the exit status says so; each line tells what there is."""
    with site(tmp_path, environment={"SAFEPOINT_OUTPUT_LIMIT": "64M"}) as served:
        app = App.create(served, new_name(), tmp_path / "work")
        app.commit("one")
        app.push(door_of(served, "local"))
        said = served.run("doctor").stdout
        assert re.search(r"\nno problems, \d warnings?\n$", said)
        for line in (
            r"ok       git            git version \d",
            r"ok       home           \S+ belongs to \w+, and nobody else may enter\n",
            r"ok       key files      only \w+ may read host_key and safepoint.db\n",
            rf"ok       serve          `safepoint serve` runs, and answers ssh at 127.0.0.1 port {served.ssh_port} ",
            r"ok       supervisord    supervisord runs 1 release \(process \d+\)\n",
            rf"ok       HAProxy        HAProxy listens at 127.0.0.1 port {served.http_port}\n",
            r"ok       releases       apps that have a release: 1 of 1\n",
            r"ok       output         of each operation 64 MiB of output are kept",
            r"containment    each command of pushed code runs in a ",
            r"(ok     |warning)  isolation      ",
        ):
            assert re.search(line, said), (line, said)
        findings: list[dict[str, Any]] = served.json("doctor")
        assert {each["level"] for each in findings} == {"ok", "warning"}
        assert {tuple(each) for each in findings} == {("level", "about", "text", "advice")}
        served.stop()
        assert "problem  serve          `safepoint serve` does not run\n" in served.run("doctor", status=1).stdout
        served.start()


def test_a_release_that_does_not_run(own_site: Site, outside: Path, tmp_path: Path) -> None:
    """Its process has been given up, and its app and its end are named."""
    app = App.create(own_site, new_name(), tmp_path / "work", '[watch]\nfor = "0s"\n')
    die = outside / "die"
    app.write({"Procfile": f"web: test ! -e {die} && exec python3 app.py\n"})
    app.commit("one")
    app.push(door_of(own_site, "local"))
    die.touch()
    own_site.stop()
    own_site.start()
    said = own_site.run("doctor", status=None).stdout
    assert re.search(rf"problem  releases       web.1 of {app.name} v1 does not run: ", said), said


def test_no_home(tmp_path: Path) -> None:
    """What can be said without one is said."""
    findings = examine(Home(tmp_path / "none"))
    assert [each.text for each in findings if each.level is Level.PROBLEM] == [f"there is no directory {tmp_path}/none"]
    assert about(findings, "git")


def test_the_home_of_somebody_else(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing inside is looked at: root would leave files in it that its owner cannot use."""
    monkeypatch.setattr(os, "geteuid", lambda: place.home.root.stat().st_uid + 1)
    findings = examine(place.home)
    (found,) = (each for each in findings if each.level is Level.PROBLEM)
    assert re.search(rf"^{place.home.root} belongs to \w+, and you are \w+$", found.text)
    assert about(findings, "space")
    assert about(findings, "operations") == []


def loosen(place: Place) -> None:
    place.home.root.chmod(0o755)


def loosen_keys(place: Place) -> None:
    place.home.database.chmod(0o644)


def damage(place: Place) -> None:
    place.home.database.write_bytes(b"no database at all" * 1000)


def empty(place: Place) -> None:
    place.home.database.unlink()


def get_stuck(place: Place) -> None:
    with Store.open(place.home) as store:
        journal = open_operation(store)
        journal.append(e.StepStarted(at=1.0, step="export"))
        journal.append(e.StepFailed(at=2.0, step="export", reason="no \x1b[31mroom"))
        journal.append(e.UndoStarted(at=3.0, step="export"))
        journal.append(e.UndoFailed(at=4.0, step="export", reason="still \x1b[31mno room"))
        journal.append(e.Ended(at=5.0, ending=Ending.STUCK))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (loosen, r"^others may get at \S+, which has the mode 0755$"),
        (loosen_keys, r"^others may get at \S+safepoint.db, which has the mode 0644$"),
        (damage, r"^cannot read \S+safepoint.db: file is not a database$"),
        (empty, r"^\S+ is not a Safepoint home$"),
        (get_stuck, r"^operation 1 is stuck: undoing export failed: still  \[31mno room; web is locked"),
    ],
)
def test_what_is_wrong_is_a_problem(place: Place, wrong: Callable[[Place], None], says: str) -> None:
    """Each with what to do, and everything else is looked at all the same."""
    before = examine(place.home)
    wrong(place)
    after = examine(place.home)
    (found,) = (each for each in after if each.level is Level.PROBLEM and each not in before)
    assert re.search(says, found.text), found
    assert found.advice or "cannot read" in found.text
    assert about(after, "git") == about(before, "git")
    assert about(after, "space")


def test_a_dead_operation(place: Place) -> None:
    """It is not under way: nobody runs it."""
    with Store.open(place.home) as store:
        open_operation(store)
    (found,) = about(examine(place.home), "operations")
    assert found.text == "operation 1 of web has not ended, and its process is dead"


@pytest.mark.parametrize("kind", list(Kind))
def test_the_containment_that_serve_was_told_to_use(place: Place, kind: Kind) -> None:
    """It is what is in use, whatever the doctor's own environment says; a weaker one is warned of."""
    with Store.open(place.home) as store:
        if not containment.possible(kind, place.home.root):
            store.set_setting(containment.FORCED, "")
            assert containment.obstacle(kind, place.home.root)
        else:
            store.set_setting(containment.FORCED, kind)
    (found,) = about(examine(place.home), "containment")
    assert found.level is (Level.WARNING if kind is Kind.SUBREAPER else Level.OK)


def test_a_wish_for_containment_that_cannot_be_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is a problem of the containment, and the other checks go on."""
    monkeypatch.setattr(containment, "cgroup_bases", lambda: [tmp_path])
    with Store.open(place.home) as store:
        store.set_setting(containment.FORCED, "cgroup")
    assert "cannot contain processes by cgroup on this machine" in problems(place)
    assert "this user may not make cgroups in" in containment.obstacle(Kind.CGROUP, place.home.root)
    (tmp_path / "cgroup.procs").touch()
    assert "have no cgroup.kill" in containment.obstacle(Kind.CGROUP, place.home.root)
    monkeypatch.setattr(containment, "cgroup_bases", list)
    assert "no cgroup file system of version 2" in containment.obstacle(Kind.CGROUP, place.home.root)


def test_nothing_is_changed_by_looking(place: Place) -> None:
    """No file comes, goes or is written."""

    def look() -> dict[str, tuple[int, int]]:
        found = (path for path in place.home.root.rglob("*") if "-wal" not in path.name and "-shm" not in path.name)
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_mode) for path in found if path.is_file()}

    before = look()
    examine(place.home)
    assert look() == before
