"""The plan of an operation: its ordered steps and everything that they, and their undos, need to know.

A plan is complete when the operation is opened and never changes, so that recovery can work from the journal alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from safepoint.core.settings import Settings
from safepoint.hints import Any, Self
from safepoint.record import Record, asdict


class Kind(StrEnum):
    DEPLOY = "deploy"
    ROLLBACK = "rollback"


class OnCancel(StrEnum):
    """What a cancel does to a step that is running."""

    INTERRUPT = "interrupt"
    FINISH = "finish"


class Step(Record):
    name: str
    on_cancel: OnCancel = OnCancel.INTERRUPT


class ProcessIdentity(Record):
    """A process that cannot be confused with a later one of the same number.

    `started` is the start time in clock ticks since boot, field 22 of /proc/PID/stat (proc(5)).
    """

    pid: int
    started: int
    boot: str


class Plan(Record):
    kind: Kind
    app: str
    branch: str
    release: int
    commit: str
    steps: tuple[Step, ...]
    """Before the commit; each can be undone."""
    finishing: tuple[Step, ...]
    """After the commit; each may be run again, none is undone."""
    settings: Settings
    processes: Mapping[str, str]
    """Process type to shell command, as in the Procfile, `release` left out."""
    previous_commit: str = ""
    """Where the branch stands while nothing of this plan has happened; empty: there is no branch yet."""
    previous_release: int | None = None
    """The release that serves while nothing of this plan has happened."""
    receiver: ProcessIdentity | None = None
    """The git-receive-pack that brings the objects, where they come by a push."""
    attach: bool = False
    """Losing the client of the push cancels the operation."""
    build: tuple[str, ...] = ()
    """Shell commands that build the release, in order."""

    def step(self, name: str) -> Step:
        return next(step for step in (*self.steps, *self.finishing) if step.name == name)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"settings": self.settings.to_json(), "processes": dict(self.processes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        def steps(key: str) -> tuple[Step, ...]:
            return tuple(Step(each["name"], OnCancel(each["on_cancel"])) for each in data[key])

        receiver = data["receiver"]
        return cls(
            **dict(data)
            | {
                "kind": Kind(data["kind"]),
                "steps": steps("steps"),
                "finishing": steps("finishing"),
                "settings": Settings.from_json(data["settings"]),
                "receiver": ProcessIdentity(**receiver) if receiver else None,
                "build": tuple(data["build"]),
            }
        )


RECEIVE, EXPORT, BUILD, START, HEALTH, SWITCH, WATCH = (
    "receive", "export", "build", "start", "health", "switch", "watch",
)  # fmt: skip
PUBLISH, RETIRE, PRUNE = "publish", "retire", "prune"
BEFORE_RELEASE = "before_release"


def before_release_step(index: int) -> str:
    """The name of the step that runs the pre-release command `index`, counted from 0."""
    return f"{BEFORE_RELEASE}.{index + 1}"


def before_release_index(step: str) -> int:
    """The inverse of `before_release_step`."""
    return int(step.partition(".")[2]) - 1


def deploy_steps(settings: Settings, *, pushed: bool) -> tuple[Step, ...]:
    before = (Step(before_release_step(i), OnCancel(c.on_cancel)) for i, c in enumerate(settings.before_release))
    receive = (Step(RECEIVE),) if pushed else ()
    return (*receive, Step(EXPORT), Step(BUILD), *before, *_SERVE)


def rollback_steps() -> tuple[Step, ...]:
    return _SERVE


_SERVE = (Step(START), Step(HEALTH), Step(SWITCH, OnCancel.FINISH), Step(WATCH))
FINISHING = (Step(PUBLISH), Step(RETIRE), Step(PRUNE))
