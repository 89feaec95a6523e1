"""Compares the world with the journal all the time while a round is played: what is wrong for a moment only is wrong.

The journal is read before and after each look at the world. A look counts where both are the same: then the world has
to be in a state that this journal allows, since intents are journalled before acts, and outcomes after them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Self

from chaos.played import Played
from chaos.served import Served

INTERVAL = 0.004
"""Seconds between two looks."""
REQUESTS = 0.03
"""Seconds between two requests."""
ENOUGH = 10
"""How many violations of a round are kept."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An operation, as its journal has it."""

    number: int
    plan: dict[str, Any]
    events: tuple[dict[str, Any], ...]

    def find(self, kind: str, step: str = "") -> dict[str, Any] | None:
        return next((e for e in reversed(self.events) if e["type"] == kind and e.get("step", "") == step), None)

    def under_way(self, step: str) -> bool:
        """Whether the step has begun, is not undone, and may still be."""
        return bool(self.find("step started", step)) and not self.find("undo done", step) and not self.committed

    @property
    def committed(self) -> bool:
        return self.find("committed") is not None

    @property
    def published(self) -> bool:
        done = self.find("step done", "publish")
        return done is not None and not done["warnings"]


@dataclass
class State:
    """What the journal says of one app."""

    current: tuple[int, str, int | None] | None = None
    """Number, commit and port of the current release."""
    kept: frozenset[int] = frozenset()
    operations: tuple[Seen, ...] = ()
    """Of this round."""

    @property
    def port(self) -> int | None:
        return self.current[2] if self.current else None


@dataclass
class Memory:
    """What was so earlier in the round, for one app."""

    ports: set[int | None] = field(default_factory=set)
    """Of releases that were current."""
    commits: list[str] = field(default_factory=lambda: [""])
    """That were current, the last one last."""
    port: int | None = None
    """Of the current release, at the last look."""
    before_undo: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    """Operation to how often the undo of its switch has begun, and `port` before that; a changed one is not kept."""
    undone: set[int] = field(default_factory=set)


class Watcher:
    """`with watcher:` around a round; `watcher.paused` around what nobody could watch, as the cutting of power."""

    def __init__(self, served: Served, played: Played, *, calm: bool) -> None:
        """`calm`: nobody is struck whom a request needs, so each has its answer."""
        self._served = served
        self._played = played
        self._calm = calm
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._memory = {app: Memory() for app in served.apps}
        self._rebooted = False
        self._threads = [threading.Thread(target=self._guarded, args=(each,)) for each in (self._look, self._ask)]
        self.looks = self.answers = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def rebooting(self) -> threading.Lock:
        """To be held while everything is dead. After that a route may be missing until somebody has restored it."""
        self._rebooted = True
        return self._lock

    def _guarded(self, watch: Callable[[sqlite3.Connection], None]) -> None:
        try:
            database = f"file:{self._served.root / 'safepoint.db'}?mode=ro"
            with closing(sqlite3.connect(database, uri=True, isolation_level=None, timeout=30)) as db:
                watch(db)
        except Exception as error:  # else nobody would know that nobody watches
            self._say([f"the watcher failed: {error!r}"])

    def _say(self, found: Iterable[str]) -> None:
        for each in found:
            if each not in self._played.seen and len(self._played.seen) < ENOUGH:
                self._played.seen.append(each)

    def _states(self, db: sqlite3.Connection) -> dict[str, State]:
        found = {app: State() for app in self._served.apps}
        db.execute("BEGIN")  # all of it at one moment
        try:
            for app, number, commit, state, ports in db.execute(
                "SELECT app, number, commit_id, state, ports FROM releases"
            ):
                if state == "current":
                    found[app].current = (number, commit, json.loads(ports).get("web.1"))
                if state != "pruned":
                    found[app].kept |= {number}
            for number, app, plan in db.execute(
                "SELECT id, app, plan FROM operations WHERE id > ? ORDER BY id", (self._played.first_operation,)
            ).fetchall():
                rows = db.execute("SELECT event FROM events WHERE operation = ? ORDER BY number", (number,))
                events = tuple(json.loads(row[0]) for row in rows)
                plans = [json.loads(plan), *(each["plan"] for each in events if each["type"] == "begun")]
                found[app].operations += (Seen(number, plans[-1], events),)
        finally:
            db.execute("COMMIT")
        return found

    # The files.

    def _look(self, db: sqlite3.Connection) -> None:
        version, states = None, {}
        while not self._over.wait(INTERVAL):
            with self._lock:
                if (now := _version(db)) != version:
                    version, states = now, self._states(db)
                    if version != _version(db):
                        version = None
                        continue
                    for app, state in states.items():
                        self._remember(self._memory[app], state)
                routes, seen = self._routes(), {app: (self._branch(app), self._releases(app)) for app in states}
                if _version(db) != version or routes is None:
                    continue
                self.looks += 1
                for app, state in states.items():
                    branch, releases = seen[app]
                    self._say(self._check(app, state, routes.get(app), branch, releases))

    def _remember(self, memory: Memory, state: State) -> None:
        memory.ports.add(state.port)
        commit = state.current[1] if state.current else ""
        if commit != memory.commits[-1]:
            memory.commits.append(commit)
        for op in state.operations:
            begun = [e["type"] for e in op.events if e.get("step") == "switch"].count("undo started")
            if memory.before_undo.get(op.number, (0, None))[0] != begun:  # after a death it begins again
                memory.before_undo[op.number] = (begun, memory.port)
            if memory.before_undo.get(op.number, (0, state.port))[1] != state.port:
                memory.before_undo[op.number] = (begun, None)
        memory.port = state.port

    def _check(self, app: str, state: State, route: int | None, branch: str, releases: set[int]) -> Iterator[str]:
        memory, said = self._memory[app], [op.number for op in state.operations]
        commit = state.current[1] if state.current else ""
        committed = [op for op in state.operations if op.committed]
        allowed = {commit} if not committed or committed[-1].published else {commit, *memory.commits}
        if branch not in allowed:
            yield f"{app}: the branch was {branch[:8]!r} while {commit[:8]!r} was current (operations {said})"
        kept = state.kept | {op.plan["release"] for op in state.operations if op.under_way("export")}
        if releases - kept:
            yield f"{app}: there were releases {sorted(releases)}, and the journal knows of {sorted(kept)}"
        if state.current and state.current[0] not in releases:
            yield f"{app}: v{state.current[0]} was current, and its directory was not there"
        yield from self._check_route(app, state, memory, route)

    def _check_route(self, app: str, state: State, memory: Memory, route: int | None) -> Iterator[str]:
        ports = {state.port}
        if self._played.harsh:  # whoever is started again may get another port, before the route is changed
            ports |= memory.ports
        if self._rebooted:
            ports.add(None)
        switching = [op for op in state.operations if op.under_way("switch")]
        for op in switching:
            data = (op.find("step started", "switch") or {}).get("data", {})
            ports |= {data.get("port"), data.get("previous_port")}
        if route not in ports:
            yield f"{app}: the route was to {route}, and {state.port} was the port of the current release"
        for op in state.operations:
            if op.find("undo done", "switch") and op.number not in memory.undone:
                memory.undone.add(op.number)
                known = memory.before_undo.get(op.number, (0, None))[1]
                if known is not None and known == state.port != route and not switching:
                    yield f"{app}: operation {op.number} undid its switch to {route}, and the port was {state.port}"

    def _routes(self) -> dict[str, int] | None:
        """None where it was changed as it was read: the old file is the place of the next text then."""
        path = self._served.root / "run" / "routes.map"
        try:
            with path.open() as file:
                before, text = os.fstat(file.fileno()), file.read()
            after = path.stat()
        except FileNotFoundError:
            return {}
        if (before.st_ino, before.st_ctime_ns, before.st_size) != (after.st_ino, after.st_ctime_ns, after.st_size):
            return None
        return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}

    def _branch(self, app: str) -> str:
        with suppress(FileNotFoundError):
            return (self._served.root / "repositories" / f"{app}.git" / "refs/heads/main").read_text().strip()
        return ""

    def _releases(self, app: str) -> set[int]:
        with suppress(FileNotFoundError):
            names = [each.name for each in (self._served.root / "apps" / app / "releases").iterdir()]
            return {int(name.removeprefix("v")) for name in names if name.removeprefix("v").isdigit()}
        return set()

    # What a visitor gets.

    def _ask(self, db: sqlite3.Connection) -> None:
        version, after = _version(db), self._states(db)
        while not self._over.wait(REQUESTS):
            for app in self._served.apps:
                if (now := _version(db)) != version:
                    version, after = now, self._states(db)
                before, answer = after, self._answer(app)
                if (now := _version(db)) != version:
                    version, after = now, self._states(db)
                self.answers += 1
                self._say(self._judge(app, before[app], after[app], answer))

    def _judge(self, app: str, before: State, after: State, answer: str) -> Iterator[str]:
        versions = self._served.versions
        right = {versions[each.current[1]] for each in (before, after) if each.current}
        for op in after.operations:
            if op.find("step started", "switch"):
                old = next((each for each in before.operations if each.number == op.number), None)
                if old is None or old.under_way("switch") or not old.find("step started", "switch"):
                    right.add(versions[op.plan["commit"]])
        if answer in versions.values():
            if answer not in right:
                yield f"{app} answered {answer!r}, and the journal allows {sorted(right)}"
        elif self._calm and before.current:
            yield f"{app} answered {answer!r}, and nobody was in its way; the journal allows {sorted(right)}"

    def _answer(self, app: str) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._served.http_port}/", headers={"Host": f"{app}.localhost"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20 if self._calm else 1) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return f"status {error.code}"
        except (OSError, HTTPException) as error:
            return f"{type(error).__name__}: {error}"


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA data_version").fetchone()
    return int(version)
