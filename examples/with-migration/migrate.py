"""`migrate.py up` brings the database to what this release needs; `migrate.py down` takes back what this release did.

Each migration is a pair of files, NUMBER-NAME.up.sql and NUMBER-NAME.down.sql. Every one runs in a transaction together
with the record of it. So both commands may be run twice, with nothing to do, or after one that was killed half way.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from database import connect, is_outside

MIGRATIONS = Path(__file__).parent / "migrations"
# A deploy that is taken back must not take back what an earlier release brought: so each row says who did it.
RECORD = "CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, release TEXT NOT NULL)"


def up(database: sqlite3.Connection, release: str) -> None:
    for file in sorted(MIGRATIONS.glob("*.up.sql")):
        name = file.name.removesuffix(".up.sql")
        with_record = ("INSERT INTO migration (name, release) VALUES (?, ?)", (name, release))
        if run(database, file, name, with_record, when_recorded=False):
            print(f"migrated up: {name}", flush=True)


def down(database: sqlite3.Connection, release: str) -> None:
    mine = database.execute("SELECT name FROM migration WHERE release = ? ORDER BY name DESC", (release,)).fetchall()
    for (name,) in mine:
        file = MIGRATIONS / f"{name}.down.sql"
        if run(database, file, name, ("DELETE FROM migration WHERE name = ?", (name,)), when_recorded=True):
            print(f"migrated down: {name}", flush=True)


def run(
    database: sqlite3.Connection, file: Path, name: str, record: tuple[str, tuple[str, ...]], *, when_recorded: bool
) -> bool:
    """Whether there was something to do. The file and its record happen together, or neither does."""
    database.execute("BEGIN IMMEDIATE")  # another migration waits here, so what is read next stays true
    try:
        recorded = database.execute("SELECT 1 FROM migration WHERE name = ?", (name,)).fetchone() is not None
        needed = recorded is when_recorded
        if needed:
            for statement in statements(file.read_text(encoding="utf-8")):
                database.execute(statement)
            database.execute(*record)
        database.execute("COMMIT")
    except sqlite3.Error as error:
        sys.exit(f"cannot migrate: {file.name}: {error}")  # closing the database rolls back what is not committed
    return needed


def statements(sql: str) -> Iterator[str]:
    """One by one: `executescript` would commit the transaction first."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def main() -> None:
    commands = {"up": up, "down": down}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit("usage: migrate.py up|down")
    if sys.argv[1] == "down" and not is_outside():
        return  # `up` was refused for it, and did nothing; an undo that fails here would lock the app
    with closing(connect()) as database:
        database.execute(RECORD)
        commands[sys.argv[1]](database, os.environ.get("SAFEPOINT_RELEASE", "v0"))


if __name__ == "__main__":
    main()
