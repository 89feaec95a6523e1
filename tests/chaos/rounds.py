"""The plan of a round: what is pushed, cancelled and followed, and who is killed when. Pure: the seed decides all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

APPS = 3
"""How many apps a home has. A round plays with one to three of them."""


class Deploy(StrEnum):
    """What a push brings, or which command takes its place."""

    GOOD = "good"
    SLOW = "slow"
    """Its build takes a while: there is time to cancel it."""
    FAILS_BUILD = "fails in build"
    FAILS_MIGRATION = "fails in before_release"
    DIES = "dies at once"
    UNHEALTHY = "answers with 500"
    ROLLBACK = "rollback"
    """No push: `releases:rollback`."""


class Target(StrEnum):
    WORKER = "worker"
    WAITING = "waiting worker"
    RECOVERY = "recovery"
    HOOK = "hook"
    RECEIVE_PACK = "receive-pack"
    SESSION = "session"
    CLIENT = "client"
    SERVE = "serve"
    SUPERVISORD = "supervisord"
    HAPROXY = "haproxy"
    APP = "app"
    COMMAND = "build or migration"
    GIT = "git of a worker"
    EVERYTHING = "reboot"


DAEMONS = frozenset({Target.SERVE, Target.SUPERVISORD, Target.HAPROXY, Target.EVERYTHING})
"""Without one of these an undo may fail, and things are put right by the server when it is there again."""


FELT = DAEMONS | {Target.APP}
"""Whoever makes requests may notice."""


class Blow(StrEnum):
    KILL = "KILL"
    STOP = "STOP"
    """And go on after a while."""
    FORCE = "STOP, then operation:cancel --force"


@dataclass(frozen=True, slots=True)
class Moment:
    """`delay` milliseconds after an event of a push's journal; without an event, after the push was started."""

    push: int
    event: str
    """A type of event and, after a slash, a step; empty: the start of the push; `hook`: a hook of its app is there."""
    delay: int


@dataclass(frozen=True, slots=True)
class Cancel:
    moment: Moment
    force: bool
    wait: bool


@dataclass(frozen=True, slots=True)
class Push:
    app: int
    deploy: Deploy
    at: int
    """Milliseconds after the round's start."""
    door: str
    """`local`, `embedded` or `openssh`."""
    on_busy: str
    """Empty: as the app has it."""
    no_wait: bool
    attach: bool
    followers: int
    dies_after: int | None
    """The record of the journal with which whoever makes it dies: the hook, or the worker. `local` only."""
    watch: str = ""
    """Empty: by the deploy."""


@dataclass(frozen=True, slots=True)
class Strike:
    target: Target
    blow: Blow
    moment: Moment
    lasts: int
    """Of a STOP, in milliseconds."""
    takes_ports: bool = False
    """After a reboot: others listen on the ports of the apps."""


@dataclass(frozen=True, slots=True)
class Round:
    seed: int
    number: int
    pushes: tuple[Push, ...]
    cancels: tuple[Cancel, ...]
    strikes: tuple[Strike, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_STEPS = ("receive", "export", "build", "before_release.1", "start", "health", "switch", "watch")
_FINISHING = ("publish", "retire", "prune")
_UNDONE = ("watch", "switch", "start", "before_release.1", "build", "export", "receive")

_DEPLOYS = {
    Deploy.GOOD: 8, Deploy.SLOW: 5, Deploy.FAILS_BUILD: 1, Deploy.FAILS_MIGRATION: 1, Deploy.DIES: 2,
    Deploy.UNHEALTHY: 1, Deploy.ROLLBACK: 2,
}  # fmt: skip
_TARGETS = {
    Target.WORKER: 9, Target.WAITING: 3, Target.RECOVERY: 5, Target.HOOK: 3, Target.RECEIVE_PACK: 5,
    Target.SESSION: 2, Target.CLIENT: 3, Target.SERVE: 4, Target.SUPERVISORD: 4, Target.HAPROXY: 4, Target.APP: 3,
    Target.COMMAND: 2, Target.GIT: 2, Target.EVERYTHING: 5,
}  # fmt: skip
_BEHIND = (Target.SUPERVISORD, Target.HAPROXY, Target.SERVE)
_STOPPABLE = {
    Target.WORKER, Target.WAITING, Target.HOOK, Target.RECEIVE_PACK, Target.SESSION, Target.SERVE, Target.SUPERVISORD,
    Target.HAPROXY, Target.APP, Target.RECOVERY,
}  # fmt: skip


_EVENTS = (
    *("opened", "received", "committed", "undo started"),
    *(f"step started/{step}" for step in (*_STEPS, *_STEPS, *_FINISHING)),
    *(f"step done/{step}" for step in (*_STEPS, "publish")),
)
_LATE = (
    *("step done/health", "step started/switch", "step done/switch", "step started/watch", "step started/watch"),
    *("step done/watch", "committed", "step started/publish", "step started/retire"),
)
"""Where two releases run, and it is decided which of them stays."""
_UNWINDING = {Deploy.FAILS_BUILD, Deploy.FAILS_MIGRATION, Deploy.DIES, Deploy.UNHEALTHY}
_DELAYS = (0, 0, 1, 3, 10, 30, 100)
"""Milliseconds."""
_RECORDS = (0, 0, 0, 0, 0, *range(1, 29))
"""Of a deploy that goes well: its opening, and what is journalled until its end."""
_DOORS = ("local", "local", "local", "embedded", "openssh")


def plan(seed: int, number: int) -> Round:
    """The same for the same arguments, on every machine."""
    random = Random(f"safepoint chaos {seed} {number}")
    if number % 3 == 2:
        return _aimed(seed, number, random)
    pushes = tuple(
        _push(random, app)
        for app in random.sample(range(APPS), random.choice((1, 2, 2, 3)))
        for _ in range(random.choice((1, 1, 1, 2, 2, 3)))
    )
    cancels = tuple(
        Cancel(_forward(random, index), force=random.random() < 0.2, wait=random.random() < 0.7)
        for index in range(len(pushes))
        if random.random() < 0.3
    )
    # In every other round the server and its daemons live: then nobody but the deploys themselves may put things right.
    targets = _TARGETS if random.random() < 0.5 else {t: weight for t, weight in _TARGETS.items() if t not in DAEMONS}
    strikes = tuple(each for _ in range(random.choice((1, 2, 3, 3, 4))) for each in _strike(random, pushes, targets))
    return Round(seed, number, pushes, cancels, strikes)


class Aim(StrEnum):
    """What a round of one deploy is for: in the others the blows seldom come at a moment that takes some aiming."""

    BEHIND = "a daemon dies while the worker is stopped, and it goes on as if nothing had been"
    REBOOT = "everything dies between switch and commit"
    OPENING = "whoever opened it dies at once"
    HOOK = "the push dies while its hook runs"
    RECORD = "whoever makes a record dies with it"
    WORKER = "the worker dies around the commit"


_AIMS = tuple(Aim)


def _aimed(seed: int, number: int, random: Random) -> Round:
    aim, delay = _AIMS[number // 3 % len(_AIMS)], random.choice(_DELAYS)
    push = Push(
        app=random.randrange(APPS),
        deploy=random.choice((Deploy.SLOW, Deploy.SLOW, Deploy.GOOD)),
        at=0,
        door=random.choice(_DOORS) if aim is not Aim.OPENING and aim is not Aim.RECORD else "local",
        on_busy="",
        no_wait=False,
        attach=False,
        followers=0,
        dies_after={Aim.OPENING: 0, Aim.RECORD: random.choice(_RECORDS[1:])}.get(aim),
        watch="1500ms",  # on a busy machine a blow is late
    )
    two = Moment(0, random.choice(("step done/switch", "step started/watch")), random.choice((0, 0, 10, 30)))
    strikes: tuple[Strike, ...] = ()
    if aim is Aim.BEHIND:
        daemon = random.choice((Target.SUPERVISORD, Target.SUPERVISORD, Target.HAPROXY, Target.SERVE))
        strikes = (
            Strike(Target.WORKER, Blow.STOP, two, random.choice((4000, 6000))),
            Strike(daemon, Blow.KILL, two, 0),
        )
    elif aim is Aim.REBOOT:
        strikes = (Strike(Target.EVERYTHING, Blow.KILL, two, 0, takes_ports=True),)
    elif aim is Aim.HOOK:
        event = random.choice(("hook", "opened", "opened", "opened"))
        strikes = (Strike(Target.RECEIVE_PACK, Blow.KILL, Moment(0, event, random.choice((0, 0, 10, 30))), 0),)
    elif aim is Aim.WORKER:
        strikes = (Strike(Target.WORKER, Blow.KILL, Moment(0, random.choice(_LATE), delay), 0),)
    return Round(seed, number, (push,), (), strikes)


def _push(random: Random, app: int) -> Push:
    deploy = _choice(random, _DEPLOYS)
    door = "local" if deploy is Deploy.ROLLBACK else random.choice(_DOORS)
    return Push(
        app=app,
        deploy=deploy,
        at=random.choice((0, 0, 100, 300, 600)),
        door=door,
        on_busy=random.choice(("", "", "queue", "supersede", "supersede", "reject")),
        no_wait=random.random() < 0.15,
        attach=random.random() < 0.15,
        followers=random.choice((0, 0, 0, 1, 2)),
        dies_after=random.choice(_RECORDS) if door == "local" and random.random() < 0.2 else None,
    )


def _strike(random: Random, pushes: tuple[Push, ...], targets: dict[Target, int]) -> Iterator[Strike]:
    target = _choice(random, targets)
    blow = Blow.KILL
    if target in _STOPPABLE and random.random() < 0.3:
        blow = Blow.FORCE if target is Target.WORKER and random.random() < 0.4 else Blow.STOP
    index = random.randrange(len(pushes))
    lasts, takes_ports = random.choice((30, 100, 300, 800)), target is Target.EVERYTHING and random.random() < 0.7
    if target is Target.RECOVERY:  # for that somebody has to die first
        yield Strike(Target.WORKER, Blow.KILL, _forward(random, index), lasts=0)
        moment = Moment(index, "worker died", random.choice((0, 0, 5, 20, 60, 120)))
    elif target is Target.RECEIVE_PACK and random.random() < 0.5:
        moment = Moment(index, "hook", random.choice((0, 0, 10, 30, 60, 100)))
    elif target in (Target.HOOK, Target.RECEIVE_PACK, Target.SESSION) and random.random() < 0.7:
        moment = Moment(index, "", random.randrange(500))
    elif target in _BEHIND and blow is Blow.KILL and random.random() < 0.5:
        # Behind the back of a worker that is stopped meanwhile, and then goes on as if nothing had been.
        moment = Moment(index, random.choice(_LATE), random.choice(_DELAYS))
        yield Strike(Target.WORKER, Blow.STOP, moment, lasts=random.choice((1000, 2000, 3000)))
    elif pushes[index].deploy in _UNWINDING and random.random() < 0.5:
        moment = Moment(index, f"undo started/{random.choice(_UNDONE)}", random.choice(_DELAYS))
    elif target is not Target.EVERYTHING and random.random() < 0.3:
        moment = Moment(index, "", random.randrange(1500))
    else:
        moment = _forward(random, index)
    yield Strike(target, blow, moment, lasts, takes_ports)


def _forward(random: Random, push: int) -> Moment:
    """Of a deploy that goes well, mostly."""
    event = random.choice(_LATE if random.random() < 0.4 else _EVENTS)
    return Moment(push, event, random.choice(_DELAYS))


def _choice(random: Random, weights: dict[T, int]) -> T:
    return random.choices(list(weights), list(weights.values()))[0]
