"""Releases: what is kept, going back to it, deploying without a push, configuration, and taking an app away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import door_of
from deploying import QUICK, App, Door, Site, app_processes, processes, world
from holding import holding, make_holdable

MARKED = QUICK + '[build]\ncommand = "echo built >> $MARKS"\n[[before_release]]\ncommand = "echo before >> $MARKS"\n'
"""What is rebuilt leaves a mark."""


@pytest.fixture
def local(shared_site: Site) -> Door:
    return door_of(shared_site, "local")


def states(app: App) -> dict[int, str]:
    return {each["release"]: each["state"] for each in app.site.json("releases", app.name)}


def test_going_back_and_forth(make_app: Callable[..., App], local: Door, outside: Path) -> None:
    """An operation like a deploy: the kept build gets the traffic, nothing is rebuilt, the branch moves with it."""
    app, marks = make_app(MARKED), outside / "marks"
    site = app.site
    site.run("config:set", app.name, f"MARKS={marks}")
    assert "has no earlier release to go back to" in site.run("releases:rollback", app.name, status=1).stderr
    one, _, three = (app.commit(version) and app.push(local) and site.branch(app.name) for version in ("1", "2", "3"))
    marks.unlink()

    said = site.run("releases:rollback", app.name, "--reason", "v3 is slow")
    number = site.operations(app.name)[0]["id"]
    assert f"(operation {number}: {app.name} v2)" in said.stderr
    assert local.cancel_command(number) in said.stderr
    assert said.stdout.endswith(f"safepoint | operation {number} succeeded: {app.name} now runs v2\n")
    assert site.get(app.name) == (200, "2")
    shown = site.operation(number)
    assert (shown["kind"], shown["reason"], shown["previous_release"]) == ("rollback", "v3 is slow", 3)
    assert [each["name"] for each in shown["steps"]][:4] == ["start", "health", "switch", "watch"]

    site.run("releases:rollback", app.name)  # "the one before" is the one before what runs
    assert (site.get(app.name), site.branch(app.name), states(app)) == (
        (200, "1"), one, {3: "kept", 2: "kept", 1: "current"},
    )  # fmt: skip
    assert "has no earlier release" in site.run("releases:rollback", app.name, status=1).stderr
    site.run("releases:rollback", app.name, "v3")
    assert (site.get(app.name), site.branch(app.name)) == ((200, "3"), three)
    assert not marks.exists()

    for words, status, answer in (
        (("3",), 1, f"{app.name} runs v3 already\n    `releases {app.name}` lists what is kept\n"),
        (("v9",), 1, f"{app.name} has no release v9\n"),
        (("latest",), 2, "'latest' is no release\n    releases are named v1, v2 and so on\n"),
    ):
        assert answer in site.run("releases:rollback", app.name, *words, status=status).stderr
    listed = site.run("releases", app.name).stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["RELEASE", "STATE"], ["v3", "current"], ["v2", "kept"], ["v1", "kept"],
    ]  # fmt: skip
    # Whoever pushes what had been rolled back gets a new release of it.
    site.run("releases:rollback", app.name, "v1")
    assert "now runs v4" in app.push(local)


def test_a_rollback_is_taken_back(app: App, local: Door) -> None:
    """In health, and in watch, when it has the traffic already: everything is as before."""
    make_holdable(app)
    for version in ("one", "two"):
        app.commit(version)
        app.push(local)
    before = world(app)
    for step in ("health", "watch"):
        with holding(app, step, "one") as hold, local.running("releases:rollback", app.name) as rollback:
            number = rollback.operation()
            hold.reached(rollback)
            with local.running("operation:cancel", str(number)) as canceller:
                canceller.read_until(f"Cancelling operation {number} now: {step} is interrupted\n")
                if step == "watch":
                    hold.let_go()
                canceller.finish()
            said = rollback.finish()
        assert canceller.process.returncode == 0
        assert rollback.process.returncode == 3, said
        assert f"operation {number} cancelled by {local.person}; {app.name} still runs v2" in said
        assert world(app) == before


def test_five_releases_are_kept(app: App, local: Door) -> None:
    """The one that runs among them. What is older is gone; its commit is not, and can be deployed again."""
    first = app.commit("1")
    app.push(local)
    app.commit("2")
    app.push(local)
    for _ in range(4):
        app.site.run("deploy", app.name)
    kept = {6: "current", 5: "kept", 4: "kept", 3: "kept", 2: "kept"}
    assert states(app) == kept | {1: "pruned"}
    assert world(app).directories == ("v2", "v3", "v4", "v5", "v6")
    refused = app.site.run("releases:rollback", app.name, "v1", status=1).stderr
    assert f"v1 of {app.name} is not kept any more\n" in refused
    words = re.search(r"`(deploy .*)`", refused)
    assert words is not None
    app.site.run(*words[1].split())
    assert app.site.branch(app.name) == first
    assert app.site.get(app.name) == (200, "1")


def test_deploying_without_a_push(app: App, local: Door) -> None:
    """What the branch has, or a commit by whatever name: the branch follows. Each time it is a new release."""
    site = app.site
    nothing = site.run("deploy", app.name, status=1).stderr
    assert f"{app.name} has nothing on main yet\n    push it first" in nothing
    one = app.commit("one")
    app.push(local, "main:topic")
    said = site.run("deploy", app.name, "topic", "--json")
    *_, last = said.stdout.splitlines()
    assert json.loads(last)["state"] == "succeeded"
    assert site.branch(app.name) == one
    app.commit("two")
    app.push(local)
    site.run("deploy", app.name, one[:10])
    assert (site.branch(app.name), site.get(app.name)) == (one, (200, "one"))
    site.run("deploy", app.name)
    assert states(app) == {4: "current", 3: "kept", 2: "kept", 1: "kept"}
    for hostile in ("--upload-pack=x", "main..topic", "nope", "0" * 40, "-h x", ""):
        words = ("--", hostile) if hostile.startswith("-") else (hostile,)
        refused = site.run("deploy", app.name, *words, status=None)
        assert (refused.returncode, "Traceback" in refused.stderr) == (1, False), (hostile, refused)


def test_ctrl_c_leaves_a_deploy_by_command_alone(app: App, local: Door) -> None:
    """As with a push: what was started goes on in the background."""
    make_holdable(app)
    app.commit("one")
    app.push(local, "main:topic")
    with holding(app, "build", "one") as hold, local.running("deploy", app.name, "topic") as deploy:
        number = deploy.operation()
        hold.reached(deploy)
        deploy.interrupt()
        said = deploy.finish()
        assert (deploy.process.returncode, "Traceback" in said) == (130, False)
        assert app.site.operation(number)["state"] == "running"
        hold.let_go()
    assert app.site.wait_ended(number)["state"] == "succeeded"
    assert app.site.get(app.name) == (200, "one")


def test_configuration_is_part_of_the_next_release(make_app: Callable[..., App], local: Door) -> None:
    """It comes and goes with the release, also in a rollback; its values are in no log and in nobody's sight."""
    app = make_app(QUICK + '[build]\ncommand = "printf %s \\"$COLOUR\\" > colour"\n')
    site, secret = app.site, "very-secret-4711"
    code = (app.tree / "app.py").read_text().replace('pathlib.Path("version").read_bytes()', "answer()")
    answer = (
        'def answer():\n    return (os.environ.get("COLOUR", "none") + pathlib.Path("colour").read_text()).encode()\n'
    )
    app.commit("one", {"app.py": answer + code})
    app.push(local)
    said = site.run("config:set", app.name, f"COLOUR={secret}", "EMPTY=", "B=a=b c")
    assert said.stdout == f"Set COLOUR, EMPTY, B for the next release of {app.name}\n"
    assert site.get(app.name) == (200, "none")
    assert site.json("config", app.name) == {"B": "a=b c", "COLOUR": secret, "EMPTY": ""}
    site.run("deploy", app.name)
    assert site.get(app.name) == (200, secret * 2)
    site.run("config:unset", app.name, "COLOUR")
    assert site.run("config", app.name).stdout == "B=a=b c\nEMPTY=\n"
    site.run("deploy", app.name)
    assert site.get(app.name) == (200, "none")
    site.run("releases:rollback", app.name, "v2")
    assert site.get(app.name) == (200, secret * 2)

    home = site.home.root
    logs = [*home.glob("*.log"), *home.glob("operations/*"), *home.glob(f"apps/{app.name}/logs/*"), *home.glob("*.err")]
    assert [path for path in logs if secret.encode() in path.read_bytes()] == []
    number = site.operations(app.name)[0]["id"]
    for words in ("operation:list",), ("operation:show", str(number)), ("operation:logs", str(number)):
        assert secret not in site.run(*words, "--json").stdout
    assert not any(secret in command for command in processes(site.home).values())
    for wrong in ("COLOUR", f"1={secret}", f"PORT={secret}", f"SAFEPOINT_HOME={secret}", f"A B={secret}"):
        refused = site.run("config:set", app.name, wrong, status=2).stderr
        assert secret not in refused


def test_taking_an_app_away(app: App, local: Door) -> None:
    """It asks first, waits for nobody, and leaves nothing; an app of the same name begins anew."""
    site = app.site
    make_holdable(app)
    app.commit("one")
    app.push(local)
    with holding(app, "build", "two") as hold:
        app.commit("two")
        with app.pushing(local) as push:
            number = push.operation()
            hold.reached(push)
            refused = site.run("apps:destroy", app.name, "--yes", status=1).stderr
            assert refused == (
                f"safepoint: {app.name} is busy with operation {number}\n    wait for it or cancel it first\n"
            )
            local.run("operation:cancel", str(number))
            push.finish()
    for answer in ("n\n", ""):
        assert site.run("apps:destroy", app.name, text=answer, status=130).stdout.startswith(f"Remove {app.name} with")
        assert site.get(app.name) == (200, "one")
    assert site.run("apps:destroy", app.name, text="y\n").stdout.endswith(f"Removed {app.name}\n")
    assert site.get(app.name)[0] == 404
    assert app_processes(app.name) == {}
    assert sorted(traces(app)) == [f"run/{app.name}.pid"]
    for words in (("releases", app.name), ("config", app.name), ("apps:destroy", app.name, "--yes")):
        assert f"there is no app named {app.name}" in site.run(*words, status=1).stderr
    assert len(site.operations(app.name)) == 2  # history

    site.run("apps:create", app.name)
    assert site.json("config", app.name) == {}
    site.run("config:set", app.name, f"GATES={app.tree}")
    assert "now runs v1" in app.push(local)
    assert site.get(app.name) == (200, "two")


def test_an_app_that_is_stuck_can_be_taken_away(make_app: Callable[..., App], local: Door) -> None:
    """With it goes what locked it: its name is free for another app."""
    broken = '[[before_release]]\ncommand = "true"\nundo = "exit 5"\n[[before_release]]\ncommand = "exit 6"\n'
    app = make_app(QUICK + broken)
    app.commit("one")
    assert "is stuck: undoing before_release.1 failed: `exit 5` exited with status 5" in app.push(local, status=1)
    (stuck,) = app.site.operations(app.name)
    app.site.run("apps:destroy", app.name, "--yes")
    assert app.site.operation(stuck["id"])["state"] == "failed"
    app.site.run("apps:create", app.name)
    app.commit("two", {"safepoint.toml": QUICK})
    assert "now runs v1" in app.push(local)
    assert f"operation {stuck['id']} is not stuck" in app.site.run("recover", str(stuck["id"]), status=1).stderr


def traces(app: App) -> Iterator[str]:
    """What in the home still has the app's name."""
    root = app.site.home.root
    for path in root.rglob(f"*{app.name}*"):
        yield str(path.relative_to(root))
