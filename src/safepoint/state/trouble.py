"""What a person reads where the database cannot be read or written: a disk that is full, say."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from safepoint import machine
from safepoint.errors import UserError
from safepoint.hints import Any
from safepoint.state.held import holder
from safepoint.state.paths import Home

PRIMARY = 0xFF
"""Of an extended result code (sqlite.org/rescode.html)."""


class CannotStore(UserError):
    """Nothing was written. What it says of an operation that is under way: whoever finds it later goes on with it."""


class Held(CannotStore):
    """Nobody else can write anything until its holder goes on, or is ended."""

    def __init__(self, database: Path) -> None:
        pid = holder(database)
        who = "another process" if pid is None else f"process {pid}"
        end = "" if pid is None else f"; if it hangs, `kill -KILL {pid}`, and what it was doing is recovered"
        super().__init__(f"{who} holds {database} and does not let go of it", f"try again in a moment{end}")
        self.pid = pid


class Connection(sqlite3.Connection):
    """Whose errors are sentences."""

    home: Home

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        try:
            return super().execute(sql, parameters)
        except sqlite3.OperationalError as error:
            if (trouble := explain(error, self.home)) is None:
                raise
            raise trouble from error


def explain(error: sqlite3.Error, place: Home) -> CannotStore | None:
    """None where it is a defect, and not the machine."""
    home = place.root
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and machine.is_full(home)):
        return no_space(home)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and machine.is_read_only(home):
        return CannotStore(f"the file system of {home} is read-only", "make it writable, and try again")
    match code:
        case sqlite3.SQLITE_IOERR:
            return CannotStore(f"the disk of {home} cannot be read or written ({error})", "the kernel's log says more")
        case sqlite3.SQLITE_READONLY:
            return CannotStore(f"the database of {home} cannot be written", "see whose it is, and whether it may be")
        case sqlite3.SQLITE_CANTOPEN:
            return CannotStore(f"the database of {home} cannot be opened", "see whether too many files are open")
        case sqlite3.SQLITE_BUSY:
            return Held(place.database)
    return None


def no_space(home: Path) -> CannotStore:
    return CannotStore(f"{machine.FULL} of {home}", "free some, and try again")
