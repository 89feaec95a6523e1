"""Many rounds in a row, on one home while all is well, and the report of them."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.auditor import Audited, Auditor, shown
from chaos.boots import Boots
from chaos.play import DEADLINE, Player
from chaos.played import Played
from chaos.rounds import Round, plan
from chaos.served import Served, served


@dataclass
class Report:
    seed: int
    rounds: int = 0
    seconds: float = 0.0
    operations: Counter[str] = field(default_factory=Counter)
    """By ending."""
    kills: Counter[str] = field(default_factory=Counter)
    """By target and signal."""
    cancels: Counter[str] = field(default_factory=Counter)
    """By verdict."""
    clients: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, played: Played, audited: Audited) -> None:
        self.rounds += 1
        self.operations += audited.endings
        self.kills += played.struck
        self.cancels += audited.verdicts
        self.clients.update(client.kind for client in played.clients)
        self.counts["recoveries"] += audited.recoveries
        self.counts["reboots"] += played.reboots
        self.counts["serve started again"] += played.restarts
        self.counts["stuck and mended"] += audited.stuck
        self.counts["audits"] += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed, "rounds": self.rounds, "seconds": round(self.seconds, 1),
            "operations": dict(self.operations), "kills": dict(self.kills), "cancels": dict(self.cancels),
            "clients": dict(self.clients), **self.counts, "violations": self.violations,
        }  # fmt: skip

    def lines(self) -> list[str]:
        found = [f"seed {self.seed}: {self.rounds} rounds in {self.seconds:.0f} s"]
        for title in ("operations", "cancels", "clients", "kills", "counts"):
            found.append(f"{title}:")
            found += [f"  {name:<36}{number:>6}" for name, number in sorted(getattr(self, title).items())]
        return [*found, f"violations: {len(self.violations)}"]


@dataclass
class Night:
    directory: Path
    boots: Boots
    python: str
    patience: float
    say: Callable[[str], None]
    deadline: float = DEADLINE

    def run(
        self, seed: int, first: int, rounds: int, *, keep_going: bool = False, minutes: float = float("inf")
    ) -> Report:
        """Until the first violation; with `keep_going` it goes on with a fresh home after one."""
        report, started = Report(seed), time.monotonic()
        number, last = first, first + rounds
        until = started + 60 * minutes
        while number < last and time.monotonic() < until:
            with served(Path(tempfile.mkdtemp(prefix="home-", dir=self.directory)), self.python) as home:
                good = True
                while good and number < last and time.monotonic() < until:
                    good = self._round(home, plan(seed, number), report)
                    number += 1
            if not good and not keep_going:
                break
        report.seconds = time.monotonic() - started
        return report

    def _round(self, home: Served, round_: Round, report: Report) -> bool:
        begun = time.monotonic()
        directory = home.place.directory / "rounds" / str(round_.number)
        directory.mkdir(parents=True)
        player, audited = Player(home, round_, directory, self.boots.next, self.deadline), Audited()
        played, violations = player.played, []
        try:
            player.play()
            audited = Auditor(home, self.patience).audit(played)
        except AssertionError as error:
            violations = [f"{type(error).__name__}: {error}"]
        violations = [*played.seen, *audited.violations, *violations]
        report.add(played, audited)
        endings = ", ".join(f"{count} {name}" for name, count in sorted(audited.endings.items()))
        struck = ", ".join(f"{count} {name}" for name, count in sorted(played.struck.items()))
        self.say(f"round {round_.number}: {time.monotonic() - begun:.1f} s; {endings}; struck: {struck}")
        if violations:
            report.violations.append({"round": round_.to_json(), "violations": violations})
            self.say(f"VIOLATED with seed {round_.seed} in round {round_.number}:\n{shown(violations)}")
            self.say(json.dumps(round_.to_json(), indent=1))
            self.say(f"its home is left in {home.place.directory}")
        return not violations
