"""apps, apps:create, apps:destroy."""

from __future__ import annotations

import click

from safepoint import permission, removal
from safepoint.cli.common import Session, command, json_option, print_json, print_table
from safepoint.cli.views import time_text
from safepoint.core.names import app_name
from safepoint.core.queueing import OnBusy
from safepoint.core.roles import Action
from safepoint.errors import UserError
from safepoint.git import repositories
from safepoint.git.branches import branch_name
from safepoint.git.hook_shims import install_hooks
from safepoint.processes import isolation
from safepoint.state.store import Store


@command("apps")
@json_option
def apps(session: Session, as_json: bool) -> None:
    """List the apps."""
    with session.store() as store:
        sees = permission.allowed(store, session.visitor, Action.VIEW)
        found = [(app, store.current_release(app.name)) for app in store.apps() if sees(app.name)]
    if as_json:
        print_json(
            [
                {
                    "name": app.name,
                    "branch": app.branch,
                    "created": time_text(app.created),
                    "user": isolation.user(session.home.root, app.name),
                    "release": release.number if release else None,
                    "commit": release.commit if release else None,
                }
                for app, release in found
            ]
        )
        return
    rows = [(a.name, f"v{r.number}" if r else "-", r.commit[:8] if r else "-", a.branch) for a, r in found]
    print_table(("APP", "RELEASE", "COMMIT", "BRANCH"), rows)


@command("apps:create")
@click.argument("name")
@click.option("--branch", default="main", show_default=True, help="The branch whose pushes deploy.")
def create(session: Session, name: str, branch: str) -> None:
    """Create an app: a name, and a repository to push to."""
    app_name(name)
    branch_name(branch)
    root = session.home.root
    with Store.create(session.home) as store:
        with store.transaction():
            store.create_app(name, branch)
            if len({isolation.user_of(root, app.name) for app in store.apps()}) < len(store.apps()):
                raise UserError(f"{name} would be the same Unix user as another app", "choose another name")
            session.audit(store, "apps:create", name)
        install_hooks(session.home)
        repositories.create(session.home, name, branch)
    click.echo(f"Created {name}; a push of {branch} to it deploys")


@command("apps:on-busy")
@click.argument("name")
@click.argument("policy", type=click.Choice([policy.value for policy in OnBusy]), required=False)
def on_busy(session: Session, name: str, policy: str | None) -> None:
    """Show or set what becomes of a deploy while another operation runs: queue, supersede or reject."""
    with session.store() as store:
        app = store.need_app(name)
        if policy is not None:
            with store.transaction():
                store.set_on_busy(name, OnBusy(policy))
                session.audit(store, f"apps:on-busy {policy}", name)
    click.echo(f"{name}: {policy or app.on_busy}")


@command("apps:destroy")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(session: Session, name: str, yes: bool) -> None:
    """Remove an app with its repository, releases, processes and configuration."""
    with session.store() as store:
        app = store.need_app(name)
        if not yes:
            click.confirm(f"Remove {name} with all its releases and its repository, for good?", abort=True)
        # It takes a while, and may be cut short and done again: what was begun is in the audit too.
        session.audit(store, "apps:destroy", name, verdict="begun")
        removal.destroy(session.home, store, app)
        session.audit(store, "apps:destroy", name)
    click.echo(f"Removed {name}")


COMMANDS = (apps, create, on_busy, destroy)
