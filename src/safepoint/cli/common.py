"""What every command shares: the home, the store, who asks, and `--json`."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any, ParamSpec, TypeVar

import click

from safepoint import launch, permission
from safepoint.core import wording
from safepoint.core.audit import DONE
from safepoint.core.doors import HOME_VARIABLE, Door
from safepoint.core.roles import VERBS, Subject
from safepoint.people import Visitor, visitor
from safepoint.state.paths import Home
from safepoint.state.store import Store

P = ParamSpec("P")
R = TypeVar("R")


class Session:
    """One run of the command line."""

    def __init__(self) -> None:
        self._root = os.environ.get(HOME_VARIABLE) or str(Path.home() / ".safepoint")

    def choose_home(self, root: str) -> None:
        self._root = root

    @property
    def home(self) -> Home:
        return Home(Path(self._root).absolute())

    @property
    def visitor(self) -> Visitor:
        return visitor(str(self.home.root))

    @property
    def by(self) -> str:
        return self.visitor.name

    @property
    def door(self) -> Door:
        return self.visitor.door

    @contextmanager
    def store(self) -> Iterator[Store]:
        with Store.open(self.home) as store:
            yield store

    def audit(self, store: Store, what: str, app: str = "", *, verdict: str = DONE) -> None:
        """Write down what is no operation, in the transaction of the change itself."""
        store.add_audit(by=self.by, door=self.door.origin, app=app, what=what, verdict=verdict)

    def require(self, verb: str, options: Mapping[str, Any]) -> None:
        """That whoever asks may do `verb` with these options. Raises NotPermitted, NotFound and NoSuchOperation."""
        _, subject = VERBS.get(verb, (None, None))
        named = options.get("app", options.get("name") if subject in (Subject.APP, Subject.NEW_APP) else None)
        with self.store() as store:
            permission.require(store, self.visitor, verb, app=named, operation=options.get("operation_id"))

    def recover(self, store: Store) -> Callable[[str], bool]:
        return lambda app: launch.recover(self.home, store, app)


def _choose_home(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).choose_home(value)


home_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--home",
    metavar="DIR",
    expose_value=False,
    is_eager=True,
    callback=_choose_home,
    help="The server's state directory; else SAFEPOINT_HOME, else ~/.safepoint.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="For scripts.")


def _one_line(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    """It ends on other people's terminals, and an argument that is not UTF-8 could not be journalled."""
    return " ".join(wording.printable(value).split())[:500]


reason_option = click.option("--reason", default="", callback=_one_line, help="Why, for those who ask later.")


def _with_session(verb: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        session = click.get_current_context().ensure_object(Session)
        if session.visitor.key is not None:
            session.require(verb, options)
        return function(session, *arguments, **options)

    return call


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with --home after the verb too. Nobody who came with a key gets into it without the right to."""

    def make(function: Callable[..., Any]) -> click.Command:
        decorate: Callable[[Callable[..., Any]], click.Command] = click.command(name, **attributes)
        return decorate(home_option(_with_session(name, function)))

    return make


def print_json(value: Any) -> None:
    """In ASCII: pushed text may hold what a terminal obeys, and JSON by itself escapes only half of that."""
    click.echo(json.dumps(value, indent=2))


def print_json_list(values: Iterable[Any]) -> None:
    """The same, each as it comes: together they may be more than the memory that there is."""
    before = "["
    for value in values:
        click.echo(f"{before}\n{indent(json.dumps(value, indent=2), '  ')}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
