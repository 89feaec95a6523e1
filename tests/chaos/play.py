"""Plays a round: starts its clients, strikes when its moments have come, and waits until all of it has ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos import processes
from chaos.played import Client, Played
from chaos.rounds import DAEMONS, FELT, Blow, Cancel, Deploy, Moment, Push, Round, Strike, Target
from chaos.served import Served
from chaos.watcher import Watcher
from deploying import own_environment

TICK = 0.004
"""Seconds between two looks at the journal."""
DEADLINE = 150.0
"""Seconds until whatever has not ended counts as one that never does."""


class Stuck(AssertionError):
    """Something never came to its end."""


class Player:
    def __init__(
        self,
        served: Served,
        plan: Round,
        directory: Path,
        reboot: Callable[[], None],
        deadline: float = DEADLINE,
    ) -> None:
        self._served = served
        self._plan = plan
        self._directory = directory
        self._reboot = reboot
        self._deadline = deadline
        self.played = Played(plan)
        self._db = _read_only(served.root / "safepoint.db")
        self._seen: dict[int, dict[str, float]] = {}
        """Of each push: when each of its events was first seen."""
        self._operations: dict[int, int] = {}
        """Push to operation."""
        self._stopped: list[tuple[float, int]] = []
        self._pending: list[Strike] = list(plan.strikes)
        self._cancels: list[Cancel] = list(plan.cancels)
        self._followers: list[int] = [index for index, push in enumerate(plan.pushes) for _ in range(push.followers)]
        self._squatters: list[socket.socket] = []

    def play(self) -> Played:
        try:
            return self._play()
        finally:
            self._db.close()
            for squatter in self._squatters:
                squatter.close()
            for client in self.played.clients:
                if client.process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(client.process.pid, signal.SIGKILL)
                client.process.wait()

    def _play(self) -> Played:
        played, plan = self.played, self._plan
        calm = not any(each.target in FELT or each.blow is Blow.FORCE for each in plan.strikes)
        calm = calm and not any(each.force for each in plan.cancels)  # the force does not wait for requests
        (played.first_operation,) = self._db.execute("SELECT ifnull(max(id), 0) FROM operations").fetchone()
        commits = [self._commit(index, push) for index, push in enumerate(plan.pushes)]
        played.began = time.time()
        log = self._served.root / "safepoint.log"
        played.log = log.stat().st_size if log.exists() else 0
        with Watcher(self._served, played, calm=calm) as self._watcher:
            self._run(commits)
            played.struck["its moment never came"] += len(self._pending)
            self._aftermath()
        return played

    def _run(self, commits: list[str]) -> None:
        played, plan, begun = self.played, self._plan, time.monotonic()
        waiting = sorted(range(len(plan.pushes)), key=lambda index: plan.pushes[index].at)
        version = None
        while True:
            now = time.monotonic()
            while waiting and now >= begun + plan.pushes[waiting[0]].at / 1000:
                index = waiting.pop(0)
                self._start(index, commits[index])
            (changed,) = self._db.execute("PRAGMA data_version").fetchone()
            if changed != version:
                version = changed
                self._look()
            self._look_for_hooks()
            self._strike()
            self._continue()
            ended = all(client.process.poll() is not None for client in played.clients)
            if not waiting and ended and not self._stopped and (not self._open() or not self._will_end()):
                break
            if now > begun + self._deadline:
                raise Stuck(f"a client or an operation never ended: {self._state()}")
            time.sleep(TICK)

    def _aftermath(self) -> None:
        """Whoever was killed comes back, and all that is open ends."""
        if not self._served.alive():
            self._serve()
        deadline = time.monotonic() + self._deadline
        while self._open():
            if time.monotonic() > deadline:
                raise Stuck(f"an operation never ended: {self._state()}")
            time.sleep(TICK)

    def _serve(self) -> None:
        self._served.bury()
        self._served.start()
        self.played.restarts += 1

    # Clients.

    def _commit(self, index: int, push: Push) -> str:
        if push.deploy is Deploy.ROLLBACK:
            return ""
        app, version = self._app(index), f"{self._plan.number}.{index}"
        watch = push.watch or ("400ms" if push.deploy is Deploy.SLOW else "0s" if index % 3 == 2 else "150ms")
        return self._served.commit(app, version, push.deploy, watch)

    def _start(self, index: int, commit: str) -> None:
        push, app = self._plan.pushes[index], self._app(index)
        token = self._token("push", index)
        dies = {} if push.dies_after is None else {"SAFEPOINT_DIE_AFTER_RECORD": str(push.dies_after)}
        if push.deploy is Deploy.ROLLBACK:
            words = ["releases:rollback", app, "--reason", token, "--json"]
            words += ["--on-busy", push.on_busy] if push.on_busy else []
            words += ["--no-wait"] if push.no_wait else []
            self._spawn(
                "rollback", token, index, self._served.command(*words), own_environment() | dies
            ).disturbed = bool(dies)
            return
        options = [f"reason={token}"]
        options += [f"on-busy={push.on_busy}"] if push.on_busy else []
        options += ["no-wait"] if push.no_wait else ["attach"] if push.attach else []
        command = self._served.push(app, commit, push.door, options)
        self._spawn("push", token, index, command, self._served.client_environment() | dies).disturbed = bool(dies)

    def _spawn(
        self, kind: str, token: str, index: int, command: list[str], environment: dict[str, str] | None = None
    ) -> Client:
        output = self._directory / f"{token}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=environment or own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        client = Client(kind, token, process, output, index)
        self.played.clients.append(client)
        self._seen.setdefault(index, {}).setdefault("", time.monotonic())
        return client

    def _token(self, kind: str, index: int) -> str:
        return f"{kind}-{self._plan.number}-{len(self.played.clients)}-{index}"

    # The journal, as it grows.

    def _look(self) -> None:
        now = time.monotonic()
        rows = self._db.execute(
            "SELECT o.id, o.reason, e.event FROM operations o LEFT JOIN events e ON e.operation = o.id WHERE o.id > ?",
            (self.played.first_operation,),
        ).fetchall()
        for number, reason, event in rows:
            found = re.fullmatch(r"push-\d+-\d+-(\d+)", reason)
            if found is None:
                continue
            index = int(found[1])
            self._operations[index] = number
            seen = self._seen.setdefault(index, {})
            seen.setdefault("opened", now)
            if event is not None:
                fields = json.loads(event)
                seen.setdefault(fields["type"], now)
                if "step" in fields:
                    seen.setdefault(f"{fields['type']}/{fields['step']}", now)
        for index in [index for index in self._followers if index in self._operations]:
            self._followers.remove(index)
            number = self._operations[index]
            follower = self._spawn(
                "follow", self._token("follow", index), index, self._served.command("operation:follow", str(number))
            )
            follower.operation = number

    def _look_for_hooks(self) -> None:
        """Only where somebody is to be struck then: it takes a while, and nothing is journalled yet."""
        pushes = {each.moment.push for each in self._pending if each.moment.event == "hook"}
        begun = {index for index in pushes if "" in self._seen.get(index, {}) and "hook" not in self._seen[index]}
        if not begun:
            return
        for each in processes.everyone():
            for index in begun:
                if processes.is_target(each, Target.HOOK, self._served.root, self._app(index), set()):
                    self._seen[index].setdefault("hook", time.monotonic())

    def _come(self, moment: Moment) -> bool:
        at = self._seen.get(moment.push, {}).get(moment.event)
        return at is not None and time.monotonic() >= at + moment.delay / 1000

    def _open(self) -> list[int]:
        return [row[0] for row in self._db.execute("SELECT id FROM operations WHERE ending IS NULL")]

    def _will_end(self) -> bool:
        """Whether somebody is there who finishes what is open."""
        return self._served.alive()

    def _state(self) -> str:
        clients = [each.token for each in self.played.clients if each.process.poll() is None]
        return f"clients {clients}, operations {self._open()}"

    # Strikes.

    def _strike(self) -> None:
        for strike in [each for each in self._pending if self._come(each.moment)]:
            self._pending.remove(strike)
            self._hit(strike)
        for cancel in [each for each in self._cancels if self._come(each.moment)]:
            if cancel.moment.push not in self._operations:
                continue
            self._cancels.remove(cancel)
            self._cancel(cancel.moment.push, force=cancel.force, wait=cancel.wait)

    def _cancel(self, index: int, *, force: bool, wait: bool) -> None:
        token, number = self._token("cancel", index), self._operations[index]
        words = ["operation:cancel", str(number), "--reason", token, "--json"]
        words += ["--force"] if force else []
        words += [] if wait else ["--no-wait"]
        self._spawn("cancel", token, index, self._served.command(*words)).operation = number

    def _hit(self, strike: Strike) -> None:
        index, target = strike.moment.push, strike.target
        if target is Target.EVERYTHING:
            self._cut_power(takes_ports=strike.takes_ports)
            return
        if target is Target.CLIENT:
            self._leave(index)
            return
        victims = self._victims(strike)
        if victims and strike.blow is Blow.KILL:
            self._disturb(target, index)  # before: it may have ended a moment after
        number = signal.SIGKILL if strike.blow is Blow.KILL else signal.SIGSTOP
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                self.played.struck[f"{target.value} {number.name.removeprefix('SIG')}"] += 1
                if number == signal.SIGSTOP:
                    self._stopped.append((time.monotonic() + strike.lasts / 1000, pid))
        if not victims:
            self.played.struck["nobody there"] += 1
            return
        if target in DAEMONS:
            self.played.harsh = True
        if strike.blow is Blow.FORCE and index in self._operations:
            self._cancel(index, force=True, wait=True)
            # The force has to end it; whoever does not die of that goes on at last, and is seen by the auditor.
            self._stopped = [(at + (10 if pid in victims else 0), pid) for at, pid in self._stopped]

    def _victims(self, strike: Strike) -> list[int]:
        target = strike.target
        if target is Target.SERVE:
            process = self._served.process
            return [process.pid] if process is not None and process.poll() is None else []
        app = self._app(strike.moment.push)
        operations = {number for index, number in self._operations.items() if self._app(index) == app}
        if target is Target.WAITING:
            waiting = self._db.execute(
                "SELECT id FROM operations WHERE app = ? AND waiting = 1 AND ending IS NULL", (app,)
            )
            operations, target = {row[0] for row in waiting}, Target.WORKER
        return [
            each.pid
            for each in processes.everyone()
            if processes.is_target(each, target, self._served.root, app, operations)
        ]

    def _disturb(self, target: Target, index: int) -> None:
        app = self._app(index)
        for client in self.played.clients:
            if client.kind != "push" or client.process.poll() is not None:
                continue
            push = self._plan.pushes[client.push]
            if target in (Target.HOOK, Target.RECEIVE_PACK) and self._app(client.push) == app:
                client.disturbed = True
            if target is Target.SESSION and push.door == "openssh":
                client.disturbed = True
            if target is Target.SERVE and push.door == "embedded":
                client.disturbed = True
            if target is Target.GIT and self._app(client.push) == app:
                client.disturbed = True

    def _leave(self, index: int) -> None:
        for client in self.played.clients:
            if client.push == index and client.kind in ("push", "rollback") and client.process.poll() is None:
                number = signal.SIGINT if self._plan.number % 2 else signal.SIGKILL
                with suppress(ProcessLookupError):
                    os.killpg(client.process.pid, number)
                client.leaves = client.disturbed = True
                self.played.struck[f"client {number.name.removeprefix('SIG')}"] += 1

    def _continue(self) -> None:
        now = time.monotonic()
        for at, pid in [each for each in self._stopped if each[0] <= now or processes.dead(each[1])]:
            self._stopped.remove((at, pid))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _cut_power(self, *, takes_ports: bool) -> None:
        for client in self.played.clients:
            if client.process.poll() is None:
                client.leaves = client.disturbed = True
                with suppress(ProcessLookupError):
                    os.killpg(client.process.pid, signal.SIGKILL)
        assert self._watcher is not None
        with self._watcher.rebooting():
            self.played.harsh = True
            self._served.cut_power()
            self._stopped.clear()
            self._reboot()
            if takes_ports:
                self._take_ports()
            self.played.reboots += 1
            self.played.struck["everything KILL"] += 1
            self._serve()

    def _take_ports(self) -> None:
        """After a reboot anybody may have been quicker than the apps. Until the end of the round."""
        for (ports,) in self._db.execute("SELECT ports FROM releases WHERE state = 'current'").fetchall():
            for port in json.loads(ports).values():
                with suppress(OSError):  # taken it is
                    self._squatters.append(socket.create_server(("127.0.0.1", port)))

    def _app(self, index: int) -> str:
        return self._served.apps[self._plan.pushes[index].app]


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=30)


def events(db: sqlite3.Connection, operation: int) -> list[dict[str, Any]]:
    rows = db.execute("SELECT event FROM events WHERE operation = ? ORDER BY number", (operation,))
    return [json.loads(row[0]) for row in rows]
