"""Compares the world with the journal. It reads both for itself, and uses nothing of Safepoint's own code."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos import processes
from chaos.play import events
from chaos.played import Client, Played
from chaos.served import Served
from ssh.servers import GIT_ENVIRONMENT

PATIENCE = 60.0
"""Seconds in which whoever is about to finish has finished."""
_ACCEPTED = ("now", "after step")
_RESTORED = ("failed", "cancelled")


@dataclass
class Audited:
    """What the audit of a round has found, and what it has counted on the way."""

    violations: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    recoveries: int = 0
    stuck: int = 0


class Auditor:
    def __init__(self, served: Served, patience: float = PATIENCE) -> None:
        self._served = served
        self._patience = patience
        self._root = served.root
        self._database = served.root / "safepoint.db"

    def audit(self, played: Played) -> Audited:
        found = Audited()
        with self._open() as db:
            self._free_the_stuck(db, played, found)
        deadline = time.monotonic() + self._patience
        while violations := self._world(played):
            if time.monotonic() > deadline:
                found.violations += violations
                break
            time.sleep(0.02)
        with self._open() as db:
            numbers = [
                row[0] for row in db.execute("SELECT id FROM operations WHERE id > ?", (played.first_operation,))
            ]
            for number in numbers:
                found.violations += self._history(db, number, found)
            found.violations += self._clients(db, played, found)
        found.violations += self._log(played)
        return found

    def _open(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, isolation_level=None, timeout=30))

    def _free_the_stuck(self, db: sqlite3.Connection, played: Played, found: Audited) -> None:
        """What is stuck has to say so for a reason, and has to be mended by `recover` once the reason is gone."""
        for number in [row[0] for row in db.execute("SELECT id FROM operations WHERE ending = 'stuck'").fetchall()]:
            found.stuck += 1
            reasons = [each.get("reason") for each in events(db, number) if each["type"] == "undo failed"]
            if not played.harsh:
                found.violations.append(f"operation {number} is stuck, and nothing was in its way: {reasons}")
            deadline = time.monotonic() + self._patience
            while True:
                self._served.run("recover", str(number), status=None)
                (ending,) = db.execute("SELECT ending FROM operations WHERE id = ?", (number,)).fetchone()
                if ending != "stuck":
                    break
                if time.monotonic() > deadline:
                    found.violations.append(f"operation {number} stays stuck: {reasons}")
                    break

    # One state of the world.

    def _world(self, played: Played) -> list[str]:
        found: list[str] = []
        with self._open() as db:
            found += [
                f"operation {row[0]} is open" for row in db.execute("SELECT id FROM operations WHERE ending IS NULL")
            ]
            routes = self._stats_routes()
            everyone = processes.of_home(self._root)
            scopes: set[str] = set()
            owned = {self._served.process.pid} if self._served.process else set()
            for each in everyone:
                if "supervisor.supervisord" in each.arguments or each.name == "haproxy":
                    owned.add(each.pid)
            for app in self._served.apps:
                current = db.execute(
                    "SELECT number, commit_id, ports FROM releases WHERE app = ? AND state = 'current'", (app,)
                ).fetchall()
                if len(current) > 1:
                    found.append(f"{app} has {len(current)} current releases")
                port = None
                if current:
                    number, commit, ports = current[0]
                    port = json.loads(ports).get("web.1")
                    scopes.add(f"{app}.v{number}.web.1")
                    found += self._serves(app, commit)
                    running = [each for each in everyone if each.variable("SAFEPOINT_APP") == app]
                    owned |= {each.pid for each in running}
                    known = [(each.variable("SAFEPOINT_RELEASE"), each.variable("PORT")) for each in running]
                    if known != [(f"v{number}", str(port))]:
                        found.append(f"{app} has processes {known}, and v{number} on {port} is current")
                branch = self._branch(app)
                if branch != (current[0][1] if current else ""):
                    found.append(f"{app}: the branch is {branch[:8]!r}, current is {current[:1]}")
                if routes.get(app) != port:
                    found.append(f"{app}: HAProxy routes to {routes.get(app)}, and the current release is on {port}")
                found += self._files(app, db, played)
            if set(routes) - set(self._served.apps):
                found.append(f"HAProxy has routes of nobody: {routes}")
            text = self._read("run/routes.map")
            if dict(line.split() for line in text.splitlines()) != {app: str(at) for app, at in routes.items()}:
                found.append(f"routes.map has {text!r}, HAProxy {routes}")
        # Without cgroups each process has its keepers.
        keepers = {f"{scope}.json" for scope in scopes}
        owned |= {each.pid for each in everyone if any(Path(word).name in keepers for word in each.arguments)}
        found += [f"process {each.pid} of nobody: {each.arguments}" for each in everyone if each.pid not in owned]
        found += self._shared(scopes)
        return found

    def _serves(self, app: str, commit: str) -> Iterator[str]:
        version = self._git(app, "show", f"{commit}:version")
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._served.http_port}/", headers={"Host": f"{app}.localhost"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                answer = response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                answer = f"{error.code} {error.read().decode()}"
        except OSError as error:
            answer = str(error)
        if answer != version:
            yield f"{app} answers {answer!r}, and {version!r} is current"

    def _files(self, app: str, db: sqlite3.Connection, played: Played) -> Iterator[str]:
        releases = dict(db.execute("SELECT number, state FROM releases WHERE app = ?", (app,)).fetchall())
        kept = {f"v{number}" for number, state in releases.items() if state != "pruned"}
        directories = {each.name for each in self._list(f"apps/{app}/releases")}
        if directories != kept:
            yield f"{app} has release directories {sorted(directories)}, and keeps {sorted(kept)}"
        for log in self._list(f"apps/{app}/logs"):
            if log.name.partition(".")[0] not in kept:
                yield f"{app} has a log of nobody: {log.name}"
        if (self._root / "apps" / app / "tmp").exists():
            yield f"{app} has a scratch directory"
        for name in (f"{app}.sock", f"{app}.next.sock"):
            if (self._root / "run" / name).exists():
                yield f"a control socket of nobody: {name}"
        repository = self._root / "repositories" / f"{app}.git"
        for pattern in ("HEAD.lock", "config.lock", "packed-refs.lock", "refs/**/*.lock"):
            for path in repository.glob(pattern):
                yield f"{app}: a lock in the repository: {path.name}"
        # What a push leaves that died before it had an operation is swept by the next one that publishes, or takes back
        # what it received.
        (ran,) = db.execute(
            "SELECT count(*) FROM operations WHERE app = ? AND id > ? AND (ending = 'succeeded' OR"
            " ending IN ('failed', 'cancelled') AND EXISTS (SELECT 1 FROM events WHERE operation = id"
            " AND json_extract(event, '$.type') = 'undo done' AND json_extract(event, '$.step') = 'receive'))",
            (app, played.first_operation),
        ).fetchone()
        for pattern in ("tmp_objdir-*", "incoming-*"):
            for path in (repository / "objects").glob(pattern):
                with suppress(FileNotFoundError):
                    if ran and path.stat().st_mtime < played.began:
                        yield f"{app}: a quarantine of nobody: {path.name}"

    def _shared(self, scopes: set[str]) -> Iterator[str]:
        groups = {scope.removesuffix(".web.1") for scope in scopes}
        specs = {each.name for each in self._list("run/specs")}
        if specs != {f"{scope}.json" for scope in scopes}:
            yield f"there are specs {sorted(specs)}, and {sorted(scopes)} run"
        files = {each.name for each in self._list("run/supervisor.d")}
        if files != {f"{group}.{end}" for group in groups for end in ("conf", "json")}:
            yield f"supervisord has files {sorted(files)}, and {sorted(groups)} run"
        cgroups = {each.name for each in self._served.cgroups() if each.parent.name.startswith("safepoint-")}
        if cgroups - scopes:
            yield f"cgroups of nobody: {sorted(cgroups - scopes)}"
        if cgroups and scopes - cgroups:
            yield f"without a cgroup: {sorted(scopes - cgroups)}"
        locks = self._locks()
        for path in self._list("run"):
            if path.suffix == ".pid" and path.stat().st_ino in locks and path.name != "supervisord.pid":
                yield f"{path.name} is locked by process {locks[path.stat().st_ino]}"
        for path in self._list("run"):
            reserved = {
                f"{name}.new" for name in ("routes.map", "haproxy.listen", "haproxy.cfg")
            }  # the next one's place on the disk
            if path.name.startswith(".") or (path.name.endswith(".new") and path.name not in reserved):
                yield f"half a file: run/{path.name}"

    def _stats_routes(self) -> dict[str, int]:
        text = b""
        here = os.open(self._root / "run", os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as stats:
                stats.settimeout(20)
                stats.connect(f"/proc/self/fd/{here}/haproxy.socket")
                stats.sendall(b"show map routes.map\n")
                while chunk := stats.recv(65536):
                    text += chunk
        except OSError:
            return {}
        finally:
            os.close(here)
        return {line.split()[1]: int(line.split()[2]) for line in text.decode().splitlines() if line.strip()}

    def _branch(self, app: str) -> str:
        return self._git(app, "for-each-ref", "--format=%(objectname)", "refs/heads/main").strip()

    def _git(self, app: str, *words: str) -> str:
        git = ["git", "-c", "safe.directory=*", f"--git-dir={self._root / 'repositories' / app}.git", *words]
        return subprocess.run(git, env=GIT_ENVIRONMENT, capture_output=True, text=True, timeout=60).stdout

    def _read(self, name: str) -> str:
        try:
            return (self._root / name).read_text()
        except FileNotFoundError:
            return ""

    def _list(self, name: str) -> list[Path]:
        try:
            return sorted((self._root / name).iterdir())
        except FileNotFoundError:
            return []

    @staticmethod
    def _locks() -> dict[int, str]:
        """Inode to the process that holds a flock of it (proc(5), /proc/locks)."""
        found = {}
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "FLOCK" in words and "->" not in words:
                found[int(words[5].rpartition(":")[2])] = words[4]
        return found

    def _log(self, played: Played) -> Iterator[str]:
        """What the server had to mend, or could not do."""
        with (self._root / "safepoint.log").open() as log:
            log.seek(played.log)
            for line in log:
                entry = json.loads(line)
                if entry["event"] == "mending" and not played.harsh and not _of_the_killed(entry, played):
                    yield f"something was left to mend, and no daemon had died: {entry['app']}, {entry['what']}"
                if "exception" in entry and entry["event"] != "a daemon could not be started again":
                    yield f"a defect was logged: {entry}"

    # What the journal says of one operation.

    def _history(self, db: sqlite3.Connection, number: int, found: Audited) -> Iterator[str]:
        ending, commit, app, kind = db.execute(
            "SELECT ending, json_extract(plan, '$.commit'), app, json_extract(plan, '$.kind') FROM operations"
            " WHERE id = ?",
            (number,),
        ).fetchone()
        story = events(db, number)
        types = [each["type"] for each in story]
        found.endings[ending] += 1
        found.recoveries += types.count("worker died")
        for event in story:
            if event["type"] == "cancel requested":
                found.verdicts[event["verdict"]] += 1
        if story and ending is not None and [e["ending"] for e in story if e["type"] == "ended"][-1:] != [ending]:
            yield f"operation {number} ended as {ending}, and its journal says {types[-1:]}"
        accepted = [e for e in story if e["type"] == "cancel requested" and e["verdict"] in _ACCEPTED]
        if accepted and ending not in ("cancelled", "stuck"):
            yield f"operation {number} accepted a cancel and ended as {ending}"
        if ending == "cancelled" and not accepted:
            yield f"operation {number} is cancelled, and nobody's cancel was accepted"
        if (ending == "succeeded") != ("committed" in types):
            yield f"operation {number} ended as {ending}, committed: {'committed' in types}"
        if (ending == "superseded") != ("superseded" in types):
            yield f"operation {number} ended as {ending}: {types}"
        if ending in ("superseded",) and "step started" in types:
            yield f"operation {number} was superseded and had begun"
        if ending in _RESTORED:
            begun = {e["step"] for e in story if e["type"] == "step started"}
            undone = {e["step"] for e in story if e["type"] == "undo done"}
            if begun != undone:
                yield f"operation {number} ended as {ending}, and {sorted(begun - undone)} were not undone"
        if kind == "deploy":
            yield from self._migrations(number, app, commit, str(ending), types)
        output = self._root / "operations" / f"{number}.log"
        if ending in (*_RESTORED, "succeeded") and "step started" in types and not output.exists():
            yield f"operation {number} has no output"

    def _migrations(self, number: int, app: str, commit: str, ending: str, types: list[str]) -> Iterator[str]:
        version = self._git(app, "show", f"{commit}:version")
        lines = [line.split()[1] for line in self._served.ledger.read_text().splitlines() if line.split()[0] == version]
        if ending == "succeeded" and (lines[-1:] != ["up"] or "down" in lines):
            yield f"operation {number} succeeded, and its migration was {lines}"
        if ending in _RESTORED and lines[-1:] == ["up"]:
            yield f"operation {number} ended as {ending}, and its migration was {lines}"

    # What the clients were told.

    def _clients(self, db: sqlite3.Connection, played: Played, found: Audited) -> Iterator[str]:
        audit = self._audit_entries(played)
        for client in played.clients:
            match client.kind:
                case "push" | "rollback":
                    yield from self._pusher(db, played, client)
                case "follow":
                    yield from self._follower(db, client)
                case "cancel":
                    yield from self._canceller(db, client, audit)
        for number, ending in db.execute(
            "SELECT id, ending FROM operations WHERE id > ?", (played.first_operation,)
        ).fetchall():
            verdicts = [each["verdict"] for each in audit if each.get("operation") == number]
            if not {"begun", "queued"} & set(verdicts) or ending not in verdicts:
                yield f"the audit of operation {number}, which ended as {ending}, has {verdicts}"

    def _audit_entries(self, played: Played) -> list[dict[str, Any]]:
        text = self._served.run("audit", "--since", "1h", "--json").stdout
        return [each for each in json.loads(text) if (each.get("operation") or 0) > played.first_operation]

    def _pusher(self, db: sqlite3.Connection, played: Played, client: Client) -> Iterator[str]:
        status, said = client.process.returncode, client.said
        if "Traceback" in said:
            yield f"{client.token} was told a traceback: {said}"
        if "internal error" in said:
            yield f"{client.token} was told of a defect: {said}"
        row = db.execute("SELECT id, ending FROM operations WHERE reason = ?", (client.token,)).fetchone()
        for number, told in re.findall(r"operation (\d+) (cancelled|failed|succeeded) ", said):
            (ended,) = db.execute("SELECT ending FROM operations WHERE id = ?", (int(number),)).fetchone()
            if ended != told:
                yield f"{client.token} was told that operation {number} {told}, and it is {ended}"
        ending = row[1] if row else None
        no_wait = played.round.pushes[client.push].no_wait
        if status == 0 and ending != "succeeded" and not (no_wait and row):
            yield f"{client.token} exited with 0, and its operation is {row}: {said}"
        if status != 0 and ending == "succeeded" and not client.disturbed:
            yield f"{client.token} exited with {status}, and its operation is {row}: {said}"

    def _follower(self, db: sqlite3.Connection, client: Client) -> Iterator[str]:
        (ending,) = db.execute("SELECT ending FROM operations WHERE id = ?", (client.operation,)).fetchone()
        wanted = {"succeeded": 0, "failed": 1, "cancelled": 3, "superseded": 3, "stuck": 4}[ending]
        status = client.process.returncode
        # One that was stuck has been helped since.
        if not client.leaves and status not in (wanted, 4):
            yield f"{client.token} exited with {status}; operation {client.operation} ended as {ending}: {client.said}"

    def _canceller(self, db: sqlite3.Connection, client: Client, audit: list[dict[str, Any]]) -> Iterator[str]:
        if client.leaves:
            return
        try:
            told = json.loads(client.said)
        except ValueError:
            yield f"{client.token} was told no verdict: {client.said}"
            return
        journalled = [
            each["verdict"]
            for each in events(db, client.operation)
            if each["type"] == "cancel requested" and each["reason"] == client.token
        ]
        if told["verdict"] not in journalled:
            yield f"{client.token} was told {told['verdict']!r}, and the journal has {journalled}"
        (ending,) = db.execute("SELECT ending FROM operations WHERE id = ?", (client.operation,)).fetchone()
        status = client.process.returncode
        if told["verdict"] in (*_ACCEPTED, "already cancelling"):
            if ending not in ("cancelled", "stuck"):
                yield f"{client.token} was told {told['verdict']!r}, and operation {client.operation} ended as {ending}"
            if status not in (0, 4):
                yield f"{client.token} exited with {status} on {told['verdict']!r}"
        elif status not in (3, 4):
            yield f"{client.token} exited with {status} on {told['verdict']!r}"
        entries = [each for each in audit if each.get("reason") == client.token]
        if {each["verdict"] for each in entries} != set(journalled):
            yield f"{client.token} is in the audit as {entries}, and the journal has {journalled}"


def _of_the_killed(entry: dict[str, Any], played: Played) -> bool:
    """Who is killed before its operation is there, or as it moves to the slot of those that run, leaves a socket."""
    killed = any(name.endswith("KILL") and number for name, number in played.struck.items())
    died = any(push.dies_after is not None for push in played.round.pushes)
    forced = any(cancel.force for cancel in played.round.cancels)
    return entry["what"] == "removing a control socket" and (killed or died or forced)


def shown(violations: Iterable[str]) -> str:
    return "\n".join(f"  - {each}" for each in violations)
