"""What OpenSSH needs of us: lines of authorized_keys, an AuthorizedKeysCommand, and a forced command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ssh.servers import DEADLINE, USER, Place, Server, sshd

from safepoint.core.keys import Key
from safepoint.errors import UserError
from safepoint.ssh.authorized_keys import lines, select
from safepoint.state.store import Store

ALICE = Key("alice", "ssh-ed25519", b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + bytes(32), 0.0)
BOB = Key("bob", "ssh-ed25519", b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + b"\x01" * 32, 0.0)


def test_a_line_restricts_its_key_to_the_forced_command() -> None:
    """As sshd(8) has it: no pty, no forwarding, no file of commands."""
    assert lines([ALICE], ["/usr/bin/safepoint", "--home", "/srv/safepoint"]) == (
        f'restrict,command="/usr/bin/safepoint --home /srv/safepoint shell alice" {ALICE.line}\n'
    )


def test_a_path_with_a_line_break_is_refused() -> None:
    """It could add a line of its own."""
    with pytest.raises(UserError, match="line break"):
        lines([ALICE], ["/srv/x\nssh-ed25519 AAAA"])


def test_sshd_asks_for_one_key_or_for_all() -> None:
    """By %t %k, %k or %f; without an argument the whole file is written."""
    text = BOB.line.split()[1]
    assert select([ALICE, BOB], []) == [ALICE, BOB]
    assert select([ALICE, BOB], [BOB.type, text]) == [BOB]
    assert select([ALICE, BOB], [text]) == [BOB]
    assert select([ALICE, BOB], [BOB.fingerprint]) == [BOB]
    assert select([ALICE, BOB], ["SHA256:x"]) == []


@pytest.mark.parametrize(
    "name", ["plain", "with space", 'quo"te', "back\\slash", 'back\\"both', "it's", "$(id)", "a%b,c"]
)
def test_any_path_is_quoted_as_sshd_reads_it(tmp_path: Path, name: str) -> None:
    """The words reach the command exactly, through sshd's own quoting and the shell's."""
    place = Place(tmp_path)
    key = place.add_key("alice")
    program = tmp_path / name
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@" "$SSH_ORIGINAL_COMMAND"\n')
    program.chmod(0o755)
    authorized = tmp_path / "authorized_keys"
    with Store.open(place.home) as store:
        authorized.write_text(lines(store.keys(), [str(program), name]))
    with sshd(tmp_path, place.make_key("host_key"), f"AuthorizedKeysFile {authorized}\n") as port:
        done = Server(place, USER, port).ssh(key, "the", "command")
    assert done.stdout.decode().splitlines() == [str(program), name, "shell", "alice", "the command"], done.stderr


def test_sshd_asks_safepoint_for_the_keys(place: Place, alice: Path) -> None:
    """With AuthorizedKeysCommand a key that is added or removed counts at once."""
    # env(1), since sshd insists that the program and every directory above it are root's.
    command = f"/usr/bin/env SAFEPOINT_HOME={place.home.root} {sys.executable} -I -m safepoint authorized-keys %t %k"
    configuration = f"AuthorizedKeysFile none\nAuthorizedKeysCommand {command}\nAuthorizedKeysCommandUser {USER}\n"
    directory = place.directory / "sshd"
    directory.mkdir()
    with sshd(directory, place.make_key("host_key"), configuration) as port:
        server = Server(place, USER, port)
        assert b"Hi alice!" in server.ssh(alice).stderr
        bob = place.make_key("bob")
        assert server.ssh(bob).returncode == 255
        bob = place.add_key("carol")
        assert b"Hi carol!" in server.ssh(bob).stderr
        place.remove_key("carol")
        assert server.ssh(bob).returncode == 255


def test_the_forced_command_imports_little(place: Place) -> None:
    """Each push waits for its start: none of the heavy libraries is in it."""
    place.add_key("alice")
    place.add_app("web")
    program = (
        "import sys; from safepoint.__main__ import main\n"
        f"sys.argv = ['safepoint', '--home', {str(place.home.root)!r}, 'shell', 'alice']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'click', 'structlog', 'paramiko', 'logging', 'asyncio'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "SSH_ORIGINAL_COMMAND": "git-upload-pack web", "SSH_CONNECTION": "::1 1 ::1 22"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, input=b"0000", capture_output=True, timeout=DEADLINE
    )
    assert done.stdout.endswith(b"0 []\n"), done.stderr


def test_a_forced_command_fails_closed(place: Place) -> None:
    """A defect is a sentence and a reference, not a traceback."""
    place.add_key("alice")
    place.home.database.write_bytes(b"not a database" * 1000)
    command = [sys.executable, "-I", "-m", "safepoint", "--home", str(place.home.root), "shell", "alice"]
    done = subprocess.run(
        command, env={**os.environ, "SSH_ORIGINAL_COMMAND": "apps"}, capture_output=True, timeout=DEADLINE
    )
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"safepoint: ")
    assert b"Traceback" not in done.stderr
