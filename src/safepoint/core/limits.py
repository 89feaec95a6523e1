"""What an app may use of the machine: set by an operator, never by what is pushed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from safepoint.core.names import shown
from safepoint.errors import UsageError
from safepoint.record import Record, asdict, replace

_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}
_MEMORY = re.compile(r"([1-9]\d{0,6})([KMG])", re.ASCII)
_PROCESSES = re.compile(r"[1-9]\d{0,6}", re.ASCII)
_CPU = re.compile(r"\d{1,4}(\.\d{1,2})?", re.ASCII)
LEAST_MEMORY = 16 * 1024**2
"""Bytes. With less not even a shell would start."""


class Limits(Record):
    """None: as much as there is."""

    memory: int | None = None
    """Bytes."""
    processes: int | None = None
    """Threads count as well."""
    cpu: float | None = None
    """Processors: 1.5 is one and a half."""

    def to_json(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, found: Mapping[str, float]) -> Limits:
        memory, processes = found.get("memory"), found.get("processes")
        return cls(
            int(memory) if memory is not None else None,
            int(processes) if processes is not None else None,
            found.get("cpu"),
        )

    def __str__(self) -> str:
        memory = "" if self.memory is None else _amount(self.memory)
        cpu = "" if self.cpu is None else f"{self.cpu:g}"
        return f"memory={memory} processes={self.processes or ''} cpu={cpu}"


def changed(limits: Limits, words: Sequence[str]) -> Limits:
    """By words such as `memory=512M`, `processes=200`, `cpu=1.5`; `cpu=` takes a limit away. Raises UsageError."""
    for word in words:
        name, equals, value = word.partition("=")
        match name if equals else "":
            case "memory":
                limits = replace(limits, memory=_memory(value) if value else None)
            case "processes":
                if value and not _PROCESSES.fullmatch(value):
                    raise UsageError(f"{shown(value)} is no number of processes", "write for instance processes=200")
                limits = replace(limits, processes=int(value) if value else None)
            case "cpu":
                if value and (not _CPU.fullmatch(value) or float(value) == 0):
                    raise UsageError(f"{shown(value)} is no number of processors", "write for instance cpu=1.5")
                limits = replace(limits, cpu=float(value) if value else None)
            case _:
                raise UsageError(f"{shown(word)} is no limit", "there are memory=512M, processes=200 and cpu=1.5")
    return limits


def _memory(text: str) -> int:
    found = _MEMORY.fullmatch(text)
    if not found:
        raise UsageError(f"{shown(text)} is no amount of memory", "write for instance memory=512M")
    memory = int(found[1]) * _UNITS[found[2]]
    if memory < LEAST_MEMORY:
        raise UsageError(f"memory={text} is too little to start anything", "16M is the least")
    return memory


def _amount(memory: int) -> str:
    unit = next((unit for unit in ("G", "M") if memory % _UNITS[unit] == 0), "K")
    return f"{memory // _UNITS[unit]}{unit}"
