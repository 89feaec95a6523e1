"""The examples, each by itself: what they promise before Safepoint comes into it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
DEADLINE = 60.0
"""Seconds that a busy machine may take for what is a moment's work."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(directory: Path, command: list[str], **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The app and its port, once it takes connections."""
    port = free_port()
    with subprocess.Popen(
        command, cwd=directory, env=os.environ | {"PORT": str(port)} | environment, stdout=subprocess.PIPE
    ) as process:
        try:
            connect(process, port).close()
            yield process, port
        finally:
            process.kill()


def connect(process: subprocess.Popen[bytes], port: int) -> socket.socket:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        except ConnectionRefusedError:
            assert process.poll() is None, f"it ended with status {process.returncode}"
            assert time.monotonic() < deadline, "it takes no connection"
            time.sleep(0.02)


def get(port: int, path: str = "/") -> tuple[int, str]:
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_hello_web_says_which_release_it_is() -> None:
    """The page has the app, the release and the commit, escaped; without Safepoint it works all the same."""
    release = {"SAFEPOINT_APP": "shop", "SAFEPOINT_RELEASE": "v7", "SAFEPOINT_COMMIT": "5e173381" + "0" * 32}
    with serving(EXAMPLES / "hello-web", [sys.executable, "app.py"], **release, GREETING="<Hi>") as (_, port):
        status, page = get(port)
    assert status == 200
    assert "&lt;Hi&gt; from shop" in page
    assert "v7" in page
    assert "<code>5e173381</code>" in page


def test_hello_web_answers_what_it_has_begun_when_it_is_stopped() -> None:
    """SIGTERM ends it with status 0, but not before a connection that it has taken is answered."""
    with serving(EXAMPLES / "hello-web", [sys.executable, "app.py"]) as (process, port):
        with connect(process, port) as taken:
            taken.sendall(b"GET / HTTP/1.0\r\n")
            get(port)  # connections are taken in their order: so the first one has been
            process.send_signal(signal.SIGTERM)
            taken.sendall(b"\r\n")
            assert taken.recv(12) == b"HTTP/1.0 200"
            while taken.recv(65536):
                pass
        assert process.wait(DEADLINE) == 0


def test_slow_build_leaves_its_watcher_nowhere(tmp_path: Path) -> None:
    """A build that ends by itself ends what it started, and has made the page."""
    shutil.copytree(EXAMPLES / "slow-build", tmp_path, dirs_exist_ok=True)
    environment = os.environ | {"BUILD_PARTS": "1", "SAFEPOINT_RELEASE": "v3"}
    # It has the output of no one: this would wait for ever for a child that keeps it.
    built = subprocess.run(["./build.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert built.stdout == "Compiling part 1 of 1...\nBuilt all 1 parts.\n"
    assert (tmp_path / "public/index.html").read_text() == "<li>part 1, of v3\n"


def test_failing_health_fails_until_it_has_its_setting() -> None:
    """500 with the reason in the log; with MAIL_SERVER 200."""
    with serving(EXAMPLES / "failing-health", [sys.executable, "app.py"]) as (process, port):
        assert get(port, "/healthz") == (500, "MAIL_SERVER is not set\n")
        assert process.stdout is not None
        assert process.stdout.readline() == b"not healthy: MAIL_SERVER is not set\n"
    with serving(EXAMPLES / "failing-health", [sys.executable, "app.py"], MAIL_SERVER="mail") as (_, port):
        assert get(port, "/healthz")[0] == 200


def test_node_hello_answers_and_stops() -> None:
    """SIGTERM ends it with status 0."""
    with serving(EXAMPLES / "node-hello", ["node", "server.js"], SAFEPOINT_RELEASE="v2") as (process, port):
        assert get(port)[1].startswith("Hello from node-hello v2, on Node v")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


class Notes:
    """A copy of with-migration, and its database beside it."""

    def __init__(self, directory: Path) -> None:
        self.app = directory / "app"
        self.database = directory / "notes.db"
        shutil.copytree(EXAMPLES / "with-migration", self.app)

    def migrate(self, direction: str, release: str = "v1", *, database: str | None = None) -> tuple[int, str]:
        environment = {"SAFEPOINT_RELEASE": release, "DATABASE": str(self.database) if database is None else database}
        done = subprocess.run(
            [sys.executable, "migrate.py", direction],
            cwd=self.app,
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    def add(self, name: str, up: str, down: str) -> None:
        (self.app / "migrations" / f"{name}.up.sql").write_text(up)
        (self.app / "migrations" / f"{name}.down.sql").write_text(down)

    def schema(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            return [row[0] for row in database.execute("SELECT sql FROM sqlite_master WHERE sql <> '' ORDER BY name")]


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path)


@pytest.mark.parametrize("database", ["", "notes.db"])
def test_a_database_inside_the_release_is_refused(notes: Notes, database: str) -> None:
    """It would go away with the release; the sentence says what to set. Nothing has to be undone then."""
    status, said = notes.migrate("up", database=database)
    assert status == 1
    assert "safepoint config:set APP DATABASE=/var/lib/APP.db" in said
    assert "Traceback" not in said
    assert notes.migrate("down", database=database) == (0, "")


def test_migrations_may_be_run_again(notes: Notes) -> None:
    """The second time there is nothing to do, in either direction."""
    assert notes.migrate("up") == (0, "migrated up: 1-note\n")
    assert notes.migrate("up") == (0, "")
    assert notes.migrate("down") == (0, "migrated down: 1-note\n")
    assert notes.migrate("down") == (0, "")


def test_undoing_takes_back_what_its_own_release_did(notes: Notes) -> None:
    """What an earlier release brought stays; a release that brought nothing takes nothing back."""
    notes.migrate("up", "v1")
    before = notes.schema()
    assert notes.migrate("up", "v2") == (0, "")
    assert notes.migrate("down", "v2") == (0, "")
    notes.add(
        "2-colour",
        "ALTER TABLE note ADD COLUMN colour TEXT;\nUPDATE note SET colour = ';';\n",
        "ALTER TABLE note DROP colour",
    )
    assert notes.migrate("up", "v3") == (0, "migrated up: 2-colour\n")
    assert notes.schema() != before
    assert notes.migrate("down", "v3") == (0, "migrated down: 2-colour\n")
    assert notes.schema() == before


def test_a_migration_that_is_interrupted_has_not_happened(notes: Notes) -> None:
    """It can be undone or begun again: its statements and its record are one transaction."""
    notes.migrate("up", "v1")
    before = notes.schema()
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO half SELECT i FROM n;"
    notes.add("2-half", f"CREATE TABLE half (id INTEGER);\n{endless}\n", "DROP TABLE half;")
    environment = os.environ | {"SAFEPOINT_RELEASE": "v2", "DATABASE": str(notes.database)}
    with subprocess.Popen([sys.executable, "migrate.py", "up"], cwd=notes.app, env=environment) as process:
        deadline = time.monotonic() + DEADLINE
        # The rollback journal is there from the transaction's first change on.
        while not notes.database.with_name("notes.db-journal").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
    assert notes.schema() == before
    assert notes.migrate("down", "v2") == (0, "")
    notes.add("2-half", "CREATE TABLE half (id INTEGER);\n", "DROP TABLE half;")
    assert notes.migrate("up", "v2") == (0, "migrated up: 2-half\n")


def test_a_migration_that_fails_has_not_happened(notes: Notes) -> None:
    """Nor have the statements before the one that failed."""
    notes.migrate("up", "v1")
    before = notes.schema()
    notes.add("2-wrong", "CREATE TABLE half (id INTEGER);\nDROP TABLE nowhere;\n", "DROP TABLE half;")
    status, said = notes.migrate("up", "v2")
    assert status == 1
    assert "cannot migrate: 2-wrong.up.sql: no such table: nowhere" in said
    assert "Traceback" not in said
    assert notes.schema() == before


def test_the_page_of_notes_lists_and_adds(notes: Notes) -> None:
    """A note that is added by the form is on the page, escaped."""
    notes.migrate("up")
    with serving(notes.app, [sys.executable, "app.py"], DATABASE=str(notes.database)) as (_, port):
        assert "<li>Every release finds this note.</li>" in get(port)[1]
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
            connection.request("POST", "/", body="text=%3Cb%3E+%26+co")
            assert connection.getresponse().status == 303
        assert "<li>&lt;b&gt; &amp; co</li>" in get(port)[1]
