"""The pure core against an adversary: every state that an executor, crashes, failures and cancels can bring about.

An explicit-state model checker. A state is what the journal says (without times and texts), the world outside, and
what the worker is about. The model's executor does what the real one does: decide, journal the intent unless a cancel
overtook it, act, journal the outcome. Everything else is the adversary's: it may fail a step or an undo, kill the
worker, or ask for a cancel, before, half-way through and after each effect. Each state is met once, so the exploration
is exhaustive, and ends.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from safepoint.core import decisions, operation
from safepoint.core import events as e
from safepoint.core.decisions import Action, AwaitTurn, Commit, Do, End, Undo
from safepoint.core.operation import Header, IllegalEvent, Operation, StepState
from safepoint.core.plan import HEALTH, RECEIVE, START, SWITCH, WATCH, OnCancel, Plan

ABSENT, HALF, FULL = range(3)
WITHOUT_EFFECT = frozenset({RECEIVE, HEALTH, WATCH})


class Invariant(StrEnum):
    RESTORED = "what ended as failed or cancelled left the world as before"
    FINISHED = "what ended as succeeded is committed and fully done"
    STUCK = "only a failed undo ends as stuck"
    KEPT = "an accepted cancel ends as cancelled or stuck, and nothing else ends as cancelled"
    SAYS_WHEN = "an accepted cancel waits for the running step exactly where that step finishes first"
    ONE_VERDICT = "there is exactly one verdict at a time"
    NO_WAY_BACK = "nothing is undone after the commit"
    NO_WAY_ON = "nothing starts and nothing is committed after turning"
    NEWEST_FIRST = "undos go newest first"
    INTENT = "no effect begins before its start is in the journal"
    SERVED = "the route points to processes that were started, and the old ones stay until the commit"
    REPLAY = "the journal, written down and read back, is the state"
    LEGAL = "no decision and no record of the executor is illegal"
    ENDS = "every run that is left alone ends"


class State(NamedTuple):
    journal: int
    """Number of the operation among `Model.operations`."""
    world: tuple[int, ...]
    """How far each step's effect is there, in the order of the plan."""
    alive: bool = True
    """Whether a worker lives. One that has appended Ended no longer matters."""
    acting: bool = False
    """Whether that worker is inside a do or an undo; a new one never is, whatever the journal says."""
    crashes: int = 0
    decided: Action | None = None
    """What the worker has decided and not journalled yet. A cancel that comes in between makes it decide again."""
    # What has really happened, kept apart from the core's own account of it:
    begun: int = 0
    """One bit a step: its start is in the journal."""
    accepted: bool = False
    turned: bool = False
    committed: bool = False


class Dead(Exception):
    """A move that cannot be made; what is wrong with it has been noted."""


@dataclass
class Exploration:
    """What was seen. `violations` holds the shortest way to break each invariant that can be broken."""

    states: int = 0
    operations: int = 0
    moves: int = 0
    endings: Counter[e.Ending] = field(default_factory=Counter)
    verdicts: Counter[e.Verdict] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    violations: dict[Invariant, list[str]] = field(default_factory=dict)

    def report(self) -> str:
        return "\n".join(f"{name}\n    " + "\n    ".join(trail) for name, trail in self.violations.items())


@dataclass
class Model:
    """One plan, one executor and the adversary's means. The last fields are ways to build the executor wrongly."""

    plan: Plan
    crashes: int = 2
    decide: Callable[[Operation], Action | None] = decisions.decide
    stubborn: bool = False
    """The executor journals what it decided, whatever was journalled in between."""
    eager: bool = False
    """The executor begins to act before the start of the step is journalled."""
    impatient: bool = False
    """The executor interrupts steps that were promised to finish first."""
    squeamish: bool = False
    """An undo leaves work alone that is only half done."""

    def __post_init__(self) -> None:
        self._header = Header(id=1, by="alice", door="local", opened=0.0)
        self._steps = (*self.plan.steps, *self.plan.finishing)
        self._index = {step.name: number for number, step in enumerate(self._steps)}
        self._undoable = len(self.plan.steps)
        self._effects = tuple(step.name not in WITHOUT_EFFECT for step in self._steps)
        self._started, self._switched = self._index[START], self._index[SWITCH]
        self._operations: list[Operation] = []
        self._journals: list[tuple[str, ...]] = []
        self._numbers: dict[Hashable, int] = {}
        self._applied: dict[tuple[int, str], int | str] = {}
        self._notes: list[tuple[Invariant, str]] = []
        self._seen = Exploration()

    def explore(self, until: Invariant | None = None) -> Exploration:
        """Breadth first, through every state; or only until a way is found to break one invariant."""
        first = State(self._intern(operation.opened(self._header, self.plan), ()), (ABSENT,) * len(self._steps))
        came: dict[State, tuple[State, str] | None] = {first: None}
        alone: dict[State, State | None] = {}
        queue = deque([first])
        while queue and until not in self._seen.violations:
            state = queue.popleft()
            alone[state] = None
            for number, (label, make) in enumerate(self._moves(state)):
                try:
                    target = make()
                    self._check(target)
                except Dead:
                    continue
                finally:
                    self._record_notes(state, label, came)
                self._seen.moves += 1
                if number == 0 and not self._ended(state):
                    alone[state] = target
                if target not in came:
                    came[target] = (state, label)
                    queue.append(target)
        self._seen.states, self._seen.operations = len(came), len(self._operations)
        if not queue:
            self._check_endings(alone, came)
        return self._seen

    # The moves. The first is the executor's own; where nobody interferes, that is the one that happens.

    def _moves(self, state: State) -> Iterator[tuple[str, Callable[[], State]]]:
        op = self._operations[state.journal]
        if op.ending is not None:
            yield from self._after_the_end(state, op)
            return
        if not state.alive:
            yield "a new worker takes over", lambda: self._append(state._replace(alive=True), e.WorkerDied(at=_at(op)))
        elif op.running is None or not state.acting:
            yield from self._between_steps(state, op)
        elif op.running.state is StepState.UNDOING:
            yield from self._within_undo(state, op, op.running.name)
        else:
            yield from self._within_step(state, op, op.running.name)
        yield "cancel", lambda: self._cancel(state)
        if not state.acting and self._awaits_objects(op):
            yield "the objects arrive", lambda: self._receive(state)
        if state.alive and state.crashes < self.crashes:
            yield "kill -9", lambda: _killed(state)

    def _between_steps(self, state: State, op: Operation) -> Iterator[tuple[str, Callable[[], State]]]:
        if state.decided is None:
            yield "decide", lambda: state._replace(decided=self._decide(op))
        else:
            intent = _intent(state.decided, _at(op))
            yield f"journal {intent.type}", lambda: self._append(state._replace(decided=None), intent)
        if self.eager and (name := operation.next_step(op)) and state.world[self._index[name]] < FULL:
            yield f"{name} acts", lambda: self._act(state, name, +1)

    def _decide(self, op: Operation) -> Action:
        try:
            action = self.decide(op)
        except IllegalEvent as error:
            self._note(Invariant.LEGAL, str(error))
            raise Dead from None
        if action is None:
            raise Dead
        return action

    def _within_step(self, state: State, op: Operation, name: str) -> Iterator[tuple[str, Callable[[], State]]]:
        level, at = state.world[self._index[name]], _at(op)
        complete = level == FULL or not self._effects[self._index[name]]
        if op.cancel is not None and (self.impatient or self.plan.step(name).on_cancel is OnCancel.INTERRUPT):
            yield f"{name} is interrupted", lambda: self._append(state, e.StepInterrupted(at=at, step=name))
        if name == RECEIVE and not op.received:
            yield "the objects arrive", lambda: self._receive(state)
        elif complete:
            yield f"{name} is done", lambda: self._append(state, e.StepDone(at=at, step=name))
        else:
            yield f"{name} acts", lambda: self._act(state, name, +1)
        if not state.committed:  # after the commit the executor turns failures into warnings
            yield f"{name} fails", lambda: self._append(state, e.StepFailed(at=at, step=name, reason="it broke"))

    def _within_undo(self, state: State, op: Operation, name: str) -> Iterator[tuple[str, Callable[[], State]]]:
        level, at = state.world[self._index[name]], _at(op)
        if level == ABSENT or (level == HALF and self.squeamish):
            yield f"{name} is undone", lambda: self._append(state, e.UndoDone(at=at, step=name))
        else:
            yield f"undo of {name} acts", lambda: self._act(state, name, -1)
        yield f"undo of {name} fails", lambda: self._append(state, e.UndoFailed(at=at, step=name, reason="it broke"))

    def _after_the_end(self, state: State, op: Operation) -> Iterator[tuple[str, Callable[[], State]]]:
        yield "cancel", lambda: self._cancel(state)
        if op.ending is e.Ending.STUCK:
            asked = e.RecoveryRequested(at=_at(op), by="alice")
            yield "a person asks for recovery", lambda: self._append(state, asked)
            # The worker that is started for it may also be one that writes WorkerDied first.
            yield "a person asks for recovery later", lambda: self._append(state._replace(alive=False), asked)
            nothing = state._replace(world=(ABSENT,) * len(state.world))
            yield "the app is removed", lambda: self._append(nothing, e.AppRemoved(at=_at(op)))

    def _act(self, state: State, name: str, by: int) -> State:
        number = self._index[name]
        world = (*state.world[:number], state.world[number] + by, *state.world[number + 1 :])
        return state._replace(world=world)

    def _cancel(self, state: State) -> State:
        op = self._operations[state.journal]
        verdict = operation.verdict(op)
        self._seen.verdicts[verdict] += 1
        if verdict.accepted and not self.stubborn:
            state = state._replace(decided=None)
        running = op.running
        waits = running is not None and self.plan.step(running.name).on_cancel is OnCancel.FINISH
        if verdict.accepted and (verdict is e.Verdict.AFTER_STEP) is not waits:
            self._note(Invariant.SAYS_WHEN, f"{verdict} while {running and running.name} runs")
        return self._append(
            state._replace(accepted=state.accepted or verdict.accepted, turned=state.turned or verdict.accepted),
            e.CancelRequested(at=_at(op), by="alice", reason="", verdict=verdict),
        )

    def _awaits_objects(self, op: Operation) -> bool:
        """Whether the objects may still arrive. Later it would make no difference, and twice the states."""
        coming = (StepState.PENDING, StepState.RUNNING)
        return RECEIVE in self._index and not op.received and op.step(RECEIVE).state in coming

    def _receive(self, state: State) -> State:
        if not self.stubborn:
            state = state._replace(decided=None)
        return self._append(state, e.Received(at=_at(self._operations[state.journal])))

    # The journal.

    def _append(self, state: State, event: e.Event) -> State:
        self._check_record(state, event)
        key = (state.journal, repr(event))
        if key not in self._applied:
            self._applied[key] = self._apply(state.journal, event)
        number = self._applied[key]
        if isinstance(number, str):
            self._note(Invariant.LEGAL, number)
            raise Dead
        if not isinstance(event, e.CancelRequested | e.Received):  # these are not the worker's
            state = state._replace(acting=isinstance(event, e.StepStarted | e.UndoStarted))
        match event:
            case e.StepStarted():
                state = state._replace(begun=state.begun | 1 << self._index[event.step])
            case e.StepFailed():
                state = state._replace(turned=True)
            case e.WorkerDied():
                state = state._replace(turned=not state.committed)
            case e.Committed():
                state = state._replace(committed=True)
            case e.Ended():
                self._seen.endings[event.ending] += 1
        return state._replace(journal=number)

    def _apply(self, journal: int, event: e.Event) -> int | str:
        try:
            after = operation.apply(self._operations[journal], event)
        except IllegalEvent as error:
            return str(error)
        self._seen.events[event.type] += 1
        return self._intern(after, (*self._journals[journal], json.dumps(e.to_json(event))))

    def _intern(self, op: Operation, journal: tuple[str, ...]) -> int:
        key = _without_times(op)
        if key not in self._numbers:
            self._numbers[key] = len(self._operations)
            self._operations.append(op)
            self._journals.append(journal)
            plan = Plan.from_json(json.loads(json.dumps(self.plan.to_json())))
            if operation.replay(self._header, plan, (e.from_json(json.loads(line)) for line in journal)) != op:
                self._note(Invariant.REPLAY, " ".join(journal))
            self._check_one_verdict(op)
        return self._numbers[key]

    # The invariants.

    def _check_one_verdict(self, op: Operation) -> None:
        for verdict in e.Verdict:
            try:
                operation.apply(op, e.CancelRequested(at=_at(op), by="bob", reason="", verdict=verdict))
            except IllegalEvent:
                legal = False
            else:
                legal = True
            if legal is not (verdict is operation.verdict(op)):
                self._note(Invariant.ONE_VERDICT, f"{verdict} beside {operation.verdict(op)}")

    def _check_record(self, state: State, event: e.Event) -> None:
        match event:
            case e.StepStarted() | e.Committed() if state.turned:
                self._note(Invariant.NO_WAY_ON, repr(event))
            case e.UndoStarted():
                if state.committed:
                    self._note(Invariant.NO_WAY_BACK, repr(event))
                newer = range(self._index[event.step] + 1, self._undoable)
                steps = self._operations[state.journal].steps
                still = [n for n in newer if state.begun >> n & 1 and steps[n].state is not StepState.UNDONE]
                if still or any(state.world[n] for n in newer):
                    self._note(Invariant.NEWEST_FIRST, f"{event.step} before {[steps[n].name for n in still]}")
            case e.Ended():
                self._check_ending(state, event.ending)

    def _check_ending(self, state: State, ending: e.Ending) -> None:
        if ending in (e.Ending.FAILED, e.Ending.CANCELLED) and any(state.world):
            left = [step.name for step, level in zip(self._steps, state.world, strict=True) if level]
            self._note(Invariant.RESTORED, f"ended as {ending}, left over: {', '.join(left)}")
        done = all(level == FULL for level, counts in zip(state.world, self._effects, strict=True) if counts)
        if ending is e.Ending.SUCCEEDED and not (done and state.committed):
            self._note(Invariant.FINISHED, f"committed: {state.committed}, {state.world}")
        failed = StepState.UNDO_FAILED in (step.state for step in self._operations[state.journal].steps)
        if (ending is e.Ending.STUCK) is not failed:
            self._note(Invariant.STUCK, f"ended as {ending}")
        kept = ending in (e.Ending.CANCELLED, e.Ending.STUCK) if state.accepted else ending is not e.Ending.CANCELLED
        if not kept:
            self._note(Invariant.KEPT, f"ended as {ending}, cancel accepted: {state.accepted}")

    def _check(self, state: State) -> None:
        if any(level and not state.begun >> number & 1 for number, level in enumerate(state.world)):
            self._note(Invariant.INTENT, str(state.world))
        served = state.world[self._switched] == ABSENT or state.world[self._started] == FULL
        if not served or (any(state.world[self._undoable :]) and not state.committed):
            self._note(Invariant.SERVED, str(state.world))

    def _check_endings(self, alone: dict[State, State | None], came: dict[State, tuple[State, str] | None]) -> None:
        ends = {state for state in alone if self._ended(state)}
        for state in alone:
            path: dict[State, None] = {}
            at: State | None = state
            while at is not None and at not in ends and at not in path:
                path[at] = None
                at = alone[at]
            if at not in ends:
                self._note(Invariant.ENDS, f"it stops at {at and at.world}")
                self._record_notes(state, "left alone", came)
                return
            ends.update(path)

    def _ended(self, state: State) -> bool:
        return self._operations[state.journal].ending is not None

    def _note(self, invariant: Invariant, detail: str) -> None:
        """A broken invariant does not end the way: it may break others further on."""
        self._notes.append((invariant, detail))

    def _record_notes(self, state: State, label: str, came: dict[State, tuple[State, str] | None]) -> None:
        for invariant, detail in self._notes:
            if invariant not in self._seen.violations:
                self._seen.violations[invariant] = [*_way_to(state, came), label, detail]
        self._notes.clear()


def _way_to(state: State, came: dict[State, tuple[State, str] | None]) -> list[str]:
    way = []
    at = came[state]
    while at is not None:
        way.append(at[1])
        at = came[at[0]]
    return ["opened", *reversed(way)]


def _killed(state: State) -> State:
    return state._replace(alive=False, acting=False, decided=None, crashes=state.crashes + 1)


def _intent(action: Action, at: float) -> e.Event:
    match action:
        case Do(step):
            return e.StepStarted(at=at, step=step)
        case Undo(step):
            return e.UndoStarted(at=at, step=step)
        case Commit():
            return e.Committed(at=at)
        case End(ending):
            return e.Ended(at=at, ending=ending)
        case AwaitTurn():
            raise AssertionError("it was not queued: see `queue_adversary`")


def _at(op: Operation) -> float:
    """The next tick of a clock that is never twice the same."""
    return float(op.length + 1)


def _without_times(op: Operation) -> Hashable:
    # With the texts kept apart, which undos ever failed would double the states with every step.
    return (
        tuple(step.state for step in op.steps),
        op.cancel and op.cancel.verdict,
        op.received,
        bool(op.failure),
        op.failed_step,
        op.committed is not None,
        op.ending,
    )
