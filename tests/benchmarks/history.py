"""Row 13: what a store with a million operations costs those who look, push and cancel, against one with a hundred."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.bed import FILES, WAITING_BUILD, Bed, bed, commit, timed
from benchmarks.push import in_ms
from benchmarks.rows import Row
from benchmarks.running import Result, Run
from benchmarks.side_by_side import Contender, interleaved
from deploying import App
from ssh.servers import Place

APPS = 50
FEW, MANY = 100, 1_000_000
AT = re.compile(r'"at":([0-9.]+)')
Template = list[tuple[int, str, float, str]]
"""Of each event its number, what is before its time, how long after the opening it was, and what is after."""


def measure(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    run.need_space(8 if not run.small else 1)
    place = run.place("history")
    with ExitStack() as stack:
        run.say("running one deploy that succeeds and one that is cancelled, whose journals are copied")
        plan, environment, release, templates = _models(place / "model")
        beds = {}
        for name, count in (("few", FEW), ("many", run.size(MANY))):
            run.say(f"filling a store with {count:,} operations")
            directory = place / name
            directory.mkdir()
            _fill(Place(directory).home.database, count, plan, environment, release, templates)
            beds[name] = stack.enter_context(bed(directory))
        contenders = [_contender(name, found) for name, found in beds.items()]
        found = interleaved(contenders, run.rounds(15), run.on_round)
        events = sum(len(template) for template, share in templates for _ in range(share)) / 10
        note = f"{APPS} apps, {events:.0f} events an operation on average, a database of {_size(beds['many'])}"
        for row in rows:
            what = row.key.partition(".")[2]
            yield Result(row, in_ms(found[f"{what} many"]), in_ms(found[f"{what} few"]), (note,))


def _contender(name: str, served: Bed) -> Contender:
    app = served.app("app0", FILES)
    served.deploy(app.name, served.bring(app, commit(app.tree, {}, "1")))
    app.write({"safepoint.toml": WAITING_BUILD})
    numbers = iter(range(1_000_000))

    def go() -> Mapping[str, float]:
        app.commit(str(next(numbers)))
        return {f"{what} {name}": took for what, took in _through(served, app).items()}

    return go


def _through(served: Bed, app: App) -> dict[str, float]:
    """One push that is cancelled in its build, and what one asks meanwhile."""
    began = time.perf_counter()
    with app.pushing(served.embedded) as push:
        number = push.operation()
        found = {"banner": time.perf_counter() - began}
        served.wait_step(number, "build")
        found["list"] = timed(served.command("operation:list"))
        found["show"] = timed(served.command("operation:show", str(number)))
        found["cancel"] = timed(served.command("operation:cancel", str(number), "--no-wait"))
        push.finish()
    assert served.wait_ended(number).state == "cancelled"
    return found


def _models(directory: Path) -> tuple[str, str, tuple[str, ...], list[tuple[Template, int]]]:
    """The plan, the environment and the release of a real deploy; real journals, and how many of ten are like each."""
    directory.mkdir()
    with bed(directory) as served:
        app = served.app("app0", FILES)
        app.commit("1")
        app.push(served.embedded)
        done = served.newest(app.name).id
        app.commit("2", {"safepoint.toml": WAITING_BUILD})
        with app.pushing(served.embedded) as push:
            cancelled = push.operation()
            served.wait_step(cancelled, "build")
            served.site.run("operation:cancel", str(cancelled))
            push.finish()
        with closing(sqlite3.connect(served.home.database)) as db:
            plan, environment = db.execute("SELECT plan, environment FROM operations WHERE id = ?", (done,)).fetchone()
            release = db.execute("SELECT commit_id, settings, processes, ports, environment FROM releases").fetchone()
            templates = [(_template(db, done), 8), (_template(db, cancelled), 2)]
    return plan, environment, release, templates


def _template(db: sqlite3.Connection, number: int) -> Template:
    (opened,) = db.execute("SELECT opened FROM operations WHERE id = ?", (number,)).fetchone()
    found: Template = []
    for place, text in db.execute("SELECT number, event FROM events WHERE operation = ? ORDER BY number", (number,)):
        at = AT.search(text)
        assert at is not None, text
        found.append((place, text[: at.start(1)], float(at[1]) - opened, text[at.end(1) :]))
    return found


def _fill(  # noqa: PLR0917
    database: Path,
    count: int,
    plan: str,
    environment: str,
    release: tuple[str, ...],
    templates: list[tuple[Template, int]],
) -> None:
    """All in SQL, with nothing durable in between: nobody else uses it yet. A million take a minute or two."""
    first = time.time() - 3600 * 24 * 365 * 3
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -500000")
        db.execute("CREATE TEMP TABLE template (turn INTEGER, number INTEGER, head TEXT, later REAL, tail TEXT)")
        db.execute("BEGIN")
        turn = 0
        for template, share in templates:
            for _ in range(share):
                db.executemany("INSERT INTO template VALUES (?, ?, ?, ?, ?)", [(turn, *event) for event in template])
                turn += 1
        db.execute("CREATE INDEX temp.turns ON template (turn, number)")
        succeeded = templates[0][1]
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
            " INSERT INTO operations (id, app, by, door, reason, opened, plan, environment, queued, waiting, ending)"
            " SELECT i, 'app' || (i % :apps), 'alice', 'ssh from 203.0.113.9', '', :first + i * 90.0,"
            " json_set(:plan, '$.app', 'app' || (i % :apps), '$.release', i / :apps + 1), :environment, 0, 0,"
            " CASE WHEN i % 10 < :succeeded THEN 'succeeded' ELSE 'cancelled' END FROM n",
            {
                "count": count,
                "apps": APPS,
                "first": first,
                "plan": plan,
                "environment": environment,
                "succeeded": succeeded,
            },
        )
        db.execute(
            "INSERT INTO events SELECT o.id, t.number, t.head || printf('%.6f', o.opened + t.later) || t.tail"
            " FROM operations o CROSS JOIN template t ON t.turn = o.id % 10 ORDER BY o.id, t.number"
        )
        db.executemany(
            "INSERT INTO apps (name, branch, created) VALUES (?, 'main', ?)",
            [(f"app{n}", first) for n in range(1, APPS)],
        )
        # The one that is pushed to is made later, in the way in which apps are made; its history is there before it.
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(
            "INSERT INTO releases SELECT app, json_extract(plan, '$.release'), :commit, id, opened, 'pruned',"
            " :settings, :processes, :ports, :environment FROM operations WHERE ending = 'succeeded'",
            dict(zip(("commit", "settings", "processes", "ports", "environment"), release, strict=True)),
        )
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")


def _size(served: Bed) -> str:
    return f"{served.home.database.stat().st_size / 1e6:,.0f} MB"
