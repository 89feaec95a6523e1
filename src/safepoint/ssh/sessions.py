"""What a request runs, as data: the one place where both ssh servers decide it. Runs nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safepoint import interpreter, permission
from safepoint.core.doors import HOME_VARIABLE, KEY_VARIABLE, Door
from safepoint.core.wording import printable
from safepoint.errors import NotFound, NotPermitted, UserError
from safepoint.people import Visitor
from safepoint.record import Record
from safepoint.ssh.requests import ARGUMENTS_VARIABLE, GIT_VERBS, Request, parse
from safepoint.state.paths import Home
from safepoint.state.store import Store

GIT_PROTOCOL = re.compile(r"version=[0-2]")
"""The one variable that a client may set (git-config(1), protocol.version)."""

_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
_DEFAULTS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Session(Record):
    """A child process that is yet to be started."""

    title: str
    """For the log. Never the arguments: `config:set` has secrets among them."""
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """All of it: nothing is inherited."""
    directory: Path


class Visit(Record):
    """Somebody who has proven to have a key, and asks for something."""

    home: Home
    key: str
    """Its name."""
    command_line: str | None
    """None: a shell."""
    door: Door
    environment: Mapping[str, str]
    """The server's own, with the client's GIT_PROTOCOL in it."""


def decide(visit: Visit) -> Session:
    """Raises UserError: one sentence for the client."""
    return prepare(parse(visit.key, visit.command_line), visit.home, visit.door, visit.environment)


def error_lines(error: UserError) -> bytes:
    """What the client sees on its stderr of a request that is refused: as the CLI shows errors."""
    hint = (f"    {error.hint}",) if error.hint else ()
    return "".join(f"{printable(line)}\n" for line in (f"safepoint: {error.message}", *hint)).encode()


def prepare(request: Request, home: Home, door: Door, environment: Mapping[str, str]) -> Session:
    """What `request` runs.

    Raises NotPermitted where the key has been removed meanwhile, and NotFound where there is no such app.
    """
    with Store.open(home) as store:
        if store.key(request.key) is None:
            raise NotPermitted(f"the key {request.key} has been removed from this server")
        if request.verb in GIT_VERBS:  # of the others the command line asks for itself, once it has read their words
            permission.require(store, Visitor(request.key, door, request.key), request.verb, app=request.app)
            return _git(request, home, door, environment, store)
    return Session(
        request.verb,
        interpreter.command("safepoint", request.verb),
        # Whoever has a login can see every command line (`ps`), and only its own user sees a process's environment.
        _environment(request, home, door, environment) | {ARGUMENTS_VARIABLE: json.dumps(request.arguments)},
        home.root,
    )


def _git(request: Request, home: Home, door: Door, environment: Mapping[str, str], store: Store) -> Session:
    repository = home.repository(store.need_app(request.app).name)
    if not repository.is_dir():
        raise NotFound(f"the repository of {request.app} is missing on the server")
    variables = _environment(request, home, door, environment) | _configuration(repository)
    if GIT_PROTOCOL.fullmatch(environment.get("GIT_PROTOCOL", "")):
        variables["GIT_PROTOCOL"] = environment["GIT_PROTOCOL"]
    title = f"{request.verb} {request.app}"
    return Session(title, ("git", request.verb.removeprefix("git-"), str(repository)), variables, home.root)


def _environment(request: Request, home: Home, door: Door, environment: Mapping[str, str]) -> dict[str, str]:
    passed = {name: environment[name] for name in _PASSED if name in environment}
    own = {HOME_VARIABLE: str(home.root), KEY_VARIABLE: request.key, **door.to_environment()}
    return _DEFAULTS | passed | own


def _configuration(repository: Path) -> dict[str, str]:
    """Git's settings for this one child and its hooks (git(1), GIT_CONFIG_COUNT); they win over every file."""
    return {
        "GIT_CONFIG_COUNT": "1",
        # The home may belong to another user than the one who serves, in a container for example.
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": str(repository),
    }
