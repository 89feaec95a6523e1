"""What the store asks of SQLite costs the same after years: an index leads to each row that is wanted."""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from state.plans import PLAN, deploy, open_operation, run_to_end

from safepoint.core import events as e
from safepoint.core.plan import Kind, Plan, ProcessIdentity
from safepoint.core.queueing import OnBusy
from safepoint.core.roles import Role
from safepoint.record import replace
from safepoint.state import opening, trouble
from safepoint.state.journal import Journal
from safepoint.state.paths import Home
from safepoint.state.store import Store

WHOLE = {
    "SCAN apps USING INDEX": "all apps are listed",
    "SCAN keys USING INDEX": "all keys are listed",
    "SCAN releases USING INDEX one_current": "one an app",
    "SCAN operations USING INDEX operations_open": "two an app: those that have not ended",
    "SCAN sqlite_sequence": "one row a table that counts",
    "SCAN found": "one row an app with history, each of which was one search",
    "SCAN CONSTANT ROW": "no table",
    "USE TEMP B-TREE FOR DISTINCT": "those of the audit that were asked for",
    "USE TEMP B-TREE FOR ORDER BY": "those of the audit that were asked for",
}
"""What a plan may have besides searches, and why."""

SQL = re.compile(r"(SELECT|INSERT|UPDATE|DELETE|WITH|WHERE)\b")
RECEIVER = ProcessIdentity(pid=4711, started=1_000_000, boot="00000000-0000-0000-0000-000000000000")


class Listening(trouble.Connection):
    """Keeps what it was asked."""

    asked: dict[str, Any]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.asked[sql] = parameters
        return super().execute(sql, parameters)


@contextmanager
def listening(home: Home) -> Iterator[tuple[Store, Listening]]:
    Store.create(home).close()
    with closing(sqlite3.connect(home.database, isolation_level=None, factory=Listening)) as db:
        db.home, db.asked = home, {}
        db.execute("PRAGMA foreign_keys = ON")
        yield Store(home, db), db


def story(store: Store) -> None:
    """Everything that a store is asked in its life."""
    store.set_setting("ssh", "127.0.0.1 22")
    store.set_host_facts(store.host_facts())
    store.create_app("small", "main")
    store.need_app("shop")
    store.set_on_busy("shop", OnBusy.QUEUE)
    assert store.app("shop") in store.apps()
    store.add_key("zoe", "ssh-ed25519", b"zoe")
    assert [store.key_by_blob(b"zoe")] == store.keys()
    store.revoke("zoe", Role.OPERATOR, "*")
    assert store.grants("zoe") == ()
    store.remove_key("zoe")
    store.change_config("shop", {"A": "1", "B": "2"})
    store.change_config("shop", {"A": None})
    assert store.config("shop") == {"B": "2"}
    store.add_audit(by="zoe", door="local", app="shop", what="config:set B", verdict="done")

    release = store.next_release("shop")
    deploy(store, release, "shop")
    plan = replace(PLAN, app="shop", release=release + 1, receiver=RECEIVER)
    running = open_operation(store, plan)
    assert store.opened_by("shop", RECEIVER) == running.operation.id
    assert store.opened_by("shop", replace(RECEIVER, started=0)) is None
    waiting = [queue(store, plan, policy) for policy in (OnBusy.QUEUE, OnBusy.SUPERSEDE)][-1]
    assert [op.id for op in store.running()] == [running.operation.id, waiting]
    assert store.waiting("shop") == store.operation(waiting)
    assert store.unfinished("shop") == store.operation(running.operation.id)
    assert len(store.operations("shop", 5)) == len(store.operations(limit=5)) == 5
    assert store.operations(limit=5, sees=lambda app: app == "shop") == store.operations("shop", 5)
    store.environment(waiting)
    running.refresh()
    cancel(running)
    turn = Journal(store, waiting)
    turn.append(e.Begun(at=1.0, plan=plan.to_json()))
    run_to_end(turn)
    store.reserve()

    current = store.current_release("shop")
    assert current is not None
    assert current.number == plan.release
    assert store.kept_releases("shop") == store.releases("shop", 2)
    assert store.release("shop", release) in store.kept_releases("shop")
    assert store.ports_in_use() == {4711}
    store.set_ports("shop", plan.release, {"web.1": 4712})
    store.mark_pruned("shop", release)
    back = open_operation(store, replace(plan, kind=Kind.ROLLBACK))
    run_to_end(back)
    since = turn.operation.header.opened  # the other one was opened before, and cancelled after
    found = list(store.audit("shop", since))
    assert {running.operation.id, waiting, back.operation.id} <= {entry.operation for entry in found}
    assert list(store.audit(since=since)) == found
    assert found == sorted(found, key=lambda entry: entry.at)
    assert list(store.audit("small")) == []
    store.delete_app("small")


def cancel(journal: Journal) -> None:
    journal.request_cancel(by="zoe", reason="", force=False)
    journal.append(e.Ended(at=time.time(), ending=e.Ending.CANCELLED))


def queue(store: Store, plan: Plan, policy: OnBusy) -> int:
    return opening.open_operation(
        store, plan, by="zoe", door="ssh", reason="", environment={}, policy=policy, may_start=False
    ).operation


def fill(store: Store, db: Listening, count: int) -> None:
    """The years before: as many operations, of two apps, with releases that are pruned; and as much in the audit."""
    for app in ("web", "shop"):
        store.create_app(app, "main")
    model = open_operation(store, replace(PLAN, receiver=replace(RECEIVER, started=1)))
    cancel(model)
    columns = "by, door, reason, opened, plan, environment, queued, waiting, ending"
    numbers = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= ?)"
    with store.transaction():
        db.execute(
            f"{numbers} INSERT INTO operations (id, app, {columns}) SELECT i, iif(i % 2, 'web', 'shop'), by, door,"
            " reason, i, json_set(plan, '$.receiver.started', i), environment, queued, waiting, ending"
            " FROM n, operations WHERE id = 1",
            (count,),
        )
        db.execute("INSERT INTO events SELECT id, number, event FROM operations, events WHERE id > 1 AND operation = 1")
        db.execute(
            "INSERT INTO releases SELECT app, id, 'c', id, opened, 'pruned', '{}', '{}', '{}', '{}' FROM operations"
        )
        db.execute(
            "INSERT INTO audit (at, by, door, app, what, verdict, reason)"
            " SELECT opened, by, door, app, 'x', 'done', '' FROM operations"
        )
    db.asked.clear()


def sql_in_the_source() -> set[str]:
    """How each statement of this layer begins, or each part that is put into one."""
    found = set()
    for path in Path(inspect.getfile(Store)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
            if isinstance(text, ast.Constant) and isinstance(text.value, str) and SQL.match(text.value):
                found.add(text.value)
    return found


def test_no_query_reads_a_whole_table(tmp_path: Path) -> None:
    """Of all that the store asks, SQLite's plan is a search, but for the few that are meant to list everything."""
    with listening(Home(tmp_path / "home")) as (store, db):
        story_in_a_used_store(store, db)
        asked = dict(db.asked)
        unheard = {text for text in sql_in_the_source() if not any(text in sql for sql in asked)}
        assert unheard == set(), "the story does not ask this"
        wrong = []
        for sql, parameters in asked.items():
            if SQL.match(sql):
                for *_, step in sqlite3.Connection.execute(db, f"EXPLAIN QUERY PLAN {sql}", parameters):
                    if step.startswith(("SCAN", "USE TEMP")) and not step.startswith(tuple(WHOLE)):
                        wrong.append((step, sql))
        assert wrong == []


def story_in_a_used_store(store: Store, db: Listening, count: int = 10) -> int:
    """How many steps SQLite's machine takes for the story, after so many operations."""
    fill(store, db, count)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(step, 1)
    story(store)
    db.set_progress_handler(None, 1)
    return steps


def test_years_of_operations_take_no_more_steps(tmp_path: Path) -> None:
    """A search that finds too much is none: counted in instructions of SQLite's machine, not in time."""
    taken = []
    for count in (100, 2_000):
        with listening(Home(tmp_path / f"home-{count}")) as (store, db):
            taken.append(story_in_a_used_store(store, db, count))
    assert taken[1] < taken[0] * 1.05, taken
