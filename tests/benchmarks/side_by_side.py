"""Measuring side by side: contenders take turns, A B A B…, in one run, and are compared round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Series = dict[str, list[float]]
Contender = Callable[[], Mapping[str, float]]
"""One go. Returns what it has measured, by name: one go may measure several things."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Quartiles."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def interleaved(
    contenders: Iterable[Contender], rounds: int, on_round: Callable[[int, int], None], *, warm_up: bool = True
) -> Series:
    """Each contender in its turn, `rounds` times. With `warm_up`, a first round fills caches and is not counted."""
    found: Series = {}
    everybody = list(contenders)
    for number in range(0 if warm_up else 1, rounds + 1):
        on_round(number, rounds)
        for contender in everybody:
            for name, value in contender().items():
                if number:
                    found.setdefault(name, []).append(value)
    return found


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: whatever else the machine did in a round, it did to both."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]
