"""Whoever has a way in sends what nobody should: each gets one sentence, and who deploys meanwhile notices nothing."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from conftest import door_of
from deploying import App, own_environment
from fuzz.targets import CORPUS
from holding import holding, make_holdable
from ssh.servers import DEADLINE

from safepoint.state.paths import short

COMMANDS = sorted((CORPUS / "command_line").iterdir())


@pytest.mark.parametrize("name", ["embedded", "openssh"])
def test_hostile_commands_over_ssh(app: App, name: str) -> None:
    """Over both doors, with a real client: no traceback, no escape sequence, nothing that needs a look at the log."""
    door = door_of(app.site, name)
    for path in COMMANDS:
        line = path.read_bytes().partition(b"\0")[0]
        if not line.strip() or b"receive-pack" in line or b"upload-pack" in line:
            continue
        command: list[str | bytes] = [*door.command()[:-1], "--", line]
        done = subprocess.run(command, env=own_environment(), input=b"", capture_output=True, timeout=DEADLINE)
        said = (done.stdout + done.stderr).decode()
        assert "Traceback" not in said
        assert "internal error" not in said
        assert all(part.isprintable() for part in said.split("\n")), (line, said)
        assert done.returncode in (0, 1, 2, 3, 5, 6), (line, said)


def flood(app: App, number: int, stack: ExitStack) -> None:
    """Everything that a client of a control socket should not do."""
    dice = random.Random(1)
    frame = b'{"verb": "follow", "operation": %d}\n' % number
    wrong = [
        *(
            b"\0" * 100_000,
            b"\n" * 100_000,
            b"[" * 70_000 + b"\n",
            frame * 2000,
            b"GET / HTTP/1.1\r\n\r\n",
            b"{}\n" * 5000,
        ),
        b'{"verb": "cancel", "operation": %d, "by": 1}\n' % number,
        b'{"verb": "cancel", "operation": %d, "by": "a", "requested": NaN}\n' % number,
        b'{"verb": "signal", "operation": %d}\n{"verb": "detached", "operation": %d}\n' % (number, number),
        *(dice.randbytes(2000) for _ in range(20)),
        *(frame[:at] for at in range(0, len(frame), 7)),  # and never the rest
    ]
    for data in [*wrong, *[b""] * 250]:
        client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        client.settimeout(0.2)  # it reads as fast as it can; who is refused, or full, is let be
        with short(app.site.home.control_socket(app.name)) as address, suppress(OSError):
            client.connect(address)
            client.sendall(data)


def test_a_deploy_does_not_notice_a_hostile_client_of_its_socket(app: App) -> None:
    """Garbage, halves, floods, and more connections than it takes: it can be looked at, and goes live."""
    make_holdable(app)
    app.commit("one")
    door = door_of(app.site, "local")
    with holding(app, "build", "one") as hold, app.pushing(door) as push, ExitStack() as stack:
        hold.reached(push)
        number = push.operation()
        flood(app, number, stack)
        assert app.site.operation(number)["state"] == "running"
        app.site.run("operation:cancel", str(number), "--dry-run")
        hold.let_go()
        said = push.finish()
    assert push.process.returncode == 0, said
    assert app.site.operation(number)["state"] == "succeeded"
    assert [entry["verdict"] for entry in app.site.operation(number)["audit"]] == ["begun", "succeeded"]


def test_a_cancel_gets_through_a_crowd_at_the_socket(app: App) -> None:
    """Whoever takes all the connections keeps nobody from cancelling."""
    make_holdable(app)
    app.commit("one")
    door = door_of(app.site, "local")
    with holding(app, "build", "one") as hold, app.pushing(door) as push, ExitStack() as stack:
        hold.reached(push)
        flood(app, push.operation(), stack)
        app.site.run("operation:cancel", str(push.operation()))
        push.finish()
    assert app.site.operation(push.operation())["state"] == "cancelled"


ZERO, ID = b"0" * 40, b"1" * 40
STDIN = {
    "pre-receive": [
        *(b"\xff\xfe\0", b"x" * 100_000, b"%s %s refs/heads/main" % (ZERO, ID) + b" x", b"\n\n", b"a b c\n"),
        b"%s %s refs/heads/main/../../x\n" % (ZERO, b"1" * 39),
        b"%s %s refs/heads/\x1b[31m\n" % (ZERO, ID),
    ],
    "proc-receive": [b"", b"\xff" * 100, b"0000", b"0009vers", b"000fversion=2\n0000", b"ffff" + b"x" * 70_000],
}


@pytest.mark.parametrize("hook", STDIN)
def test_hooks_run_by_hand_refuse_garbage(app: App, hook: str) -> None:
    """One sentence, a status that refuses, and nothing in the log."""
    log = app.site.home.log
    before = log.read_bytes() if log.exists() else b""
    repository = app.site.home.repository(app.name)
    for data in STDIN[hook]:
        done = subprocess.run(
            [app.site.home.hooks / hook],
            cwd=repository,
            env=own_environment() | {"GIT_DIR": "."},
            input=data,
            capture_output=True,
            timeout=DEADLINE,
        )
        said = done.stderr.decode().removeprefix("safepoint | Authorizing...\n")
        assert done.returncode == 1, (data[:80], said)
        assert said.startswith("safepoint | Refused: ")
        assert said.endswith("\n")
        assert said[:-1].isprintable()
    assert app.site.operations(app.name) == []
    assert b"internal error" not in (log.read_bytes() if log.exists() else b"")[len(before) :]


def test_options_of_a_hook_run_by_hand_are_bounded(app: App) -> None:
    """A number with zeros before it was a thousand million options once."""
    done = subprocess.run(
        [app.site.home.hooks / "pre-receive"],
        cwd=app.site.home.repository(app.name),
        env=own_environment() | {"GIT_DIR": ".", "GIT_PUSH_OPTION_COUNT": "000000999999999"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 1
    assert done.stderr == b"safepoint | Refused: there are too many push options\n"


def test_a_home_that_others_can_get_at_is_not_served(tmp_path: Path) -> None:
    """It says which, and what to do; that others may pass through is no harm."""
    from deploying import Site
    from ssh.servers import Place

    place = Place(tmp_path)
    site = Site(place)
    for path, mode, allowed in (
        (place.home.root, 0o755, 0o711),
        (place.home.root, 0o730, 0o700),
        (place.home.database, 0o640, 0o600),
    ):
        path.chmod(mode)
        said = site.run("serve", "--ssh-port", "0", "--http-port", "0", status=1).stderr
        assert said == f"safepoint: others can get at {path}\n    chmod go= {path}\n"
        path.chmod(allowed)
        place.home.check_private()
    assert os.listdir(place.home.run) == []  # noqa: PTH208
