"""audit."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import chain, islice

import click

from safepoint import permission
from safepoint.cli.common import Session, command, json_option, print_json_list
from safepoint.cli.views import entry_as_json, entry_line
from safepoint.core.audit import duration
from safepoint.core.names import shown
from safepoint.core.roles import Action
from safepoint.errors import UsageError


@command("audit")
@click.option("--app", help="Only what is about this app.")
@click.option("--since", metavar="WHEN", help="A duration, such as 24h or 7d, or a time, such as 2026-01-31T12:00.")
@json_option
def audit(session: Session, app: str | None, since: str | None, as_json: bool) -> None:
    """List who did or asked for what, when, and what became of it, oldest first. Nothing of it is ever changed."""
    start = None if since is None else _time(since)
    with session.store() as store:
        found = store.audit(app, start)
        first = tuple(islice(found, 1))
        if app is not None and not first:
            store.need_app(app)
        sees, all_ = (
            permission.allowed(store, session.visitor, Action.VIEW),
            permission.sees_all(store, session.visitor),
        )
        seen = (entry for entry in chain(first, found) if (sees(entry.app) if entry.app else all_))
        if as_json:
            print_json_list(entry_as_json(entry) for entry in seen)
            return
        for entry in seen:
            subject = f"{entry.app or '-'}{f' {entry.operation}' if entry.operation else ''}"
            click.echo(f"{subject:<20}  {entry_line(entry)}")


def _time(text: str) -> float:
    if (seconds := duration(text)) is not None:
        return time.time() - seconds
    try:
        return datetime.fromisoformat(text).timestamp()  # without a zone: the server's
    except (ValueError, OverflowError):
        raise UsageError(
            f"{shown(text, 40)} is no time", "use a duration such as 24h or 7d, or a time such as 2026-01-31T12:00"
        ) from None


COMMANDS = (audit,)
