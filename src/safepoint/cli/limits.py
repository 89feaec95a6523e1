"""limits."""

from __future__ import annotations

import json

import click

from safepoint.cli.common import Session, command
from safepoint.core.limits import changed
from safepoint.processes import limits as kept
from safepoint.state import durable


@command("limits")
@click.argument("app")
@click.argument("words", nargs=-1, metavar="[memory=512M] [processes=200] [cpu=1.5]")
def limits(session: Session, app: str, words: tuple[str, ...]) -> None:
    """Show or set what an app's processes and builds may use, from their next start on; `cpu=` takes one away."""
    with session.store() as store:
        name = store.need_app(app).name
        found = changed(kept.of(session.home, name), words)
        if words:
            path = session.home.limits(name)
            with store.transaction():
                session.audit(store, " ".join(("limits", *words)), name)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                durable.write(path, json.dumps(found.to_json()).encode(), 0o600)
    click.echo(f"{name}: {found}")


COMMANDS = (limits,)
