"""All checks, in the order in which a person would ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import ParamSpec

from safepoint import server_settings
from safepoint.core.findings import Finding, problem
from safepoint.doctor import containment, home, host, isolation, server
from safepoint.errors import UserError
from safepoint.state.paths import Home
from safepoint.state.store import Store

P = ParamSpec("P")
Check = Callable[[Home], Iterable[Finding]]

HOST: tuple[Check, ...] = (host.python, host.git, host.haproxy, host.supervisor)
PLACE: tuple[Check, ...] = (home.owner, home.file_system, home.space, home.keys)
INSIDE: tuple[Callable[[Home, Store], Iterable[Finding]], ...] = (
    containment.in_use, isolation.of_pushed_code,
    server.serve, server.daemons, server.operations, server.releases, server.output,
)  # fmt: skip
"""Those that need the store."""


def examine(found: Home) -> list[Finding]:
    findings = [each for check in HOST for each in _tried(check, found)]
    if not found.root.is_dir():
        advice = "set SAFEPOINT_HOME or --home, or make it with `safepoint serve`"
        return [*findings, problem("home", f"there is no directory {found.root}", advice)]
    findings += [each for check in PLACE for each in _tried(check, found)]
    if found.root.stat().st_uid != os.geteuid():
        return findings  # SQLite would make files of ours there, and root may
    try:
        with Store.open(found) as store:
            server_settings.adopt(store, os.environ)  # what is looked at is what the server does
            findings += [each for inside in INSIDE for each in _tried(inside, found, store)]
    except UserError as error:
        findings.append(problem("home", error.message, error.hint))
    return findings


def _tried(check: Callable[P, Iterable[Finding]], *args: P.args, **kwargs: P.kwargs) -> list[Finding]:
    """What ails the host may well stop a check: then that is what was found."""
    about = check.__name__.replace("_", " ")
    try:
        return list(check(*args, **kwargs))
    except UserError as error:
        return [problem(about, error.message, error.hint)]
    except Exception as error:
        return [problem(about, f"this could not be looked at: {type(error).__name__}: {error}")]
