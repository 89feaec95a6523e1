"""Roles over both doors of ssh: a viewer, a deployer, an operator, an admin, and somebody who should see nothing."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploying import QUICK, App, Door, Site, own_environment, site
from holding import holding, make_holdable
from ssh.servers import DEADLINE, git

PEOPLE = ("viewer", "deployer", "operator", "admin", "attacker")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site of its own: keys and their grants belong to all of it, and sshd reads them once."""
    directory = tmp_path_factory.mktemp("guarded")

    def add_people(running: Site) -> None:
        for name in PEOPLE:
            key = running.place.make_key(name)
            running.run("keys:add", name, f"{key}.pub", "--role", "viewer" if name == "attacker" else name)
        running.run("keys:revoke", "attacker")
        running.run("keys:grant", "attacker", "admin", "--app", "evil-*")

    with site(directory, doors=True, prepare=add_people) as running:
        yield running


@pytest.fixture(params=("embedded", "openssh"))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def web(guarded: Site, tmp_path: Path) -> App:
    name = f"web-{uuid.uuid4().hex[:8]}"
    return App.create(guarded, name, tmp_path / name)


def door(site: Site, kind: str, person: str) -> Door:
    return Door(kind, site, site.place.directory / person)


def test_each_role_may_do_so_much(guarded: Site, web: App, kind: str) -> None:
    """0 or 5 for what one sees; 1 or 6, as for what is not there, for what one does not."""
    web.commit("one")
    web.push(door(guarded, kind, "viewer"), status=128)
    web.push(door(guarded, kind, "attacker"), status=128)
    assert guarded.operations(web.name) == []
    web.push(door(guarded, kind, "deployer"))
    number = str(guarded.operations(web.name)[0]["id"])
    verbs: tuple[tuple[tuple[str, ...], str], ...] = (
        (("operation:show", number), "viewer"),
        (("logs", number), "viewer"),
        (("follow", number), "viewer"),
        (("releases", web.name), "viewer"),
        (("deploy", web.name), "deployer"),
        (("config", web.name), "operator"),
        (("config:set", web.name, "COLOUR=blue"), "operator"),
        (("apps:on-busy", web.name, "queue"), "operator"),
        (("releases:rollback", web.name), "operator"),
        (("keys",), "admin"),
        (("keys:grant", "viewer", "viewer"), "admin"),
        (("apps:create", f"{web.name}-{kind[:1]}"), "admin"),
    )
    for words, needed in verbs:
        for person in PEOPLE[:4]:
            status = 0 if PEOPLE.index(person) >= PEOPLE.index(needed) else 5
            done = door(guarded, kind, person).run(*words, status=status)
            assert "Traceback" not in done.stderr
            if status == 5:
                assert f"that needs the role {needed} of" in done.stderr
    attacker = door(guarded, kind, "attacker")
    for words, _ in verbs:
        status = 5 if words[0].startswith(("keys", "apps:create")) else 6 if number in words else 1
        done = attacker.run(*words, status=status)
        if status == 6:
            assert f"there is no operation {number}" in done.stderr
        elif status == 1:
            assert f"there is no app named {web.name}" in done.stderr
    said = git("ls-remote", attacker.url(web.name), environment=attacker.git_environment(), status=128)
    assert f"there is no app named {web.name}" in said
    for words in (("apps", "--json"), ("operation:list", "--json"), ("audit", "--json"), ("recover",)):
        assert web.name not in attacker.run(*words).stdout
        assert "recover" in words or web.name in door(guarded, kind, "operator").run(*words).stdout
    attacker.run("apps:create", f"evil-{web.name[4:]}-{kind[:1]}")


def test_a_deployer_cancels_what_is_theirs_only(guarded: Site, web: App, kind: str) -> None:
    """Not by cancelling, and not by superseding; an operator may do both. The refused ones are in the audit."""
    make_holdable(web)
    web.commit("one")
    operator, deployer, viewer = (door(guarded, kind, each) for each in ("operator", "deployer", "viewer"))
    with holding(web, "build", "one") as hold, web.pushing(operator) as push:
        number = push.operation()
        hold.reached(push)
        for refused in (deployer, viewer):
            refused.run("operation:cancel", str(number), status=5)
        door(guarded, kind, "attacker").run("operation:cancel", str(number), status=6)
        web.commit("two")
        said = web.push(deployer, "-o", "on-busy=supersede", "main", status=1)
        assert "that needs the role operator" in said
        assert guarded.operation(number)["state"] == "running"
        operator.run("operation:cancel", str(number), "--no-wait")
        push.finish()
    web.commit("three")
    with holding(web, "build", "three") as hold, web.pushing(deployer) as push:
        number = push.operation()
        hold.reached(push)
        viewer.run("operation:cancel", str(number), status=5)
        deployer.run("operation:cancel", str(number), "--reason", "mine")
        assert "cancelled by deployer (mine)" in push.finish()
    denied = [each for each in guarded.json("audit", "--app", web.name) if each["verdict"] == "denied"]
    assert {"deployer", "viewer", "attacker"} == {each["by"] for each in denied}
    assert {"127.0.0.1"} == {each["address"] for each in denied}


@pytest.mark.parametrize(
    "extra", ['[roles]\ndeployer = "admin"\n', 'role = "admin"\n', '[[grants]]\nkey = "deployer"\n']
)
def test_pushed_settings_give_no_rights(guarded: Site, web: App, extra: str) -> None:
    """What safepoint.toml does not know, it refuses, and the key may do what it could before."""
    deployer = door(guarded, "embedded", "deployer")
    web.commit("one", {"safepoint.toml": extra + QUICK})
    assert "safepoint.toml" in web.push(deployer, status=1)
    deployer.run("config", web.name, status=5)
    deployer.run("keys", status=5)
    assert guarded.operations(web.name) == []


def test_rights_are_taken_away_at_once(guarded: Site, web: App, kind: str) -> None:
    """By an admin, over ssh, with a key that comes by standard input."""
    admin, name = door(guarded, kind, "admin"), f"intern-{uuid.uuid4().hex[:6]}"
    public = guarded.place.make_key(name).with_name(f"{name}.pub")

    def keys(*words: str, text: str = "", status: int = 0) -> str:
        command = admin.command(*words)
        done = subprocess.run(
            command, input=text, env=own_environment(), capture_output=True, text=True, timeout=DEADLINE
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    keys("keys:add", name, str(public), status=2)  # a path would be one of the server's
    assert "deployer of web-*" in keys(
        "keys:add", name, "-", "--role", "deployer", "--app", "web-*", text=public.read_text()
    )
    intern = door(guarded, "embedded", name)  # sshd here reads its keys once
    assert web.name in intern.run("apps").stdout
    web.commit("one")
    web.push(intern)
    keys("keys:grant", name, "viewer", "--app", "web-*")
    web.commit("two")
    web.push(intern, status=128)
    assert "may now: nothing" in keys("keys:revoke", name)
    assert web.name not in intern.run("apps").stdout
    keys("keys:remove", name)
