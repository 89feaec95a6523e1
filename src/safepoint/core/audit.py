"""The audit: who did or asked for what, when, and what became of it; out of the journal, where that has it. Pure."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from safepoint.core import events as e
from safepoint.record import Record

SERVER = "safepoint"
"""Who it is where no person asked: a turn that has come, an end."""

DONE, DENIED = "done", "denied"
"""The verdicts on what is no operation."""


class Entry(Record):
    at: float
    """When it was acknowledged: the verdict was durable."""
    by: str
    door: str
    """As `Door.origin` has it: `local`, or `ssh` and the client's address."""
    app: str
    """An empty text: the server as a whole."""
    what: str
    """A verb of the command line, with its subject."""
    verdict: str
    reason: str = ""
    operation: int | None = None
    requested: float | None = None
    effective: float | None = None
    """When it had happened; None: not yet, or never."""


class Opened(Record):
    """The row of an operation, without its plan."""

    id: int
    app: str
    by: str
    door: str
    reason: str
    at: float
    what: str
    queued: bool


def of_operation(opened: Opened, events: Iterable[e.Event]) -> Iterator[Entry]:
    """What the journal of one operation has for the audit, oldest first."""
    story = tuple(events)

    def entry(at: float, by: str, door: str, what: str, verdict: str, **more: str | float | None) -> Entry:
        return Entry(at, by, door, opened.app, what, verdict, operation=opened.id, **more)  # type: ignore[arg-type]

    begun = next((each.at for each in story if isinstance(each, e.Begun)), None if opened.queued else opened.at)
    yield entry(
        opened.at, opened.by, opened.door, opened.what, "queued" if opened.queued else "begun",
        reason=opened.reason, requested=opened.at, effective=begun,
    )  # fmt: skip
    for number, event in enumerate(story):
        match event:
            case e.CancelRequested():
                later = story[number:] if event.verdict.accepted else ()
                done = next((each.at for each in later if isinstance(each, e.Ended)), None)
                yield entry(
                    event.at, event.by, event.door, "operation:cancel --force" if event.force else "operation:cancel",
                    event.verdict.value, reason=event.reason, requested=event.requested or event.at, effective=done,
                )  # fmt: skip
            case e.RecoveryRequested():
                yield entry(event.at, event.by, event.door, "recover", "begun", requested=event.at, effective=event.at)
            case e.Begun():
                yield entry(event.at, SERVER, "", opened.what, "begun", effective=event.at)
            case e.Refused():
                yield entry(event.at, SERVER, "", opened.what, "refused", reason=event.reason, effective=event.at)
            case e.Superseded():
                by = f"by operation {event.operation}"
                yield entry(event.at, SERVER, "", opened.what, "superseded", reason=by, effective=event.at)
            case e.Ended():
                yield entry(event.at, SERVER, "", opened.what, event.ending.value, effective=event.at)


def in_order(stories: Iterable[Sequence[Entry]]) -> Iterator[Entry]:
    """The entries of all stories by their times. The stories come by the times of their first entries."""
    later: list[tuple[float, int, Entry]] = []
    numbers = count()
    for story in stories:
        while later and later[0][0] <= story[0].at:
            yield heapq.heappop(later)[2]
        for entry in story:
            heapq.heappush(later, (entry.at, next(numbers), entry))
    while later:
        yield heapq.heappop(later)[2]


_DURATION = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def duration(text: str) -> float | None:
    """Seconds of `90s`, `30m`, `24h`, `7d`, `2w`; None where it is no duration."""
    match = _DURATION.fullmatch(text)
    return None if match is None else float(int(match[1]) * _SECONDS[match[2]])
