"""keys, keys:add, keys:remove, and what OpenSSH needs: authorized-keys, shell."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from safepoint.cli.common import Session, command, json_option, print_json, print_table
from safepoint.cli.views import time_text
from safepoint.core.keys import parse_public_key
from safepoint.core.names import key_name
from safepoint.errors import UsageError
from safepoint.ssh import authorized_keys as openssh
from safepoint.ssh import shell as forced_command
from safepoint.state.store import Store


@command("keys")
@json_option
def keys(session: Session, as_json: bool) -> None:
    """List the SSH keys that may push."""
    with session.store() as store:
        found = store.keys()
    if as_json:
        print_json(
            [{"name": k.name, "type": k.type, "fingerprint": k.fingerprint, "added": time_text(k.added)} for k in found]
        )
        return
    print_table(("KEY", "TYPE", "FINGERPRINT"), [(k.name, k.type, k.fingerprint) for k in found])


@command("keys:add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
def add(session: Session, name: str, file: Path) -> None:
    """Let the owner of the public key in FILE (- for standard input) push, as NAME."""
    key_name(name)
    try:
        text = sys.stdin.read(65536) if str(file) == "-" else file.read_text(errors="replace")[:65536]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    type_, blob = parse_public_key(text)
    with Store.create(session.home) as store:
        store.add_key(name, type_, blob)
        added = store.key(name)
    assert added is not None
    click.echo(f"Added {name} ({added.fingerprint})")


@command("keys:remove")
@click.argument("name")
def remove(session: Session, name: str) -> None:
    """Take a key's rights away, at once."""
    with session.store() as store:
        store.remove_key(name)
    click.echo(f"Removed {name}")


@command("authorized-keys")
@click.argument("wanted", nargs=-1)
def authorized_keys(session: Session, wanted: tuple[str, ...]) -> None:
    """Print the keys for OpenSSH's authorized_keys, or for its AuthorizedKeysCommand.

    Each is bound to `safepoint shell`, and to nothing else. WANTED narrows them to a fingerprint (%f) or to a type
    and a key (%t %k).
    """
    with session.store() as store:
        found = openssh.select(store.keys(), wanted)
    program = (sys.executable, "-I", "-m", "safepoint", "--home", str(session.home.root))
    click.echo(openssh.lines(found, program), nl=False)


@command("shell")
@click.argument("key")
def shell(session: Session, key: str) -> int:
    """The forced command of OpenSSH: serve one request of KEY's owner."""
    return forced_command.main(session.home, key)


COMMANDS = (keys, add, remove, authorized_keys, shell)
