"""One run of the benchmarks: where it works, how often it measures, and what a row has given."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rows import LOST, Row
from benchmarks.side_by_side import Spread, ratios, spread


class CannotRun(Exception):
    """A row needs what this host does not have; says what."""


@dataclass(frozen=True, slots=True)
class Result:
    row: Row
    ours: Sequence[float] = ()
    """In the row's unit. Of a LOST row: the count."""
    theirs: Sequence[float] = ()
    notes: tuple[str, ...] = ()
    why_not: str = ""
    """Why there is no result."""
    load: float = 0.0
    """The machine's load average of one minute when it was done."""

    @property
    def ratio(self) -> Spread | None:
        if not self.ours:
            return None
        return spread(list(self.ours) if self.row.unit == LOST else ratios(self.ours, self.theirs))

    @property
    def met(self) -> bool | None:
        found = self.ratio
        return None if found is None else found.median <= self.row.goal


@dataclass
class Run:
    directory: Path
    """On the disk that is measured. Others than its owner may enter it: what is pushed may run as somebody else."""
    kept: ExitStack
    """Closed at the very end. ext4 makes new files up to seven times slower for a while after many were removed."""
    piku: Path | None = None
    asked_rounds: int | None = None
    small: bool = False
    """Everything a hundredth of its size: to see that it runs."""
    title: str = ""
    recorded: dict[str, object] = field(default_factory=dict)
    """What was measured of piku, for piku.json."""

    def rounds(self, usual: int) -> int:
        return self.asked_rounds or (1 if self.small else usual)

    def size(self, full: int) -> int:
        return max(1, full // 100) if self.small else full

    def place(self, name: str) -> Path:
        found = self.directory / name
        found.mkdir()
        found.chmod(0o755)
        return found

    def say(self, text: str) -> None:
        print(f"  {self.title}: {text}", file=sys.stderr, flush=True)

    def on_round(self, number: int, rounds: int) -> None:
        self.say("warming up" if number == 0 else f"round {number} of {rounds}")

    def need_space(self, gigabytes: float) -> None:
        free = shutil.disk_usage(self.directory).free / 1e9
        if free < gigabytes:
            raise CannotRun(f"it needs {gigabytes:.0f} GB in {self.directory}, and {free:.0f} are free")


def need_command(name: str, package: str) -> None:
    if shutil.which(name) is None:
        raise CannotRun(f"{name} is not here (Debian: {package})")


def load() -> float:
    return os.getloadavg()[0]
