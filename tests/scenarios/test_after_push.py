"""A repository that is hosted elsewhere: its pushes deploy and do not wait, and its branch moves whatever happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from deploying import QUICK, SAFEPOINT, App, Door, Site, own_environment, world
from ssh.servers import DEADLINE, USER, git, sshd

from safepoint.state.store import Store

HELD = '[build]\ncommand = "echo held; cat {gate} >/dev/null"\n' + QUICK


@dataclass(frozen=True)
class Elsewhere(Door):
    """The repository, by its path or by somebody else's sshd."""

    path: Path = Path()
    port: int = 0

    def url(self, app: str) -> str:
        return f"ssh://{USER}@127.0.0.1:{self.port}{self.path}" if self.port else str(self.path)

    @property
    def commit(self) -> str:
        return git("--git-dir", self.path, "for-each-ref", "--format=%(objectname)", "refs/heads/main").strip()


@pytest.fixture
def bare(shared_site: Site, app: App) -> Elsewhere:
    """Without Safepoint's hooks."""
    path = app.tree.with_name("elsewhere.git")
    git("init", "-q", "--bare", "-b", "main", path)
    git("--git-dir", path, "config", "receive.advertisePushOptions", "true")
    return Elsewhere("local", shared_site, shared_site.place.directory / "alice", path)


@pytest.fixture
def elsewhere(app: App, bare: Elsewhere) -> Elsewhere:
    done = app.site.run("hooks:install", str(bare.path), "--app", app.name)
    assert done.stdout == f"Installed; a push of main to {bare.path} deploys {app.name}\n"
    return bare


@pytest.fixture
def gate(outside: Path) -> Path:
    """A build that has said `held` goes on when somebody writes here."""
    path = outside / "gate"
    os.mkfifo(path)
    return path


def printed(said: str, verb: str) -> list[str]:
    """The command of Safepoint's with this verb that a terminal shows."""
    found = re.search(rf"safepoint (--home .* {verb} \d+)", said)
    assert found, said
    return shlex.split(found[1])


def operation(said: str) -> int:
    found = re.search(r"\(operation (\d+):", said)
    assert found, said
    return int(found[1])


def retry(app: App, said: str) -> str:
    """The command that tries again, run as it is shown; what it said."""
    found = re.search(r"`(deploy .*)`", said)
    assert found, said
    return app.site.run(*shlex.split(found[1])).stdout


def test_the_push_does_not_wait(app: App, elsewhere: Elsewhere, gate: Path) -> None:
    """It ends with 0 while the build is held. The commands of its banner work, and the rest is as with any push."""
    commit = app.commit("one", {"safepoint.toml": HELD.format(gate=gate)})
    said = app.push(elsewhere)
    number = operation(said)
    assert "This push does not wait for the deploy" in said
    assert elsewhere.commit == commit
    assert app.site.branch(app.name) == ""
    assert app.site.operation(number)["door"] == "after-push"
    follow = [*SAFEPOINT, *printed(said, "operation:follow")]
    with subprocess.Popen(follow, env=own_environment(), stdout=subprocess.PIPE, text=True) as following:
        gate.write_text("go")
        told, _ = following.communicate(timeout=DEADLINE)
    assert following.returncode == 0
    assert f"operation {number} succeeded: {app.name} now runs v1" in told
    assert "try" not in told
    assert app.site.get(app.name) == (200, "one")
    assert app.site.branch(app.name) == commit


def test_a_deploy_that_fails_can_be_tried_again(app: App, elsewhere: Elsewhere, outside: Path) -> None:
    """The branch has moved, a push would change nothing; the command of the closing lines deploys it."""
    mended = outside / "mended"
    app.site.run("config:set", app.name, f"MENDED={mended}")
    commit = app.commit("one", {"safepoint.toml": QUICK + '[build]\ncommand = "test -e $MENDED"\n'})
    number = operation(app.push(elsewhere))
    told = app.site.run("operation:follow", str(number), status=1).stdout
    assert f"operation {number} failed in build" in told
    assert f"main has moved all the same; to try {commit[:8]} again: `deploy {app.name} {commit}`" in told
    assert elsewhere.commit == commit
    assert app.site.branch(app.name) == ""
    assert "Everything up-to-date" in app.push(elsewhere)
    mended.touch()
    assert "now runs v1" in retry(app, told)
    assert app.site.get(app.name) == (200, "one")
    assert app.site.branch(app.name) == commit


def test_a_deploy_that_is_cancelled(app: App, elsewhere: Elsewhere, gate: Path) -> None:
    """By the banner's command. All is as before but the branch elsewhere, and the command that tries again is given."""
    app.commit("one")
    app.site.wait_ended(operation(app.push(elsewhere)))
    before = world(app)
    commit = app.commit("two", {"safepoint.toml": HELD.format(gate=gate)})
    said = app.push(elsewhere)
    done = subprocess.run(
        [*SAFEPOINT, *printed(said, "operation:cancel")], env=own_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"`deploy {app.name} {commit}`" in done.stdout
    assert world(app) == before
    assert elsewhere.commit == commit
    third = app.commit("three", {"safepoint.toml": QUICK})
    app.site.wait_ended(operation(app.push(elsewhere)))
    assert app.site.get(app.name) == (200, "three")
    assert app.site.branch(app.name) == third


def test_an_app_that_is_busy(app: App, elsewhere: Elsewhere, gate: Path) -> None:
    """A push waits for its turn, or is refused with the running ID before its branch moves, as it or the app says."""
    one = app.commit("one", {"safepoint.toml": HELD.format(gate=gate)})
    first = operation(app.push(elsewhere))
    two = app.commit("two", {"safepoint.toml": QUICK})
    said = app.push(elsewhere, "main", "-o", "on-busy=reject", status=1)
    assert f"Refused: {app.name} is busy: operation {first} is running" in said
    assert f"operation:cancel {first}" in said
    assert elsewhere.commit == one
    app.site.run("apps:on-busy", app.name, "reject")
    assert f"busy: operation {first}" in app.push(elsewhere, status=1)
    said = app.push(elsewhere, "main", "-o", "on-busy=queue", "-o", "reason=at last", "-o", "of=the-host")
    second = operation(said)
    assert f"Queued: {app.name} is busy with operation {first}; operation {second} waits for its turn" in said
    assert elsewhere.commit == two
    gate.write_text("go")
    ended = app.site.wait_ended(second)
    assert (ended["state"], ended["reason"]) == ("succeeded", "at last")
    assert app.site.get(app.name) == (200, "two")


def test_a_client_that_leaves(app: App, bare: Elsewhere, gate: Path) -> None:
    """Ctrl-C while the host's own post-receive goes on: the deploy has begun before that, and goes on."""
    hook = bare.path / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho host; cat {shlex.quote(str(gate))} >/dev/null\n")
    hook.chmod(0o755)
    app.site.run("hooks:install", str(bare.path), "--app", app.name)
    app.commit("one")
    with app.pushing(bare) as push:
        push.read_until("remote: host")
        number = push.operation()
        push.interrupt()
        push.process.wait(DEADLINE)
    assert app.site.wait_ended(number)["state"] == "succeeded"
    assert app.site.get(app.name) == (200, "one")


def test_what_was_there_can_be_deployed_and_hooks_come_out_again(app: App, bare: Elsewhere) -> None:
    """Installing names the commit that the branch has. After the removal a push is a push."""
    commit = app.commit("one")
    app.push(bare)
    for _ in range(2):
        told = app.site.run("hooks:install", str(bare.path), "--app", app.name).stdout
        assert f"main has {commit[:8]} already; to deploy it: `deploy {app.name} {commit}`" in told
    assert "now runs v1" in retry(app, told)
    assert "main has" not in app.site.run("hooks:install", str(bare.path), "--app", app.name).stdout
    assert app.site.run("hooks:remove", str(bare.path)).stdout == (
        f"Removed; pushes to {bare.path} deploy {app.name} no more\n"
    )
    assert app.site.run("hooks:remove", str(bare.path)).stdout == f"There are no hooks of Safepoint in {bare.path}\n"
    two = app.commit("two")
    assert "safepoint" not in app.push(bare)
    assert bare.commit == two
    assert app.site.get(app.name) == (200, "one")


def test_wrong_words(app: App, elsewhere: Elsewhere) -> None:
    """Each is one sentence."""
    install = ("hooks:install", str(elsewhere.path), "--app")
    assert "there is no app named nosuchapp" in app.site.run(*install, "nosuchapp", status=1).stderr
    app.site.run("apps:create", f"{app.name}-b")
    assert f"deploy {app.name} of" in app.site.run(*install, f"{app.name}-b", status=1).stderr
    assert "is no name for a variable" in app.site.run(*install, app.name, "--key-variable", "$(id)", status=2).stderr
    assert "there is no repository /nonexistent" in app.site.run("hooks:remove", "/nonexistent", status=1).stderr
    over_ssh = Door("embedded", app.site, app.site.place.directory / "alice")
    assert "not for ssh" in over_ssh.run("hooks:remove", str(elsewhere.path), status=5).stderr


def test_over_somebody_elses_ssh(app: App, bare: Elsewhere, shared_site: Site, tmp_path: Path) -> None:
    """Where the host names the pusher, it has to be a key of this server that may deploy; and that is who it was."""
    app.site.run("hooks:install", str(bare.path), "--app", app.name, "--key-variable", "GL_USER")
    bob = f"bob-{app.name}"
    shared_site.place.add_key(bob)
    commit = app.commit("one")
    with hosting(shared_site, tmp_path, "alice") as port:
        said = app.push(Elsewhere("local", shared_site, bare.key, bare.path, port))
    ended = app.site.wait_ended(operation(said))
    assert (ended["state"], ended["by"], ended["door"]) == ("succeeded", "alice", "after-push")
    with Store.open(shared_site.home) as store:
        assert store.operation(ended["id"]).header.door == "after-push 127.0.0.1"
    assert app.site.branch(app.name) == commit
    app.commit("two")
    for name, sentence in {
        "nobody": "'nobody' is no key of this server",
        "": "GL_USER does not say who pushes",
        "$(id)\x1b[31m": "GL_USER does not say who pushes",
    }.items():
        assert f"Refused: {sentence}" in app.push(bare, status=1, environment={"GL_USER": name})
    assert "Refused: GL_USER does not say who pushes" in app.push(
        bare, status=1, environment={"SAFEPOINT_KEY": "alice"}
    )
    app.site.run("keys:revoke", bob)
    app.site.run("keys:grant", bob, "viewer")
    assert f"{bob} may not do git-receive-pack" in app.push(bare, status=1, environment={"GL_USER": bob})
    assert bare.commit == commit
    assert "safepoint" not in app.push(bare, "main:topic", environment={"GL_USER": "nobody"})


@contextmanager
def hosting(site: Site, directory: Path, name: str) -> Iterator[int]:
    """An sshd whose forced command does as gitolite: it says in the environment who somebody is, and runs git."""
    public = (site.place.directory / "alice.pub").read_text()
    keys = directory / "host_keys"
    keys.write_text(f'command="GL_USER={name} sh -c \\"$SSH_ORIGINAL_COMMAND\\"" {public}')
    host_key = directory / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key], check=True, timeout=DEADLINE)
    with sshd(directory, host_key, f"AuthorizedKeysFile {keys}\n") as port:
        yield port
