"""hooks:install, hooks:remove: repositories that are hosted elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import click

from safepoint.cli.common import Session, command
from safepoint.errors import UsageError
from safepoint.git import foreign_hooks

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
_repository = click.argument("repository", metavar="REPO", type=click.Path(path_type=Path))


@command("hooks:install")
@_repository
@click.option("--app", required=True, help="The app that pushes of its deploy branch deploy.")
@click.option(
    "--key-variable",
    default="",
    metavar="NAME",
    help="The environment variable in which the host gives the pusher's name, such as GL_USER. It has to be the name"
    " of a key of this server, and may do what that key may. Without it the host alone decides who pushes.",
)
def install(session: Session, repository: Path, app: str, key_variable: str) -> None:
    """Have pushes into REPO, a bare repository that is hosted elsewhere, deploy APP. Hooks that it has still run.

    The push does not wait for the deploy, and moves the branch whatever becomes of it.
    """
    if key_variable and not _VARIABLE.fullmatch(key_variable):
        raise UsageError(f"{key_variable[:40]!a} is no name for a variable", "use letters, digits and _")
    with session.store() as store:
        found = store.need_app(app)
        commit = foreign_hooks.install(session.home, found, repository, key_variable)
        current = store.current_release(app)
    click.echo(f"Installed; a push of {found.branch} to {repository} deploys {app}")
    if commit and (current is None or current.commit != commit):
        click.echo(f"{found.branch} has {commit[:8]} already; to deploy it: `deploy {app} {commit}`")


@command("hooks:remove")
@_repository
def remove(_session: Session, repository: Path) -> None:
    """Take Safepoint's hooks out of REPO again."""
    found = foreign_hooks.remove(repository)
    if found is None:
        click.echo(f"There are no hooks of Safepoint in {repository}")
    else:
        click.echo(f"Removed; pushes to {repository} deploy {found.app} no more")


COMMANDS = (install, remove)
