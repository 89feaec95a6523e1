"""config, config:set, config:unset."""

from __future__ import annotations

import re
import sys

import click

from safepoint.cli.common import Session, command, json_option, print_json
from safepoint.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
_RESERVED = ("PORT", "SAFEPOINT_")
MAX_VALUE = 64 * 1024
"""Bytes. Twice as much, with its name, could not be handed to a program (execve(2), MAX_ARG_STRLEN)."""
STDIN = "-"
"""As a value: it comes by standard input, and so is in no history of a shell and in no list of processes."""


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
    """Set configuration for the next release. NAME=- takes the value from standard input."""
    changes = dict(_parse(setting) for setting in settings)
    read = [name for name, value in changes.items() if value == STDIN]
    if len(read) > 1:
        raise UsageError("standard input can be the value of one setting only", "set the others one by one")
    for name in read:
        changes[name] = _read(name)
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
    return name, _value(name, value)


def _value(name: str, value: str) -> str:
    if "\0" in value:
        raise UsageError(f"the value of {name} has a NUL in it", "no environment can hold that")
    if len(value.encode(errors="surrogateescape")) > MAX_VALUE:
        raise UsageError(f"the value of {name} is too long", f"the most is {MAX_VALUE} bytes")
    return value


def _read(name: str) -> str:
    """Without the one line's end that `echo` and editors put there."""
    data = sys.stdin.buffer.read(MAX_VALUE + 3)
    try:
        return _value(name, data.decode().removesuffix("\n").removesuffix("\r"))
    except UnicodeDecodeError:
        raise UsageError(f"the value of {name} is not UTF-8 text", "encode it, by base64 for example") from None


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name[:40]!a} is no name for a setting", "use letters, digits and _")
    if name.startswith(_RESERVED):
        raise UsageError(f"{name} is set by Safepoint itself", "choose another name")


COMMANDS = (config, set_, unset)
