"""config, config:set, config:unset."""

from __future__ import annotations

import re

import click

from safepoint.cli.common import Session, command, json_option, print_json
from safepoint.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
_RESERVED = ("PORT", "SAFEPOINT_")
MAX_VALUE = 64 * 1024


@command("config")
@click.argument("app")
@json_option
def config(session: Session, app: str, as_json: bool) -> None:
    """Show an app's configuration: the environment of its next release."""
    with session.store() as store:
        found = store.config(store.need_app(app).name)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name}={value}")


@command("config:set")
@click.argument("app")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
def set_(session: Session, app: str, settings: tuple[str, ...]) -> None:
    """Set configuration for the next release."""
    changes = dict(_parse(setting) for setting in settings)
    _change(session, app, "config:set", changes)
    click.echo(f"Set {', '.join(changes)} for the next release of {app}")


@command("config:unset")
@click.argument("app")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def unset(session: Session, app: str, names: tuple[str, ...]) -> None:
    """Remove configuration from the next release."""
    for name in names:
        _check(name)
    _change(session, app, "config:unset", dict.fromkeys(names))
    click.echo(f"Removed {', '.join(names)} from the next release of {app}")


def _change(session: Session, app: str, verb: str, changes: dict[str, str] | dict[str, None]) -> None:
    with session.store() as store, store.transaction():
        store.change_config(store.need_app(app).name, {**changes})
        session.audit(store, " ".join((verb, *changes)), app)  # the names: values are secrets


def _parse(setting: str) -> tuple[str, str]:
    # Values are secrets: no message repeats one.
    name, equals, value = setting.partition("=")
    if not equals:
        raise UsageError("a setting is written NAME=VALUE", "quote the value where it has spaces")
    _check(name)
    if "\0" in value or len(value) > MAX_VALUE:
        raise UsageError(f"the value of {name} is too long", f"the most is {MAX_VALUE} characters")
    return name, value


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name[:40]!a} is no name for a setting", "use letters, digits and _")
    if name.startswith(_RESERVED):
        raise UsageError(f"{name} is set by Safepoint itself", "choose another name")


COMMANDS = (config, set_, unset)
