"""Git over both ssh servers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh.servers import DEADLINE, Place, Server, git, is_alive, kill, make_commit, wait_dead

from safepoint.core.doors import Door
from safepoint.ssh.requests import Request
from safepoint.ssh.sessions import prepare


@pytest.fixture
def web(place: Place) -> Path:
    return place.add_app("web")


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """For a Unix socket, whose path may have 107 bytes only."""
    path = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("suffix", ["", ".git"])
def test_what_is_pushed_can_be_cloned(server: Server, alice: Path, web: Path, tmp_path: Path, suffix: str) -> None:
    """There and back, with binary content, and what is new later is fetched."""
    environment = server.git_environment(alice)
    work, content = tmp_path / "work", os.urandom(3_000_000)
    first = make_commit(work, content)
    git("-C", work, "push", "-q", server.url("web") + suffix, "main", environment=environment)
    assert git("-C", web, "rev-parse", "main").strip() == first
    git("clone", "-q", server.url("web") + suffix, tmp_path / "copy", environment=environment)
    assert (tmp_path / "copy" / "file").read_bytes() == content
    second = make_commit(work, b"second")
    git("-C", work, "push", "-q", server.url("web") + suffix, "main:topic", environment=environment)
    git("-C", tmp_path / "copy", "fetch", "-q", environment=environment)
    assert git("-C", tmp_path / "copy", "rev-parse", "origin/topic").strip() == second


def test_the_short_form_of_an_address_works(server: Server, alice: Path, web: Path, tmp_path: Path) -> None:
    """`deploy@host:web`, as people type it; the port is in the ssh command here."""
    make_commit(tmp_path / "work", b"x")
    address = f"{server.user}@127.0.0.1:web"
    git("-C", tmp_path / "work", "push", "-q", address, "main", environment=server.git_environment(alice))
    assert git("-C", web, "branch", "--format=%(refname)").strip() == "refs/heads/main"


def test_git_speaks_its_second_protocol(server: Server, alice: Path, web: Path) -> None:
    """The one environment variable that a client may send goes through."""
    environment = {**server.git_environment(alice), "GIT_TRACE_PACKET": "1"}
    said = git("-c", "protocol.version=2", "ls-remote", server.url("web"), environment=environment)
    assert "version 2" in said


def test_an_app_that_does_not_exist(server: Server, alice: Path) -> None:
    """One sentence, before anything is sent."""
    said = git("ls-remote", server.url("nope"), environment=server.git_environment(alice), status=128)
    assert "safepoint: there is no app named nope" in said
    assert "Traceback" not in said


def test_a_key_that_is_not_known(server: Server, place: Place, web: Path) -> None:
    """ssh says that the key was not accepted; nothing of Safepoint's is reached."""
    mallory = place.make_key("mallory")
    said = git("ls-remote", server.url("web"), environment=server.git_environment(mallory), status=128)
    assert "Permission denied (publickey)" in said


def test_a_key_that_was_removed(server: Server, place: Place, alice: Path, web: Path, short_directory: Path) -> None:
    """It is refused from that moment on, over a connection that is open already too, and an old authorized_keys."""
    options = ("-o", f"ControlPath={short_directory / 'socket'}")
    ready = ("-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo ready")
    master = server.command(alice, options=("-M", "-N", *ready, *options))
    with subprocess.Popen(master, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as open_connection:
        assert open_connection.stdout is not None
        assert open_connection.stdout.readline() == b"ready\n"
        assert server.ssh(alice, "git-upload-pack web", options=options, stdin=b"0000").returncode == 0
        place.remove_key("alice")
        refused = server.ssh(alice, "git-upload-pack web", options=options, stdin=b"0000")
        assert refused.returncode == 5
        assert b"has been removed from this server" in refused.stderr
        again = server.ssh(alice, "git-upload-pack web", stdin=b"0000")
        assert again.returncode in {5, 255}
        assert again.stdout == b""
        open_connection.terminate()


def test_git_gets_a_clean_environment(place: Place) -> None:
    """Nothing of the server's own environment, and nothing of the client's but a protocol version."""
    place.add_key("alice")
    repository = place.add_app("web")
    own = {"PATH": "/bin", "GIT_DIR": "/x", "GIT_PROTOCOL": "version=2:evil", "LD_PRELOAD": "/x", "SECRET": "x"}
    session = prepare(Request("alice", "git-receive-pack", "web"), place.home, Door.ssh("git", "::1", 22), own)
    assert session.argv == ("git", "receive-pack", str(repository))
    assert dict(session.environment) == {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "SAFEPOINT_HOME": str(place.home.root),
        "SAFEPOINT_KEY": "alice",
        "SAFEPOINT_DOOR": "ssh git ::1 22",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": str(repository),
    }


HOSTILE = [
    ("git-receive-pack '../../etc'", 2),
    ("git-receive-pack '/etc'", 1),
    ("git-receive-pack 'web'; id", 2),
    ("git-upload-pack 'web'\nid", 2),
    ("git-upload-archive 'web'", 2),
    ("; id", 2),
    ("$(id)", 2),
    ("`id`", 2),
    ("id\nid", 2),
    ("'", 2),
    ("apps --home /tmp", 5),
    ("keys", 5),
    ("serve", 5),
    ("shell bob", 5),
    ("\x1b]0;owned\x07", 2),
    ("x" * 9000, 2),
]


def test_a_hostile_command_gets_a_sentence(server: Server, alice: Path, web: Path) -> None:
    """No output of a command, no traceback, no escape sequence, and the documented exit status."""
    for command, status in HOSTILE:
        done = server.ssh(alice, command)
        said = done.stderr.decode()
        assert (done.returncode, done.stdout) == (status, b""), command
        assert said.startswith("safepoint: ")
        assert all(line.isprintable() for line in said.splitlines())
        assert len(said.splitlines()) <= 2
        assert "uid=" not in said


def test_a_command_that_is_not_utf8_gets_a_sentence(server: Server, alice: Path) -> None:
    """The bytes are not decoded as something else."""
    done = server.ssh(alice, os.fsdecode(b"apps \xff\xfe"))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"safepoint: that command is not UTF-8\n"


def test_there_is_no_shell(server: Server, alice: Path) -> None:
    """Whoever just tries `ssh host` reads that the key is right."""
    done = server.ssh(alice)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"safepoint: Hi alice! You have authenticated, and there is no shell here\n")


def test_there_is_no_terminal(server: Server, alice: Path) -> None:
    """From a terminal ssh asks for one; it says that there is none, and goes on."""
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(server.command(alice), stdin=theirs, capture_output=True, timeout=DEADLINE)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"PTY allocation request failed" in done.stderr
    assert b"Hi alice!" in done.stderr


def test_an_operators_verb_reaches_the_command_line(server: Server, alice: Path, web: Path) -> None:
    """`apps` is answered, and the exit status of what is wrong comes through."""
    done = server.ssh(alice, "apps --json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"web"' in done.stdout
    assert server.ssh(alice, "operation:show 999").returncode == 6
    assert server.ssh(alice, "operation:show").returncode == 2


def test_nothing_is_forwarded(server: Server, alice: Path) -> None:
    """No tunnels in either direction, and no sftp."""
    direct = server.ssh(alice, options=("-W", "127.0.0.1:22"))
    remote = server.ssh(alice, options=("-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22"))
    sftp = server.ssh(alice, "sftp", options=("-s",))
    assert (direct.returncode, remote.returncode) == (255, 255)
    assert sftp.returncode != 0
    assert (direct.stdout, remote.stdout, sftp.stdout) == (b"", b"", b"")


HOOK = """#!/bin/sh
echo $$ $PPID >{report}
setsid sh -c 'echo $$ >{report}; exec sleep 1000' </dev/null >/dev/null 2>&1 &
exec {act}
"""


@pytest.mark.parametrize("act", ["sleep 1000", "yes >&2"], ids=["silent", "talking"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_push_whose_client_is_lost(server: Server, alice: Path, web: Path, how: signal.Signals, act: str) -> None:
    """receive-pack and the hook under it end, silent or stuck in writing; what the hook has detached lives on."""
    report, work = server.place.directory / "report", server.place.directory / "work"
    os.mkfifo(report)
    hook = web / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOOK.format(report=report, act=act))
    hook.chmod(0o755)
    make_commit(work, os.urandom(100_000))
    command = ["git", "-C", str(work), "push", server.url("web"), "main"]
    environment = server.git_environment(alice)
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0
    ) as push:
        assert push.stderr is not None
        with report.open() as reader, report.open("w"):
            hook_pid, receive_pack = map(int, reader.readline().split())
            worker = int(reader.readline())
        try:
            if act != "sleep 1000":
                push.stderr.read(1)
            os.killpg(push.pid, how)
            push.wait(DEADLINE)
            wait_dead(receive_pack)
            wait_dead(hook_pid)
            assert is_alive(worker)
        finally:
            kill(worker)
    assert git("-C", web, "for-each-ref") == ""
