"""releases, releases:rollback, deploy."""

from __future__ import annotations

import click

from safepoint import launch, permission, planning
from safepoint.cli.common import Session, command, json_option, print_json, print_table, reason_option
from safepoint.cli.operations import follow_to_end
from safepoint.cli.views import local_time, time_text
from safepoint.core import wording
from safepoint.core.app import App
from safepoint.core.plan import Plan
from safepoint.core.queueing import OnBusy
from safepoint.errors import NotFound, UsageError, UserError
from safepoint.git import objects
from safepoint.state.opening import AppBusy
from safepoint.state.store import Store

_on_busy = click.option(
    "--on-busy",
    type=click.Choice([policy.value for policy in OnBusy]),
    help="What to do while another operation runs; else as the app says.",
)


@command("releases")
@click.argument("app")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
def releases(session: Session, app: str, limit: int, as_json: bool) -> None:
    """List an app's releases, newest first."""
    with session.store() as store:
        found = store.releases(store.need_app(app).name, limit)
    if as_json:
        print_json(
            [
                {
                    "release": r.number,
                    "state": r.state,
                    "commit": r.commit,
                    "operation": r.operation,
                    "created": time_text(r.created),
                }
                for r in found
            ]
        )
        return
    rows = [(f"v{r.number}", r.state, r.commit[:8], str(r.operation), local_time(r.created)) for r in found]
    print_table(("RELEASE", "STATE", "COMMIT", "OPERATION", "CREATED"), rows)


@command("releases:rollback")
@click.argument("app")
@click.argument("release", required=False)
@reason_option
@click.option("--no-wait", is_flag=True, help="Return as soon as it is detached.")
@_on_busy
@json_option
def rollback(
    session: Session, *, app: str, release: str | None, reason: str, no_wait: bool, on_busy: str | None, as_json: bool
) -> int:
    """Go back to a release that is kept (vN), or to the one before. Nothing is rebuilt."""
    with session.store() as store:
        found = store.need_app(app)
        plan, target = planning.rollback(session.home, store, found, _number(release))
        environment = dict(target.environment)
        number = _launch(session, store, plan, reason=reason, environment=environment, on_busy=on_busy)
        return follow_to_end(session, store, number, no_wait=no_wait, as_json=as_json)


@command("deploy")
@click.argument("app")
@click.argument("commit", required=False)
@reason_option
@click.option("--no-wait", is_flag=True, help="Return as soon as it is detached.")
@_on_busy
@json_option
def deploy(
    session: Session, *, app: str, commit: str | None, reason: str, no_wait: bool, on_busy: str | None, as_json: bool
) -> int:
    """Deploy what the app's branch has, or COMMIT, without a push."""
    with session.store() as store:
        found = store.need_app(app)
        plan = planning.deploy(session.home, store, found, _resolve(session, found, commit))
        number = _launch(session, store, plan, reason=reason, environment=store.config(app), on_busy=on_busy)
        return follow_to_end(session, store, number, no_wait=no_wait, as_json=as_json)


def _launch(
    session: Session, store: Store, plan: Plan, *, reason: str, environment: dict[str, str], on_busy: str | None
) -> int:
    app = store.need_app(plan.app)
    policy = OnBusy(on_busy) if on_busy else app.on_busy
    try:
        opened = launch.open_and_launch(
            session.home,
            store,
            plan,
            by=session.by,
            door=session.door.origin,
            policy=policy,
            reason=reason,
            environment=environment,
            permit_cancel=permission.superseding(store, session.visitor, app, policy),
        )
    except AppBusy as busy:
        cancel = session.door.cancel_command(busy.operation)
        raise UserError(*wording.busy(store.operation(busy.operation), cancel)) from None
    number = opened.operation
    queued = (wording.queued(number, store.unfinished(plan.app), plan.app),) if opened.queued else ()
    for line in (
        wording.deploying(plan.commit, plan.app, plan.release, number),
        *queued,
        *wording.detached(session.door.cancel_command(number)),
    ):
        click.echo(wording.own_line(line), nl=False, err=True)
    return number


def _resolve(session: Session, app: App, revision: str | None) -> str:
    repository = session.home.repository(app.name)
    # An empty text is somebody's unset variable, and does not mean the branch.
    found = objects.resolve(repository, f"refs/heads/{app.branch}" if revision is None else revision)
    if found is None:
        what = f"nothing on {app.branch} yet" if revision is None else f"no commit {revision[:60]!a}"
        raise NotFound(f"{app.name} has {what}", "push it first")
    return found


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.removeprefix("v")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise UsageError(f"{text[:40]!a} is no release", "releases are named v1, v2 and so on")
    return int(digits)


COMMANDS = (releases, rollback, deploy)
