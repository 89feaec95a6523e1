"""operation:list, show, logs, follow, cancel, and recover."""

from __future__ import annotations

import json
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import click

from safepoint import launch, permission
from safepoint.cli.common import Session, command, json_option, print_json, print_table, reason_option
from safepoint.cli.views import as_json as view
from safepoint.cli.views import entry_as_json, lines, local_time
from safepoint.control.cancel import request_cancel
from safepoint.control.follow import follow as follow_output
from safepoint.core import wording
from safepoint.core.events import Ending, Verdict
from safepoint.core.operation import Operation, verdict
from safepoint.core.roles import Action
from safepoint.errors import NoSuchOperation
from safepoint.state.store import Store

_FOLLOW_STATUS = {Ending.SUCCEEDED: 0, Ending.FAILED: 1, Ending.CANCELLED: 3, Ending.STUCK: 4, Ending.SUPERSEDED: 3}
_TOO_LATE = 3


class _OperationId(click.ParamType[int]):
    name = "id"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> int:
        text = str(value)
        if not text.isascii() or not text.isdigit():
            self.fail(f"{text[:40]!a} is no operation ID", parameter, context)
        if len(text) > 18:  # more than SQLite could hold
            raise NoSuchOperation(f"there is no operation {text[:40]}", "`operation:list` lists them")
        return int(text)


_id = click.argument("operation_id", metavar="ID", type=_OperationId())


@command("operation:list")
@click.option("--app", help="Only this app's.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
def list_(session: Session, app: str | None, limit: int, as_json: bool) -> None:
    """List operations, newest first."""
    with session.store() as store:
        if app is not None and not store.operations(app, 1):
            store.need_app(app)
        found = store.operations(app, limit, permission.allowed(store, session.visitor, Action.VIEW))
    if as_json:
        print_json([view(session.home, each) for each in found])
        return
    rows = [
        (
            str(op.id),
            op.app,
            f"{op.plan.kind} v{op.plan.release}",
            op.state.value,
            op.running.name if op.running else "-",
            op.header.by,
            local_time(op.header.opened),
        )
        for op in found
    ]
    print_table(("ID", "APP", "WHAT", "STATE", "STEP", "BY", "OPENED"), rows)


@command("operation:show")
@_id
@json_option
def show(session: Session, operation_id: int, as_json: bool) -> None:
    """Show an operation: its steps with their times, who, what and why."""
    with session.store() as store:
        found, story = store.operation(operation_id), store.audit_of(operation_id)
    if as_json:
        print_json(view(session.home, found) | {"audit": [entry_as_json(entry) for entry in story]})
        return
    for line in lines(session.home, found, story, time.time()):
        click.echo(line)


@command("operation:logs")
@_id
@json_option
def logs(session: Session, operation_id: int, as_json: bool) -> None:
    """Print an operation's output so far."""
    with session.store() as store:
        found = store.operation(operation_id)
    chunks = _chunks(session.home.output(operation_id))
    if as_json:
        # By hand, since a whole output may be more than the memory that there is.
        click.echo(f'{{"id": {found.id}, "state": {json.dumps(found.state.value)}, "output": "', nl=False)
        text = _JsonText(lambda part: click.echo(json.dumps(part)[1:-1], nl=False))
        for chunk in chunks:
            text.write(chunk)
        text.end()
        click.echo('"}')
        return
    for chunk in chunks:
        _write(chunk)
    if found.ending is not None:
        _say_ending(found)


@command("operation:follow")
@_id
@json_option
def follow(session: Session, operation_id: int, as_json: bool) -> int:
    """Print an operation's output from its start, live, to its end.

    Exit status: 0 it succeeded, 1 it failed, 3 it was cancelled, 4 it is stuck. Ctrl-C stops the following only.
    With --json: one object a line, {"output": "..."} as it comes, and the operation at the end.
    """
    with session.store() as store:
        return follow_to_end(session, store, operation_id, as_json=as_json)


@command("operation:cancel")
@_id
@reason_option
@click.option("--dry-run", is_flag=True, help="Say what a cancel would do now, and do nothing.")
@click.option("--no-wait", is_flag=True, help="Return with the verdict; do not wait for the end.")
@click.option("--force", is_flag=True, help="Skip the grace period; kill a deploy process that does not answer.")
@json_option
def cancel(
    session: Session,
    *,
    operation_id: int,
    reason: str,
    dry_run: bool,
    no_wait: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Cancel an operation: it stops at its next safe point, and all that it did is undone.

    Exit status: 0 cancelled and restored, 3 too late or already ended, 4 stuck, 5 not permitted, 6 no such operation.
    """
    with session.store() as store:
        if dry_run:
            return _forecast(store.operation(operation_id), as_json)
        size = _output_size(session, operation_id)
        answer = request_cancel(
            session.home,
            store,
            operation_id,
            by=session.by,
            door=session.door.origin,
            reason=reason,
            force=force,
            recover=session.recover(store),
        )
        if not as_json:
            click.echo(answer.text)
            if answer.note:
                click.echo(answer.note)
        going = answer.verdict.accepted or answer.verdict is Verdict.ALREADY_CANCELLING
        if going and not no_wait:
            write = _discard if as_json else _write
            ended = _follow(session, store, operation_id, write, start=size)
        else:
            ended = store.operation(operation_id)
    status = _cancel_status(answer.verdict, ended)
    if as_json:
        print_json(
            {
                "id": operation_id,
                "verdict": answer.verdict.value,
                "answer": answer.text,
                "note": answer.note or None,
                "state": ended.state.value,
                "summary": wording.closing(ended),
                "warnings": list(ended.warnings),
            }
        )
    elif going and ended.ending is not None:
        _say_ending(ended)
    return status


@command("recover")
@click.argument("operation_id", metavar="[ID]", type=_OperationId(), required=False)
def recover(session: Session, operation_id: int | None) -> int:
    """Finish what a dead deploy process left behind; with ID, try the undo of a stuck operation again."""
    with session.store() as store:
        if operation_id is None:
            return _recover_all(session, store)
        found = store.operation(operation_id)
        if found.ending is None:
            session.recover(store)(found.app)
        else:
            launch.retry(session.home, store, found, by=session.by, door=session.door.origin)
        return follow_to_end(session, store, operation_id, start=_output_size(session, operation_id))


def _recover_all(session: Session, store: Store) -> int:
    may = permission.allowed(store, session.visitor, Action.OPERATE)
    dead = [op for op in store.running() if may(op.app) and session.recover(store)(op.app)]
    if not dead:
        click.echo("Nothing to recover")
    for operation in dead:
        click.echo(f"Recovering operation {operation.id} of {operation.app}...")
        _say_ending(_follow(session, store, operation.id, _discard))
    return 0


def _forecast(operation: Operation, as_json: bool) -> int:
    given, text = verdict(operation), wording.forecast(operation, time.time())
    if as_json:
        print_json({"id": operation.id, "verdict": given.value, "forecast": list(text)})
    else:
        click.echo("\n".join(text))
    return 0 if given.accepted or given is Verdict.ALREADY_CANCELLING else _TOO_LATE


def _cancel_status(given: Verdict, op: Operation) -> int:
    if op.ending is Ending.STUCK:
        return 4
    return 0 if given.accepted or given is Verdict.ALREADY_CANCELLING else _TOO_LATE


def follow_to_end(
    session: Session,
    store: Store,
    operation_id: int,
    *,
    no_wait: bool = False,
    as_json: bool = False,
    start: int = 0,
) -> int:
    """Print the output and the ending; returns the exit status that tells the endings apart."""
    if no_wait:
        operation = store.operation(operation_id)
        if as_json:
            print_json(view(session.home, operation))
        return 0
    text = _JsonText(lambda part: click.echo(json.dumps({"output": part})))
    operation = _follow(session, store, operation_id, text.write if as_json else _write, start=start)
    if as_json:
        text.end()
        click.echo(json.dumps(view(session.home, operation)))
    else:
        _say_ending(operation)
    assert operation.ending is not None
    return _FOLLOW_STATUS[operation.ending]


def _follow(
    session: Session, store: Store, operation_id: int, write: Callable[[bytes], None], start: int = 0
) -> Operation:
    return follow_output(
        session.home,
        store,
        operation_id,
        write,
        recover=session.recover(store),
        readers=(sys.stdout.fileno(),),
        start=start,
    )


def _output_size(session: Session, operation_id: int) -> int:
    path = session.home.output(operation_id)
    return path.stat().st_size if path.exists() else 0


def _say_ending(operation: Operation) -> None:
    for line in wording.ending_lines(operation):
        click.echo(wording.own_line(line), nl=False)


def _chunks(path: Path) -> Iterator[bytes]:
    """What is in an output by now; nothing where there is none yet."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        while chunk := file.read(64 * 1024):
            yield chunk


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class _JsonText:
    """Output as text, part by part: a chunk may end in the middle of a character."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")

    def write(self, data: bytes) -> None:
        if text := self._decoder.decode(data):
            self._write(text)

    def end(self) -> None:
        if text := self._decoder.decode(b"", final=True):
            self._write(text)


def _discard(_data: bytes) -> None:
    pass


COMMANDS = (list_, show, logs, follow, cancel, recover)
