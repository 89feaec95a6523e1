"""The store: one SQLite database that holds the journal, apps, keys, configuration and releases.

Write-ahead log with synchronous=FULL: what a transaction has returned from is on the disk. One connection a thread.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safepoint.core import events
from safepoint.core.app import App
from safepoint.core.audit import DENIED, Entry, Opened, in_order, of_operation
from safepoint.core.keys import Key
from safepoint.core.operation import Header, Operation, replay
from safepoint.core.plan import Plan, ProcessIdentity
from safepoint.core.queueing import OnBusy
from safepoint.core.release import Release
from safepoint.core.roles import Grant, Role
from safepoint.core.settings import Settings
from safepoint.errors import NotFound, UserError, no_such_app, no_such_operation
from safepoint.hints import Any, Self
from safepoint.state import trouble
from safepoint.state.paths import Home

_VERSION = 1
_BUSY_SECONDS = 30
_PAGE = 500
_AUDITED = (
    "SELECT DISTINCT operation FROM events INDEXED BY events_for_audit WHERE json_extract(event, '$.type') IN"
    " ('begun', 'refused', 'superseded', 'cancel requested', 'recovery requested', 'ended')"
)
"""Word by word as the index has it: else SQLite does not see that it can be used."""
RESERVE = 8 * 1024 * 1024
"""Bytes of the write-ahead log that are set aside: SQLite uses them anew after half of that."""


class Store:
    def __init__(self, home: Home, connection: sqlite3.Connection) -> None:
        self.home = home
        self._db = connection

    @classmethod
    def create(cls, home: Home) -> Self:
        """Open the store, and make the home and the database where they are not there yet."""
        home.create()
        _is_ours(home)
        return cls._open(home)

    @classmethod
    def open(cls, home: Home) -> Self:
        """Raises NotFound where there is no Safepoint home, UserError where it is another user's."""
        if not _is_ours(home):
            raise NotFound(
                f"{home.root} is not a Safepoint home",
                "set SAFEPOINT_HOME or --home, or make one with `safepoint serve` or `safepoint apps:create`",
            )
        return cls._open(home)

    @classmethod
    def _open(cls, home: Home) -> Self:
        try:
            db = sqlite3.connect(home.database, timeout=_BUSY_SECONDS, isolation_level=None, factory=trouble.Connection)
        except sqlite3.Error as error:
            raise UserError(f"cannot open {home.database}: {error}") from None
        db.home = home
        try:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = FULL")
            store = cls(home, db)
            store._migrate()
        except sqlite3.Error as error:
            db.close()
            raise UserError(f"cannot read {home.database}: {error}") from None
        except BaseException:
            db.close()
            raise
        return store

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == _VERSION:
            return
        if version > _VERSION:
            raise UserError(f"{self.home.database} was written by a newer Safepoint", "upgrade this one")
        self.home.database.chmod(0o600)
        self._db.execute("PRAGMA journal_mode = WAL")
        with self.transaction():
            # Two first commands may race to here; the second one finds the work done.
            if self._db.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                script = (Path(__file__).parent / "schema.sql").read_text()
                for statement in script.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The server's one lock: taken at the start, so that what is read in it stays true until it ends."""
        if self._db.in_transaction:  # a part of the caller's, which stands or falls as one
            yield self._db
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite has ended it by itself after some errors
                self._db.execute("ROLLBACK")
            raise

    def reserve(self) -> None:
        """Set space aside for what is going to be journalled, which nothing that fills the disk can take then.

        So a deploy that has filled the disk can be journalled as failed, and undone, which frees it again. On file
        systems that copy on write, or know no fallocate(2), there is no such promise. Raises CannotStore.
        """
        log = self.home.database.with_name(f"{self.home.database.name}-wal")
        with self.transaction():  # where the file system cannot do it, the C library writes: nobody else may then
            fd = os.open(log, os.O_RDWR | os.O_CLOEXEC)
            try:
                # What lies behind SQLite's last record is not a record of its, whatever it is.
                os.posix_fallocate(fd, 0, RESERVE)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise trouble.no_space(self.home.root) from None
            finally:
                os.close(fd)

    # Settings of the server.

    def setting(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_setting(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def host_facts(self) -> dict[str, str]:
        """What the last `serve` has said of this machine; empty where there was none."""
        return dict(json.loads(self.setting("host_facts") or "{}"))

    def set_host_facts(self, facts: Mapping[str, str]) -> None:
        self.set_setting("host_facts", _dump(facts))

    # Apps and keys.

    def create_app(self, name: str, branch: str) -> None:
        try:
            self._db.execute("INSERT INTO apps (name, branch, created) VALUES (?, ?, ?)", (name, branch, time.time()))
        except sqlite3.IntegrityError:
            raise UserError(f"there is already an app named {name}", "choose another name") from None

    def app(self, name: str) -> App | None:
        row = self._db.execute("SELECT name, branch, created, on_busy FROM apps WHERE name = ?", (name,)).fetchone()
        return _app(row) if row else None

    def need_app(self, name: str) -> App:
        app = self.app(name)
        if app is None:
            raise no_such_app(name)
        return app

    def apps(self) -> list[App]:
        return [_app(row) for row in self._db.execute("SELECT name, branch, created, on_busy FROM apps ORDER BY name")]

    def set_on_busy(self, name: str, policy: OnBusy) -> None:
        self._db.execute("UPDATE apps SET on_busy = ? WHERE name = ?", (policy.value, name))

    def delete_app(self, name: str) -> None:
        """Its operations stay, as history."""
        self._db.execute("DELETE FROM apps WHERE name = ?", (name,))

    def add_key(self, name: str, type_: str, blob: bytes, grant: Grant = Grant(Role.OPERATOR)) -> None:  # noqa: B008
        with self.transaction() as db:
            for row in db.execute("SELECT name FROM keys WHERE name = ? OR blob = ?", (name, blob)):
                what = f"there is already a key named {name}" if row[0] == name else f"this key is there as {row[0]}"
                raise UserError(what, "`keys:remove` it first")
            db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (name, type_, blob, time.time()))
            self.grant(name, grant)

    def keys(self) -> list[Key]:
        return [Key(*row) for row in self._db.execute("SELECT name, type, blob, added FROM keys ORDER BY name")]

    def key(self, name: str) -> Key | None:
        row = self._db.execute("SELECT name, type, blob, added FROM keys WHERE name = ?", (name,)).fetchone()
        return Key(*row) if row else None

    def key_by_blob(self, blob: bytes) -> Key | None:
        row = self._db.execute("SELECT name, type, blob, added FROM keys WHERE blob = ?", (blob,)).fetchone()
        return Key(*row) if row else None

    def remove_key(self, name: str) -> None:
        if self._db.execute("DELETE FROM keys WHERE name = ?", (name,)).rowcount == 0:
            raise NotFound(f"there is no key named {name}", "`keys` lists them")

    def grants(self, key: str) -> tuple[Grant, ...]:
        """None where there is no such key."""
        rows = self._db.execute("SELECT role, apps FROM grants WHERE key = ? ORDER BY apps", (key,))
        return tuple(Grant(Role(role), apps) for role, apps in rows)

    def grant(self, key: str, grant: Grant) -> None:
        """One role a key and glob: another one takes its place. Raises NotFound."""
        with self.transaction() as db:
            if self.key(key) is None:
                raise NotFound(f"there is no key named {key}", "`keys` lists them")
            db.execute("INSERT OR REPLACE INTO grants VALUES (?, ?, ?)", (key, grant.apps, grant.role.value))

    def revoke(self, key: str, role: Role | None, apps: str | None) -> int:
        """Take away what the key has been granted, of that role and for that glob where they are given; how many."""
        return self._db.execute(
            "DELETE FROM grants WHERE key = ? AND role = ifnull(?, role) AND apps = ifnull(?, apps)", (key, role, apps)
        ).rowcount

    # The audit, of what is no operation. What is one is in its own journal.

    def add_audit(self, *, by: str, door: str, app: str, what: str, verdict: str, reason: str = "") -> None:
        """In the transaction of what it tells of, where that has one."""
        self._db.execute(
            "INSERT INTO audit (at, by, door, app, what, verdict, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (time.time(), by, door, app, what, verdict, reason),
        )

    def audit(self, app: str | None = None, since: float | None = None) -> Iterator[Entry]:
        """From `since` on, seconds since the epoch, oldest first. As it is read: all of it may not fit into memory.

        No statement is open in between: whoever is slow to read must not keep the write-ahead log from beginning anew.
        """
        others = ([entry] for entry in self._audit_of_others(app, since))
        operations = (self.audit_of(number) for number in self._audited_operations(app, since))
        stories = heapq.merge(others, operations, key=lambda story: story[0].at)
        return (entry for entry in in_order(stories) if since is None or entry.at >= since)

    def _audit_of_others(self, app: str | None, since: float | None) -> Iterator[Entry]:
        start: int | None = 1
        if since is not None:
            query = "SELECT min(id) FROM audit INDEXED BY audit_by_time WHERE at >= ?"
            (start,) = self._db.execute(query, (since,)).fetchone()
        query = "SELECT id, at, by, door, app, what, verdict, reason FROM audit"
        for _id, at, by, door, name, what, verdict, reason in self._pages(query, app, start):
            effective = None if verdict == DENIED else at
            yield Entry(at, by, door, name, what, verdict, reason, requested=at, effective=effective)

    def _audited_operations(self, app: str | None, since: float | None) -> Iterator[int]:
        """Those opened since then, and what was opened before and went on, or was asked something."""
        start: int | None = 1
        if since is not None:
            query = "SELECT min(id) FROM operations INDEXED BY operations_by_time WHERE opened >= ?"
            (start,) = self._db.execute(query, (since,)).fetchone()
            older = self._db.execute(
                f"{_AUDITED} AND json_extract(event, '$.at') >= ? AND operation < ? ORDER BY operation",
                (since, self.next_operation() if start is None else start),
            ).fetchall()
            for (number,) in older:
                if app is None or self._app_of(number) == app:
                    yield number
        for row in self._pages("SELECT id FROM operations", app, start):
            yield row[0]

    def _app_of(self, operation: int) -> str:
        return str(self._db.execute("SELECT app FROM operations WHERE id = ?", (operation,)).fetchone()[0])

    def _pages(self, query: str, app: str | None, start: int | None) -> Iterator[tuple[Any, ...]]:
        """The rows from ID `start` on, which is what each begins with."""
        whose, values = ("", ()) if app is None else ("app = ? AND ", (app,))
        while start is not None:
            page = self._db.execute(
                f"{query} WHERE {whose}id >= ? ORDER BY id LIMIT {_PAGE}", (*values, start)
            ).fetchall()
            yield from page
            start = page[-1][0] + 1 if page else None

    def audit_of(self, operation: int) -> list[Entry]:
        """What the journal of one operation has for the audit, oldest first. Raises NoSuchOperation."""
        row = self._db.execute(
            "SELECT id, app, by, door, reason, opened, json_extract(plan, '$.kind'), json_extract(plan, '$.commit'),"
            " queued FROM operations WHERE id = ?",
            (operation,),
        ).fetchone()
        if row is None:
            raise no_such_operation(operation)
        number, app, by, door, reason, at, kind, commit, queued = row
        opened = Opened(number, app, by, door, reason, at, f"{kind} {commit[:8]}", bool(queued))
        return list(of_operation(opened, self.events(operation)))

    # Configuration: part of the next release.

    def config(self, app: str) -> dict[str, str]:
        return dict(self._db.execute("SELECT name, value FROM config WHERE app = ? ORDER BY name", (app,)))

    def change_config(self, app: str, changes: Mapping[str, str | None]) -> None:
        """Set each name to its value; None removes it."""
        with self.transaction() as db:
            for name, value in changes.items():
                if value is None:
                    db.execute("DELETE FROM config WHERE app = ? AND name = ?", (app, name))
                else:
                    db.execute("INSERT OR REPLACE INTO config VALUES (?, ?, ?)", (app, name, value))

    # Operations.

    def insert_operation(
        self,
        plan: Plan,
        *,
        by: str,
        door: str,
        reason: str,
        environment: Mapping[str, str],
        queued: bool = False,
    ) -> int:
        """A new operation's row; its ID. To be called in a transaction that has seen that the app has room for it."""
        cursor = self._db.execute(
            "INSERT INTO operations (app, by, door, reason, opened, plan, environment, queued, waiting)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (plan.app, by, door, reason, time.time(), _dump(plan.to_json()), _dump(environment), queued, queued),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def next_operation(self) -> int:
        """The ID that the next row gets; true within a transaction."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'operations'").fetchone()
        return (row[0] if row else 0) + 1

    def operation(self, number: int) -> Operation:
        """Raises NoSuchOperation."""
        found = self._operations("WHERE id = ?", (number,))
        if not found:
            raise no_such_operation(number)
        return found[0]

    def operations(
        self, app: str | None = None, limit: int = 50, sees: Callable[[str], bool] = lambda _app: True
    ) -> list[Operation]:
        """Newest first, of one app or of those that somebody sees."""
        names = [name for name in self._apps_with_history() if sees(name)] if app is None else [app]
        newest = heapq.nlargest(limit, (number for name in names for number in self._newest(name, limit)))
        return [self.operation(number) for number in newest]

    def _apps_with_history(self) -> list[str]:
        """Also of apps that are gone. Each is one look into the index, and not one a row: DISTINCT reads them all."""
        rows = self._db.execute(
            "WITH RECURSIVE found (app) AS (SELECT min(app) FROM operations UNION ALL"
            " SELECT (SELECT min(app) FROM operations WHERE app > found.app) FROM found WHERE app IS NOT NULL)"
            " SELECT app FROM found WHERE app IS NOT NULL"
        )
        return [row[0] for row in rows]

    def _newest(self, app: str, limit: int) -> list[int]:
        rows = self._db.execute("SELECT id FROM operations WHERE app = ? ORDER BY id DESC LIMIT ?", (app, limit))
        return [row[0] for row in rows]

    def opened_by(self, app: str, receiver: ProcessIdentity) -> int | None:
        """The operation that this push has opened. However many others were opened since."""
        row = self._db.execute(
            "SELECT id FROM operations WHERE app = ? AND json_extract(plan, '$.receiver.started') = ?"
            " AND json_extract(plan, '$.receiver.pid') = ? AND json_extract(plan, '$.receiver.boot') = ?"
            " ORDER BY id DESC LIMIT 1",
            (app, receiver.started, receiver.pid, receiver.boot),
        ).fetchone()
        return row[0] if row else None

    def unfinished(self, app: str) -> Operation | None:
        """The app's operation that has begun and not ended, or that is stuck."""
        number = self._unfinished(app)
        return None if number is None else self.operation(number)

    def waiting(self, app: str) -> Operation | None:
        """The app's operation that waits for its turn."""
        return next(iter(self._operations("WHERE app = ? AND waiting = 1 AND ending IS NULL", (app,))), None)

    def running(self) -> list[Operation]:
        """Every operation that has not ended: each has a worker, or needs one."""
        return self._operations("WHERE ending IS NULL ORDER BY id", ())

    def environment(self, operation: int) -> dict[str, str]:
        """The configuration that the operation works with. Secret: never to be shown."""
        row = self._db.execute("SELECT environment FROM operations WHERE id = ?", (operation,)).fetchone()
        return dict(json.loads(row[0]))

    def _unfinished(self, app: str) -> int | None:
        row = self._db.execute(
            "SELECT id FROM operations WHERE app = ? AND ((ending IS NULL AND waiting = 0) OR ending = 'stuck')", (app,)
        ).fetchone()
        return row[0] if row else None

    def _operations(self, where: str, values: tuple[object, ...]) -> list[Operation]:
        # `where` is one of the constants above.
        query = f"SELECT plan, id, by, door, opened, reason, queued FROM operations {where}"  # noqa: S608
        return [self._replay(*row) for row in self._db.execute(query, values).fetchall()]

    def _replay(self, plan: str, *header: Any) -> Operation:
        return replay(Header(*header), Plan.from_json(json.loads(plan)), self.events(header[0]))

    def events(self, operation: int, after: int = 0) -> list[events.Event]:
        rows = self._db.execute(
            "SELECT event FROM events WHERE operation = ? AND number > ? ORDER BY number", (operation, after)
        )
        return [events.from_json(json.loads(row[0])) for row in rows]

    # Releases.

    def releases(self, app: str, limit: int = -1) -> list[Release]:
        """Newest first, those that are pruned too."""
        return self._releases("WHERE app = ? ORDER BY number DESC LIMIT ?", (app, limit))

    def kept_releases(self, app: str) -> list[Release]:
        """Newest first: what can run, the current one among it."""
        return self._releases("WHERE app = ? AND state IN ('current', 'kept') ORDER BY number DESC", (app,))

    def release(self, app: str, number: int) -> Release | None:
        return next(iter(self._releases("WHERE app = ? AND number = ?", (app, number))), None)

    def current_release(self, app: str) -> Release | None:
        return next(iter(self._releases("WHERE app = ? AND state = 'current'", (app,))), None)

    def next_release(self, app: str) -> int:
        (last,) = self._db.execute("SELECT max(number) FROM releases WHERE app = ?", (app,)).fetchone()
        return (last or 0) + 1

    def mark_pruned(self, app: str, number: int) -> None:
        self._db.execute(
            "UPDATE releases SET state = 'pruned' WHERE app = ? AND number = ? AND state = 'kept'", (app, number)
        )

    def set_ports(self, app: str, number: int, ports: Mapping[str, int]) -> None:
        self._db.execute("UPDATE releases SET ports = ? WHERE app = ? AND number = ?", (_dump(ports), app, number))

    def ports_in_use(self) -> set[int]:
        """Ports that a current release has, or that an operation under way has chosen."""
        rows = self._db.execute("SELECT ports FROM releases WHERE state = 'current'").fetchall()
        used = {port for row in rows for port in json.loads(row[0]).values()}
        for operation in self.running():
            for step in operation.steps:
                used.update((step.data or {}).get("ports", {}).values())
        return used

    def _releases(self, where: str, values: tuple[object, ...]) -> list[Release]:
        query = (
            "SELECT app, number, commit_id, operation, created, state, settings, processes, ports, environment"  # noqa: S608
            f" FROM releases {where}"
        )
        return [
            Release(
                app,
                number,
                commit,
                operation,
                created,
                state,
                settings=Settings.from_json(json.loads(settings)),
                processes=json.loads(processes),
                ports=json.loads(ports),
                environment=json.loads(environment),
            )
            for (
                app,
                number,
                commit,
                operation,
                created,
                state,
                settings,
                processes,
                ports,
                environment,
            ) in self._db.execute(query, values)
        ]


def _app(row: tuple[str, str, float, str]) -> App:
    return App(row[0], row[1], row[2], OnBusy(row[3]))


def _is_ours(home: Home) -> bool:
    """Whether it is a home, if it is nobody else's. Raises UserError.

    root could go on in a home of another user: that user's server cannot use what root makes there, and a worker that
    root starts, to recover a deploy say, would run pushed code as root.
    """
    try:
        ours = home.database.stat().st_uid == os.geteuid()
    except PermissionError:  # only its owner can enter
        ours = False
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not ours:
        raise UserError(f"{home.root} belongs to another user", "run this as the user that runs `safepoint serve`")
    return True


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
