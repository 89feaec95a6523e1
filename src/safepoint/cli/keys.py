"""keys, keys:add, keys:remove, keys:grant, keys:revoke, and what OpenSSH needs: authorized-keys, shell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from safepoint import interpreter
from safepoint.cli.common import Session, command, json_option, print_json, print_table
from safepoint.cli.views import time_text
from safepoint.core.keys import parse_public_key
from safepoint.core.names import key_name
from safepoint.core.roles import EVERY_APP, Grant, Role, app_glob
from safepoint.errors import NotFound, UsageError
from safepoint.ssh import authorized_keys as openssh
from safepoint.ssh import shell as forced_command
from safepoint.state.store import Store

_ROLES = click.Choice([role.value for role in Role])
_role_option = click.option(
    "--role", type=_ROLES, default=Role.OPERATOR.value, show_default=True, help="What it may do."
)


@command("keys")
@json_option
def keys(session: Session, as_json: bool) -> None:
    """List the SSH keys, and what each may do."""
    with session.store() as store:
        held = store.keys()
        found = [(key, store.grants(key.name)) for key in held]
    if as_json:
        print_json(
            [
                {
                    "name": key.name,
                    "type": key.type,
                    "fingerprint": key.fingerprint,
                    "added": time_text(key.added),
                    "grants": [{"role": grant.role.value, "apps": grant.apps} for grant in grants],
                }
                for key, grants in found
            ]
        )
        return
    print_table(
        ("KEY", "TYPE", "FINGERPRINT", "MAY"), [(k.name, k.type, k.fingerprint, _may(grants)) for k, grants in found]
    )


@command("keys:add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@_role_option
@click.option("--app", "apps", default=EVERY_APP, metavar="GLOB", help="For which apps; without it, for all of them.")
def add(session: Session, name: str, file: Path, role: str, apps: str) -> None:
    """Let the owner of the public key in FILE (- for standard input) in, as NAME."""
    key_name(name)
    grant = Grant(Role(role), app_glob(apps))
    if session.visitor.key is not None and str(file) != "-":
        raise UsageError("over ssh the public key comes by standard input", f"`keys:add {name} -`, with < FILE.pub")
    try:
        text = sys.stdin.read(65536) if str(file) == "-" else file.read_text(errors="replace")[:65536]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    type_, blob = parse_public_key(text)
    with Store.create(session.home) as store:
        with store.transaction():
            store.add_key(name, type_, blob, grant)
            session.audit(store, f"keys:add {name} {grant.role} {grant.apps}")
        added = store.key(name)
    assert added is not None
    click.echo(f"Added {name} ({added.fingerprint}): {grant}")


@command("keys:remove")
@click.argument("name")
def remove(session: Session, name: str) -> None:
    """Take a key's rights away, at once."""
    with session.store() as store, store.transaction():
        store.remove_key(name)
        session.audit(store, f"keys:remove {name}")
    click.echo(f"Removed {name}")


@command("keys:grant")
@click.argument("name")
@click.argument("role", type=_ROLES)
@click.option("--app", "apps", default=EVERY_APP, metavar="GLOB", help="For which apps; without it, for all of them.")
def grant(session: Session, name: str, role: str, apps: str) -> None:
    """Give a key a role for the apps that GLOB matches, in the place of the one that it has for that GLOB."""
    granted = Grant(Role(role), app_glob(apps))
    key_name(name)
    with session.store() as store, store.transaction():
        store.grant(name, granted)
        session.audit(store, f"keys:grant {name} {granted.role} {granted.apps}")
        grants = store.grants(name)
    click.echo(f"{name} may now: {_may(grants)}")


@command("keys:revoke")
@click.argument("name")
@click.argument("role", type=_ROLES, required=False)
@click.option("--app", "apps", metavar="GLOB", help="Only what was granted for this GLOB.")
def revoke(session: Session, name: str, role: str | None, apps: str | None) -> None:
    """Take what was granted away from a key, at once: all of it, or only ROLE, or only for GLOB."""
    key_name(name)
    glob = None if apps is None else app_glob(apps)
    with session.store() as store, store.transaction():
        if not store.revoke(name, None if role is None else Role(role), glob):
            raise NotFound(f"{name} has no such grant", "`keys` lists them")
        session.audit(store, " ".join(("keys:revoke", name, *(text for text in (role, glob) if text))))
        grants = store.grants(name)
    click.echo(f"{name} may now: {_may(grants)}")


def _may(grants: Sequence[Grant]) -> str:
    return ", ".join(map(str, grants)) or "nothing"


@command("authorized-keys")
@click.argument("wanted", nargs=-1)
def authorized_keys(session: Session, wanted: tuple[str, ...]) -> None:
    """Print the keys for OpenSSH's authorized_keys, or for its AuthorizedKeysCommand.

    Each is bound to `safepoint shell`, and to nothing else. WANTED narrows them to a fingerprint (%f) or to a type
    and a key (%t %k).
    """
    with session.store() as store:
        found = openssh.select(store.keys(), wanted)
    program = interpreter.command("safepoint", "--home", str(session.home.root))
    click.echo(openssh.lines(found, program), nl=False)


@command("shell")
@click.argument("key")
def shell(session: Session, key: str) -> int:
    """The forced command of OpenSSH: serve one request of KEY's owner."""
    return forced_command.main(session.home, key)


COMMANDS = (keys, add, remove, grant, revoke, authorized_keys, shell)
