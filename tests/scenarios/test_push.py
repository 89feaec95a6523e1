"""A push: what deploys, what is stored, what is refused and with which words. Over every door where that matters."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from conftest import door_of
from deploying import QUICK, App, Door, Site, wait_until
from holding import holding, make_holdable
from ssh.servers import git


@pytest.fixture
def local(shared_site: Site) -> Door:
    """The cheapest door, for what is the same over all of them."""
    return door_of(shared_site, "local")


@pytest.fixture
def embedded(shared_site: Site) -> Door:
    return door_of(shared_site, "embedded")


def refs(app: App) -> dict[str, str]:
    """Every ref on the server, with its commit."""
    listed = git("--git-dir", app.site.home.repository(app.name), "for-each-ref", "--format=%(refname) %(objectname)")
    return dict(line.split(" ") for line in listed.splitlines())


def test_push_deploys_and_the_branch_is_what_runs(app: App, door: Door) -> None:
    """The banner gives the ID and the cancel command; the push ends with 0, and what the branch says runs."""
    commit = app.commit("one")
    said = app.push(door)
    number = app.site.operations(app.name)[0]["id"]
    assert "remote: safepoint | Authorizing..." in said
    assert "remote: safepoint | Pressing CTRL + C now will NOT interrupt this deploy" in said
    assert f"remote: safepoint |     {door.cancel_command(number)}" in said
    assert f"operation {number} succeeded: {app.name} now runs v1" in said
    assert " * [new branch]      main -> main" in said
    assert app.site.get(app.name) == (200, "one")
    assert app.site.branch(app.name) == commit


def test_only_the_deploy_branch_deploys(app: App, door: Door) -> None:
    """Other branches and tags are stored, beside it or alone, and may be deleted. It may not."""
    one = app.commit("one")
    assert "now runs v1" in app.push(door, "main", "main:topic", "main:refs/tags/v1.0")
    assert refs(app) == {"refs/heads/main": one, "refs/heads/topic": one, "refs/tags/v1.0": one}

    two = app.commit("two")
    assert "remote: safepoint | Stored; only main is deployed" in app.push(door, "main:topic", "main:refs/tags/v2.0")
    assert refs(app)["refs/heads/topic"] == refs(app)["refs/tags/v2.0"] == two

    said = app.push(door, ":main", ":topic", status=1)
    assert f" ! [remote rejected] main (main is what {app.name} runs and cannot be deleted)" in said
    assert f"to remove the app: `apps:destroy {app.name}`" in said
    assert refs(app) == {"refs/heads/main": one, "refs/tags/v1.0": one, "refs/tags/v2.0": two}
    assert "Stored" not in app.push(door, ":refs/tags/v2.0")
    assert app.site.get(app.name) == (200, "one")
    assert len(app.site.operations(app.name)) == 1


def test_another_branch_may_be_the_deploy_branch(shared_site: Site, app: App, local: Door) -> None:
    """As it was said when the app was made."""
    shared_site.run("apps:destroy", app.name, "--yes")
    shared_site.run("apps:create", app.name, "--branch", "live/eu")
    app.commit("one")
    assert "Stored; only live/eu is deployed" in app.push(local, "main")
    assert "now runs v1" in app.push(local, "main:live/eu")
    assert app.site.get(app.name) == (200, "one")


def test_history_that_was_written_anew(app: App, local: Door) -> None:
    """Nobody but the client minds: with --force it is deployed."""
    app.commit("one")
    app.push(local)
    git("-C", app.tree, "commit", "-q", "--amend", "-m", "anew")
    assert " ! [rejected]        main -> main (non-fast-forward)" in app.push(local, status=1)
    commit = app.commit("two")
    assert "(forced update)" in app.push(local, "main", "--force")
    assert app.site.branch(app.name) == commit
    assert app.site.get(app.name) == (200, "two")


def test_a_second_push_while_an_operation_runs(app: App, door: Door) -> None:
    """Where the app rejects it, at once, with the running ID and how to cancel that. What else it brings is stored."""
    app.site.run("apps:on-busy", app.name, "reject")
    make_holdable(app)
    app.commit("one")
    with holding(app, "build", "one") as hold, app.pushing(door) as first:
        number = first.operation()
        hold.reached(first)
        two = app.commit("two")
        said = app.push(door, "main", "main:topic", status=1)
        assert (
            f" ! [remote rejected] main -> main ({app.name} is busy: operation {number} is running (in build))" in said
        )
        assert f"remote: safepoint |     wait for it, or cancel it: {door.cancel_command(number)}" in said
        assert refs(app) == {"refs/heads/topic": two}
        assert [each["state"] for each in app.site.operations(app.name)] == ["running"]
        hold.let_go()
        assert "now runs v1" in first.finish()
    assert app.site.get(app.name) == (200, "one")


def test_a_push_that_knows_an_old_state(app: App, local: Door) -> None:
    """The branch has moved since the client looked: it has to fetch first."""
    one = app.commit("one")
    app.push(local)
    two = app.commit("two")
    app.push(local, "main:topic")
    zero = "0" * 40
    for old in (zero, two):
        said = receive_pack(app, f"{old} {one} refs/heads/main")
        assert "ng refs/heads/main main has moved since you looked" in said
    assert len(app.site.operations(app.name)) == 1


def receive_pack(app: App, command: str) -> str:
    """Git's answer to a client of our own, which says what no git would say. Brings an empty pack."""
    line = command.encode() + b"\0report-status"
    pack = subprocess.run(
        ["git", "pack-objects", "--stdout", "-q"], cwd=app.tree, input=b"", capture_output=True, check=True
    )
    done = subprocess.run(
        ["git", "receive-pack", app.site.home.repository(app.name)],
        input=b"%04x%b0000%b" % (len(line) + 4, line, pack.stdout),
        capture_output=True,
    )
    return (done.stdout + done.stderr).decode(errors="replace")


UNDEPLOYABLE = {
    "an empty tree": ({}, "the app does not say what to run"),
    "a key that nobody knows": (
        {"Procfile": "web: true", "safepoint.toml": '[health]\npath = "/"\ncolour = "red"\n'},
        "safepoint.toml line 3: colour is not a key of [health]; it has path, expect, interval, timeout",
    ),
    "no TOML": ({"Procfile": "web: true", "safepoint.toml": "[watch\n"}, "safepoint.toml is not valid TOML: "),
    "no Procfile": ({"Procfile": "web: true\nand so on\n"}, "Procfile line 2: expected a process type and a command"),
    "no JSON": ({"package.json": "{"}, "package.json is not valid JSON"),
    "no text": ({"Procfile": "web: \udcff"}, "Procfile is not UTF-8 text"),
    "nothing to run": ({"Procfile": "release: true"}, "the app does not say what to run"),
}


def test_an_app_that_cannot_be_deployed_is_refused_before_anything_begins(app: App, local: Door) -> None:
    """One sentence, on git's own line too, with the line of the file where there is one. There is no operation."""
    app.commit("one")
    for what, (files, reason) in UNDEPLOYABLE.items():
        git("-C", app.tree, "rm", "-rfq", "--ignore-unmatch", ".")
        for name, text in files.items():
            (app.tree / name).write_bytes(os.fsencode(text))
        git("-C", app.tree, "add", "-A")
        git("-C", app.tree, "commit", "-q", "--allow-empty", "-m", what)
        said = app.push(local, status=1)
        assert f"remote: safepoint | Refused: {reason}" in said, what
        assert f" ! [remote rejected] main -> main ({reason}" in said, what
    assert app.site.operations(app.name) == []
    assert refs(app) == {}


def test_a_commit_with_submodules(app: App, local: Door) -> None:
    """It is refused with a sentence: what is in them was not pushed."""
    commit = app.commit("one")
    git("-C", app.tree, "update-index", "--add", "--cacheinfo", f"160000,{commit},vendor/lib")
    git("-C", app.tree, "commit", "-q", "-m", "submodule")
    said = app.push(local, status=1)
    assert "the commit has submodules (vendor/lib), which are not deployed; commit their files instead" in said
    assert refs(app) == {}


def test_an_empty_repository_can_be_cloned(app: App, door: Door, tmp_path: Path) -> None:
    """As a new one anywhere."""
    said = git("clone", "-q", door.url(app.name), tmp_path / "clone", environment=door.git_environment())
    assert "You appear to have cloned an empty repository" in said


def test_a_tree_arrives_as_it_is(app: App, embedded: Door) -> None:
    """20,000 files, executables, symbolic links, and names that are neither UTF-8 nor nice."""
    files: dict[bytes, tuple[bytes, bytes]] = {
        b"many/%d/%d.txt" % (number % 100, number): (b"100644", b"%d\n" % number) for number in range(20_000)
    }
    files |= {
        b"run": (b"100755", b"#!/bin/sh\n"),
        b"link": (b"120000", b"many/0/0.txt"),
        b"outside": (b"120000", b"/etc/passwd"),
        b"dangling": (b"120000", b"no/such/place"),
        b"caf\xe9": (b"100644", b"latin-1\n"),
        b"-rf": (b"100644", b""),
        b"a b:c*?$(touch x)": (b"100755", b"\0\r\n\xff"),
    }
    app.commit("one")
    stream = [b"commit refs/heads/main\ncommitter T <t@localhost> 1700000000 +0000\ndata 0\nfrom refs/heads/main^0\n"]
    stream += [b"M %b inline %b\ndata %d\n%b\n" % (m, name, len(data), data) for name, (m, data) in files.items()]
    subprocess.run(["git", "-C", app.tree, "fast-import", "--quiet"], input=b"".join(stream), check=True)

    app.push(embedded)

    release = os.fsencode(app.site.home.release(app.name, 1))
    assert {name: entry(os.path.join(release, name)) for name in files} == files  # noqa: PTH118  bytes
    assert sum(len(names) for _, _, names in os.walk(release)) == len(files) + 4, "and what every App has"


def entry(path: bytes) -> tuple[bytes, bytes]:
    """Git's mode of a file, and what is in it."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return b"120000", os.readlink(path)  # noqa: PTH115
    with open(path, "rb") as file:  # noqa: PTH123
        return b"100%03o" % (mode & 0o777), file.read()


def test_up_to_date_is_only_what_is_live(app: App, local: Door, outside: Path) -> None:
    """After a failure the same commit is pushed again, and deploys once what was in its way has gone."""
    mended = outside / "mended"
    app.site.run("config:set", app.name, f"MENDED={mended}")
    app.commit("one", {"safepoint.toml": QUICK + '[build]\ncommand = "test -e $MENDED"\n'})
    for _ in range(2):
        said = app.push(local, status=1)
        number = app.site.operations(app.name)[0]["id"]
        reason = f"operation {number} failed in build: `test -e $MENDED` exited with status 1; "
        assert f" ! [remote rejected] main -> main ({reason}{app.name} has no release, as before)" in said
    mended.touch()
    assert "now runs v1" in app.push(local)
    assert "Everything up-to-date" in app.push(local)
    assert len(app.site.operations(app.name)) == 3


def test_all_or_nothing(app: App, local: Door) -> None:
    """With --atomic, the other refs move if the release went live, and not if it did not."""
    app.commit("one", {"safepoint.toml": QUICK + '[build]\ncommand = "false"\n'})
    app.push(local, "--atomic", "main", "main:topic", status=1)
    assert refs(app) == {}
    commit = app.commit("two", {"safepoint.toml": QUICK})
    app.push(local, "--atomic", "main", "main:topic")
    assert refs(app) == {"refs/heads/main": commit, "refs/heads/topic": commit}


def test_a_push_option_that_nobody_knows(app: App, embedded: Door) -> None:
    """It is refused, escaped, with the list of those that there are."""
    app.commit("one")
    said = app.push(embedded, "main", "-o", "$(touch /tmp/x)\x1b[31m", status=1)
    assert r"there is no push option '$(touch /tmp/x)\x1b[31m'; there are: on-busy=queue" in said
    assert app.site.operations(app.name) == []


def test_hostile_names_of_refs(app: App, embedded: Door) -> None:
    """They are names. What would keep the deploy branch from being made is refused."""
    commit = app.commit("one")
    for name in ("main/below", "main/a/b", "refs/heads/main"):
        said = app.push(embedded, f"main:refs/heads/{name}", status=1)
        assert f"Refused: a ref 'refs/heads/{name}' would be in the way of main; choose another name" in said
    names = ["$(id)", "`id`;ls", "-rf", "MAIN", "caf\udce9", "refs/heads/main2", "a" * 200]
    app.push(embedded, *(f"main:refs/heads/{name}" for name in names))
    assert {os.fsdecode(ref) for ref in refs_as_bytes(app)} == {f"refs/heads/{name}" for name in names}
    assert app.site.operations(app.name) == []
    assert "now runs v1" in app.push(embedded)
    assert app.site.branch(app.name) == commit


def refs_as_bytes(app: App) -> list[bytes]:
    return subprocess.check_output(
        ["git", "--git-dir", app.site.home.repository(app.name), "for-each-ref", "--format=%(refname)"]
    ).splitlines()


def test_nobody_without_a_key_and_no_app_without_a_name(app: App, shared_site: Site) -> None:
    """A key that was removed gets in no more; an app that does not exist is a sentence."""
    name = f"carol-{app.name}"
    shared_site.place.add_key(name)
    carol = door_of(shared_site, "embedded", name)
    app.commit("one")
    app.push(carol, "main:topic")
    shared_site.run("keys:remove", name)
    assert "Permission denied (publickey)" in app.push(carol, "main:topic", status=128)
    # One that was removed while its push was under way.
    late = app.push(door_of(shared_site, "local"), status=1, environment={"SAFEPOINT_KEY": name})
    assert f"Refused: the key {name} has been removed from this server" in late
    for door in ("embedded", "openssh"):
        said = App(shared_site, "nosuchapp", app.tree).push(door_of(shared_site, door), status=128)
        assert "there is no app named nosuchapp" in said


def test_a_large_tree_begins_with_a_spare_one(app: App) -> None:
    """It is made once the deploy has ended, moved into the next release, and goes with its app."""
    door = door_of(app.site, "local")
    app.write({f"many/{number}.txt": f"{number}\n" for number in range(1_000)})
    spare = app.site.home.spare(app.name)
    commit = app.commit("one")
    app.push(door)
    wait_until((spare / commit).exists, "the spare tree is there")
    inode = (spare / commit / "many" / "7.txt").stat().st_ino
    app.commit("two", {"many/0.txt": "changed\n"})
    app.push(door)
    release = app.site.home.release(app.name, 2)
    assert (release / "many" / "7.txt").stat().st_ino == inode
    assert [(release / "many" / name).read_text() for name in ("0.txt", "1.txt")] == ["changed\n", "1\n"]
    assert app.site.get(app.name) == (200, "two")
    app.site.run("apps:destroy", app.name, "--yes")
    assert not app.site.home.app(app.name).exists()
