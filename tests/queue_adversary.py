"""One app and its queue against an adversary: up to three operations, three policies, crashes, reboots and cancels.

As `adversary`, one level up: each operation's run is a plan of one step, whose intermediate states are explored there.
Here it matters who opens, waits, begins and ends, and who holds which of the app's two locks. Everything that decides
is the real one: `admit`, `apply`, `decide` and `verdict`. The model opens as `state.opening` does, in one go; its
workers wait as `turn` does: take the lock, look, decide, journal; anything may come in between.

Left out, since it makes no difference here: a run's decision and its record are one move (`adversary` takes them
apart); a worker that takes over says so with its first breath; the objects of a push that begins at once are a step of
its run. A worker notices the loss of the client that it is attached to at once: the kernel wakes it.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from safepoint.core import decisions, operation, queueing
from safepoint.core import events as e
from safepoint.core.decisions import AwaitTurn, Commit, Do, End, Undo
from safepoint.core.events import Ending, Verdict
from safepoint.core.operation import Header, IllegalEvent, Operation, StepState
from safepoint.core.plan import Kind, Plan, Step
from safepoint.core.queueing import Admission, OnBusy, Reject, Start
from safepoint.core.settings import Settings
from safepoint.record import replace

STEP = "serve"


class Invariant(StrEnum):
    ONE_RUNS = "at most one operation of an app has begun and not ended"
    ONE_WAITS = "at most one operation of an app waits"
    ONE_WORKER = "an operation never has two workers"
    ENDS = "whatever the order in which things happen, everything that was opened ends"
    NEVER_BEGAN = "an operation that was superseded in the queue never began"
    OVERTAKEN = "an operation ends as superseded exactly where a newer one has taken its place"
    IN_ORDER = "operations begin in the order of their IDs"
    KEPT = "an accepted cancel ends as cancelled or stuck, and nothing else ends as cancelled"
    TRUTH = "supersede cancels what had not committed, and says so where it was too late"
    UNASKED = "nobody is cancelled by a push that did not ask for it"
    REJECTED = "reject opens nothing while there is another one"
    SURVIVES = "one that waits is refused for a true reason, and not because its worker died"
    STUCK = "a stuck app begins nothing and takes nothing in"
    FAST_FORWARD = "what begins has all of what it replaces"
    PLANNED = "whoever begins knows what really runs"
    ATTACHED = "without its client an attached operation neither begins, nor goes on, nor commits"
    LEGAL = "no decision and no record is illegal"
    REPLAY = "the journal, written down and read back, is the state"


class Client(StrEnum):
    """The push that brings the objects. One that nothing depends on any more is DONE, whether it lives or not."""

    BRINGING = "bringing"
    DONE = "done"
    LOST = "lost"
    """It died before everything had arrived."""
    GONE = "gone"
    """It was attached, and died later."""


class Told(StrEnum):
    """What the worker of a waiting operation has decided and not journalled."""

    BEGIN = "begin"
    REFUSE_STUCK = "the app is stuck"
    REFUSE_MOVED = "fetch first"


class Part(NamedTuple):
    """One operation, and whoever works for it."""

    journal: int
    """Number of the operation among `Model.operations`."""
    worker: bool = False
    opener: bool = True
    """Whoever opened it lives, and will tell those it overtook and start its worker."""
    client: Client = Client.DONE
    attached: bool = False
    includes: bool = True
    """Whether its commit has those of the operations before it."""
    decided: Told | None = None
    # What has really happened, kept apart from the core's own account of it:
    begun: bool = False
    accepted: bool = False
    committed: bool = False
    overtaken: bool = False


class State(NamedTuple):
    parts: tuple[Part, ...] = ()
    running: int = 0
    """Who holds the lock of the running slot: an operation's ID, 0 where it is free."""
    waiting: int = 0
    branch: int = 0
    """The operation whose commit is on the branch."""
    newest_begun: int = 0
    crashes: int = 0


class Dead(Exception):
    """A move that cannot be made; what is wrong with it has been noted."""


Move = tuple[str, Callable[[], State]]


@dataclass
class Exploration:
    states: int = 0
    operations: int = 0
    moves: int = 0
    ends: int = 0
    """States in which nothing is left to be done."""
    endings: Counter[tuple[Ending, bool]] = field(default_factory=Counter)
    """With whether it had begun."""
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    admissions: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    violations: dict[Invariant, list[str]] = field(default_factory=dict)

    def report(self) -> str:
        return "\n".join(f"{name}\n    " + "\n    ".join(trail) for name, trail in self.violations.items())


@dataclass
class Model:
    """The app, and the adversary's means. The last fields are ways to build what surrounds the core wrongly."""

    pushes: int = 3
    crashes: int = 2
    attach: bool = False
    """Whether the pushes that have to wait are attached."""
    admit: Callable[[Operation | None, tuple[Operation, ...], OnBusy], Admission] = queueing.admit
    forgetful: bool = False
    """Recovery looks into the running slot only."""
    lockless: bool = False
    """A worker that waits looks without having the lock."""
    blind: bool = False
    """It does not care whether another operation has ended, or is stuck."""
    stubborn: bool = False
    """It journals what it decided, whatever was journalled in between."""
    careless: bool = False
    """It begins although its branch moved."""
    lazy: bool = False
    """It begins with the plan that it was opened with."""
    hasty: bool = False
    """Who opened starts the worker unless the operation has ended."""
    deaf: bool = False
    """Nobody notices that an attached client has gone."""
    unheard: bool = False
    """That the objects have arrived is told to the worker, and to nobody where that is dead."""
    polite: bool = False
    """One that was cancelled in the queue, and has not ended yet, is left to its worker when a new one is opened."""

    def __post_init__(self) -> None:
        self._operations: list[Operation] = []
        self._journals: list[tuple[str, ...]] = []
        self._openings: list[Operation] = []
        self._numbers: dict[object, int] = {}
        self._applied: dict[tuple[int, str], int | str] = {}
        self._notes: list[tuple[Invariant, str]] = []
        self._seen = Exploration()

    def explore(self, until: Invariant | None = None) -> Exploration:
        """Breadth first, through every state; or only until a way is found to break one invariant."""
        first = State()
        came: dict[State, tuple[State, str] | None] = {first: None}
        alone: dict[State, list[State]] = {}
        queue = deque([first])
        while queue and until not in self._seen.violations:
            state = queue.popleft()
            alone[state] = self._step(state, self._due(state), came, queue)
            if not alone[state]:
                self._check_quiet(state, came)
            self._step(state, self._hostile(state), came, queue)
        self._seen.states, self._seen.operations = len(came), len(self._operations)
        if not queue:
            self._check_ends(alone, came)
        return self._seen

    def _step(
        self,
        state: State,
        moves: Iterator[Move],
        came: dict[State, tuple[State, str] | None],
        queue: deque[State],
    ) -> list[State]:
        targets = []
        for label, make in moves:
            try:
                target = self._tidy(make())
                self._check(target)
            except Dead:
                continue
            finally:
                self._record_notes(state, label, came)
            if target == state:
                continue
            self._seen.moves += 1
            self._seen.labels[label.partition(" ")[2]] += 1
            targets.append(target)
            if target not in came:
                came[target] = (state, label)
                queue.append(target)
        return targets

    # What happens by itself, in any order.

    def _due(self, state: State) -> Iterator[Move]:
        for number, part in enumerate(state.parts, 1):
            op = self._operations[part.journal]
            if part.opener:
                yield from self._opener(state, number, part, op)
            if part.client is Client.BRINGING:
                yield f"{number} receives its objects", lambda n=number: self._receive(state, n)  # type: ignore[misc]
            if part.worker:
                yield from self._worker(state, number, part, op)
            elif op.ending is None and self._free(state, op) and not (part.opener and not op.queued):
                yield f"{number} is recovered", lambda n=number: self._recover(state, n)  # type: ignore[misc]

    def _opener(self, state: State, number: int, part: Part, op: Operation) -> Iterator[Move]:
        if not op.header.queued:
            yield f"{number} is started", lambda: _set(state, number, worker=True, opener=False)
            return
        if state.waiting == 0:
            yield f"{number} is started by whoever opened it", lambda: self._start(state, number, part, op)
        # It has told those that it overtook, before.
        yield from (
            (f"{other} is told to leave", lambda o=other: self._leave(state, o))
            for other, its in enumerate(state.parts[: number - 1], 1)
            if its.worker and state.waiting == other and self._operations[its.journal].ending is not None
        )

    def _start(self, state: State, number: int, part: Part, op: Operation) -> State:
        if op.ending is not None or (not op.queued and not self.hasty):
            return _set(state, number, opener=False)
        if part.worker:
            self._note(Invariant.ONE_WORKER, f"operation {number}, {op.state}")
            raise Dead
        return _set(state, number, worker=True, opener=False)._replace(waiting=number)

    def _worker(self, state: State, number: int, part: Part, op: Operation) -> Iterator[Move]:
        if op.ending is not None:
            if not op.queued or state.running == number:  # else it sleeps until it is told
                yield f"{number} leaves", lambda: self._leave(state, number)
            elif op.superseded is None:
                yield f"{number} leaves after its end", lambda: self._leave(state, number)
            elif state.running == 0:
                yield f"{number} takes the lock", lambda: state._replace(running=number)
            return
        gone = part.attached and part.client in (Client.LOST, Client.GONE)
        if gone and not op.turned and not op.committed and not self.deaf:
            yield f"{number} notices that its client is gone", lambda: self._cancel(state, number)
            return
        try:
            action = decisions.decide(op) if op.running is None else None
        except IllegalEvent as error:
            self._note(Invariant.LEGAL, str(error))
            return
        if isinstance(action, AwaitTurn) or (self.stubborn and part.decided):
            yield from self._wait(state, number, part, op)
        else:
            yield from self._run(state, number, action, op)

    def _wait(self, state: State, number: int, part: Part, op: Operation) -> Iterator[Move]:
        received = op.received
        if part.client is Client.LOST and not received:
            yield f"{number} is refused without its objects", lambda: self._refuse(state, number, "not everything came")
        if state.running == 0 and not self.lockless:
            yield f"{number} takes the lock", lambda: state._replace(running=number)
        if part.decided is not None:
            yield f"{number} journals its turn", lambda: self._take_turn(state, number, part)
        elif received and (state.running == number or self.lockless):
            yield f"{number} looks", lambda: self._look(state, number, part, op)

    def _look(self, state: State, number: int, part: Part, op: Operation) -> State:
        blocking = self._running(state)
        if blocking is None or self.blind or (self.lockless and blocking.ending is None):
            base = op.plan.previous_commit
            moved = _commit(state.branch) not in ("", base)
            refuse = moved and not part.includes and not self.careless
            return _set(state, number, decided=Told.REFUSE_MOVED if refuse else Told.BEGIN)
        if blocking.ending is not None:
            return _set(state, number, decided=Told.REFUSE_STUCK)
        return self._recover(state._replace(running=0), blocking.id)

    def _take_turn(self, state: State, number: int, part: Part) -> State:
        state = _set(state, number, decided=None)
        if part.decided is not Told.BEGIN:
            assert part.decided is not None
            return self._refuse(state, number, part.decided.value)
        self._check_begin(state, number, part)
        op = self._operations[part.journal]
        plan = op.plan if self.lazy else replace(op.plan, previous_commit=_commit(state.branch))
        if plan.previous_commit != _commit(state.branch):
            self._note(Invariant.PLANNED, f"operation {number} believes {plan.previous_commit}, not {state.branch}")
        state = self._append(state, number, e.Begun(at=1.0, plan=plan.to_json()), plan.previous_commit)
        # It holds both locks for a moment; then the place is free for the next one that waits.
        return state._replace(waiting=0 if state.waiting == number else state.waiting, newest_begun=number)

    def _refuse(self, state: State, number: int, reason: str) -> State:
        part = state.parts[number - 1]
        true = {
            "not everything came": part.client is Client.LOST,
            Told.REFUSE_STUCK.value: any(self._operations[p.journal].ending is Ending.STUCK for p in state.parts),
            Told.REFUSE_MOVED.value: not part.includes
            and _commit(state.branch) not in ("", self._operations[part.journal].plan.previous_commit),
        }
        if not true[reason]:
            self._note(Invariant.SURVIVES, f"operation {number}: {reason}")
        self._seen.refusals[reason] += 1
        return self._append(state, number, e.Refused(at=1.0, reason=reason), reason)

    def _run(self, state: State, number: int, action: decisions.Action | None, op: Operation) -> Iterator[Move]:
        def record(event: e.Event) -> Callable[[], State]:
            return lambda: self._append(state, number, event)

        match action:
            case Do(step):
                yield f"{number} starts its step", record(e.StepStarted(at=1.0, step=step))
            case Undo(step):
                yield f"{number} starts its undo", record(e.UndoStarted(at=1.0, step=step))
            case Commit():
                yield f"{number} commits", record(e.Committed(at=1.0))
            case End(ending):
                yield f"{number} ends", record(e.Ended(at=1.0, ending=ending))
            case None if op.step(STEP).state is StepState.UNDOING:
                yield f"{number} is undone", record(e.UndoDone(at=1.0, step=STEP))
            case None:
                if op.cancel is not None:
                    yield f"{number} is interrupted", record(e.StepInterrupted(at=1.0, step=STEP))
                # Also with a cancel: it may not have been told.
                yield f"{number} does its step", record(e.StepDone(at=1.0, step=STEP))

    def _recover(self, state: State, number: int) -> State:
        op = self._operations[state.parts[number - 1].journal]
        if state.parts[number - 1].worker:
            self._note(Invariant.ONE_WORKER, f"operation {number} is taken over alive")
            raise Dead
        state = _set(state, number, worker=True)
        state = state._replace(waiting=number) if op.queued else state._replace(running=number)
        return self._append(state, number, e.WorkerDied(at=1.0))

    def _free(self, state: State, op: Operation) -> bool:
        return state.waiting == 0 and not self.forgetful if op.queued else state.running == 0

    def _receive(self, state: State, number: int) -> State:
        part = state.parts[number - 1]
        state = _set(state, number, client=Client.DONE)
        if self._operations[part.journal].ending is not None:
            return state
        if self.unheard and not part.worker:
            return state  # the push goes on to wait for the end
        return self._append(state, number, e.Received(at=1.0))

    def _leave(self, state: State, number: int) -> State:
        state = _set(state, number, worker=False, decided=None)
        return state._replace(
            running=0 if state.running == number else state.running,
            waiting=0 if state.waiting == number else state.waiting,
        )

    # What people, crashes and bad luck do.

    def _hostile(self, state: State) -> Iterator[Move]:
        if len(state.parts) < self.pushes:
            for policy in OnBusy:
                for includes in (True, False) if state.parts else (True,):
                    which = f"{len(state.parts) + 1} is pushed: {policy}{'' if includes else ', from behind'}"
                    yield which, lambda p=policy, i=includes: self._push(state, p, i)  # type: ignore[misc]
        for number, part in enumerate(state.parts, 1):
            yield from self._against(state, number, part)
        if state.crashes < self.crashes and any(p.worker or p.opener for p in state.parts):
            yield "0 reboot", lambda: self._reboot(state)

    def _against(self, state: State, number: int, part: Part) -> Iterator[Move]:
        op = self._operations[part.journal]
        verdict = operation.verdict(op)
        self._seen.verdicts[verdict] += 1
        if verdict.accepted:  # `adversary` sees that no other one changes anything
            yield f"{number} is cancelled", lambda: self._cancel(state, number)
        if part.client is Client.BRINGING:
            yield f"{number} loses its push", lambda: _set(state, number, client=Client.LOST)
        if part.attached and part.client is Client.DONE and op.ending is None:
            yield f"{number} loses its client", lambda: _set(state, number, client=Client.GONE)
        if part.opener and op.header.queued and state.waiting not in (0, number):
            yield f"{number} is opened by somebody without patience", lambda: _set(state, number, opener=False)
        if part.worker and op.ending is None and op.running is not None and op.committed is None:
            if op.running.state is StepState.UNDOING:
                undo = e.UndoFailed(at=1.0, step=STEP, reason="it stays")
                yield f"{number} cannot be undone", lambda: self._append(state, number, undo)
            else:
                failed = e.StepFailed(at=1.0, step=STEP, reason="it broke")
                yield f"{number} fails", lambda: self._append(state, number, failed)
        if (part.worker or part.opener) and state.crashes < self.crashes and op.ending is None:
            yield f"{number} is killed", lambda: self._kill(state, number)
        if op.ending is Ending.STUCK and state.running == 0:
            yield f"{number} is tried again", lambda: self._retry(state, number)

    def _push(self, state: State, policy: OnBusy, includes: bool) -> State:
        """As `open_operation`: decided and journalled in one transaction."""
        before = state
        running, queued = self._running(state), self._waiting(state)
        if not self.polite:
            for leaving in queued:
                if leaving.turned:
                    state = self._end_waiting(state, leaving.id)
            queued = self._waiting(state)
        admission = self.admit(running, queued, policy)
        self._seen.admissions[f"{policy}: {type(admission).__name__.lower()}"] += 1
        busy = running is not None or bool(queued)
        stuck = running is not None and running.ending is Ending.STUCK
        if isinstance(admission, Reject):
            return before
        if policy is OnBusy.REJECT and busy:
            self._note(Invariant.REJECTED, f"{admission}")
        if stuck:
            self._note(Invariant.STUCK, f"{admission}")
        number = len(state.parts) + 1
        if isinstance(admission, Start):
            if state.running:
                raise Dead  # whoever opens needs the lock, and tries again in a moment
            plan = _plan(number, state.branch)
            part = Part(self._open(number, plan, queued=False), includes=includes, begun=True)
            self._check_begin(state, number, part)
            return state._replace(parts=(*state.parts, part), running=number, newest_begun=number)
        for each in admission.supersedes:
            state = self._supersede(state, each, number)
        part = Part(
            self._open(number, _plan(number, state.branch), queued=True),
            client=Client.BRINGING,
            attached=self.attach,
            includes=includes,
        )
        state = state._replace(parts=(*state.parts, part))
        if admission.cancels is not None:
            state = self._cancel_for(state, admission.cancels, policy)
        return state

    def _supersede(self, state: State, each: int, number: int) -> State:
        if state.parts[each - 1].begun:
            self._note(Invariant.NEVER_BEGAN, f"operation {each} by {number}")
        state = self._append(state, each, e.Superseded(at=1.0, operation=number))
        return self._end_waiting(_set(state, each, overtaken=True), each)

    def _end_waiting(self, state: State, each: int) -> State:
        how = operation.ending(self._operations[state.parts[each - 1].journal])
        if how is None:
            self._note(Invariant.LEGAL, f"operation {each} cannot end, to make way")
            raise Dead
        return self._append(state, each, e.Ended(at=1.0, ending=how))

    def _cancel_for(self, state: State, running: int, policy: OnBusy) -> State:
        before = self._operations[state.parts[running - 1].journal]
        if policy is not OnBusy.SUPERSEDE:
            self._note(Invariant.UNASKED, f"operation {running}, by {policy}")
        verdict = operation.verdict(before)
        self._check_truth(state.parts[running - 1], before, verdict)
        return self._cancel(state, running)

    def _cancel(self, state: State, number: int) -> State:
        part = state.parts[number - 1]
        verdict = operation.verdict(self._operations[part.journal])
        state = self._append(
            state, number, e.CancelRequested(at=1.0, by="alice", reason="", verdict=verdict), verdict.value
        )
        return _set(state, number, accepted=True) if verdict.accepted else state

    def _retry(self, state: State, number: int) -> State:
        state = self._append(state, number, e.RecoveryRequested(at=1.0, by="alice"))
        return _set(state, number, worker=True)._replace(running=number)

    def _kill(self, state: State, number: int) -> State:
        """Its worker, or who opened it and has not come to start one."""
        op, part = self._operations[state.parts[number - 1].journal], state.parts[number - 1]
        state = self._leave(state, number)._replace(crashes=state.crashes + 1)
        return state if part.worker and op.queued else _set(state, number, opener=False)

    def _reboot(self, state: State) -> State:
        parts = []
        for part in state.parts:
            client = Client.LOST if part.client is Client.BRINGING else part.client
            if part.attached and client is Client.DONE:
                client = Client.GONE
            parts.append(part._replace(worker=False, opener=False, decided=None, client=client))
        return state._replace(parts=tuple(parts), running=0, waiting=0, crashes=state.crashes + 1)

    # The journal.

    def _open(self, number: int, plan: Plan, *, queued: bool) -> int:
        header = Header(id=number, by="alice", door="local", opened=0.0, queued=queued)
        return self._intern(operation.opened(header, plan), (), operation.opened(header, plan))

    def _append(self, state: State, number: int, event: e.Event, variant: str = "") -> State:
        part = state.parts[number - 1]
        self._check_record(state, number, part, event)
        key = (part.journal, f"{event.type} {variant}{event.ending if isinstance(event, e.Ended) else ''}")
        if key not in self._applied:
            self._applied[key] = self._apply(part.journal, event)
        after = self._applied[key]
        if isinstance(after, str):
            self._note(Invariant.LEGAL, after)
            raise Dead
        overtaken = after != part.journal and not self.stubborn
        part = part._replace(journal=after, decided=None if overtaken else part.decided)
        match event:
            case e.Begun():
                part = part._replace(begun=True, decided=None)
            case e.Committed():
                part = part._replace(committed=True)
                state = state._replace(branch=number)
            case e.Ended():
                self._seen.endings[event.ending, part.begun] += 1
        return state._replace(parts=(*state.parts[: number - 1], part, *state.parts[number:]))

    def _apply(self, journal: int, event: e.Event) -> int | str:
        try:
            after = operation.apply(self._operations[journal], event)
        except IllegalEvent as error:
            return str(error)
        lines = (*self._journals[journal], json.dumps(e.to_json(event)))
        return self._intern(after, lines, self._openings[journal])

    def _intern(self, op: Operation, journal: tuple[str, ...], opening: Operation) -> int:
        key = _essence(op)
        if key not in self._numbers:
            self._numbers[key] = len(self._operations)
            self._operations.append(op)
            self._journals.append(journal)
            self._openings.append(opening)
            plan = Plan.from_json(json.loads(json.dumps(opening.plan.to_json())))
            try:
                read = operation.replay(opening.header, plan, (e.from_json(json.loads(line)) for line in journal))
            except IllegalEvent as error:
                self._note(Invariant.REPLAY, str(error))
            else:
                if read != op:
                    self._note(Invariant.REPLAY, " ".join(journal))
        return self._numbers[key]

    def _running(self, state: State) -> Operation | None:
        """As `Store.unfinished`."""
        found = (self._operations[part.journal] for part in state.parts)
        return next((op for op in found if (op.ending is None and not op.queued) or op.ending is Ending.STUCK), None)

    def _waiting(self, state: State) -> tuple[Operation, ...]:
        found = (self._operations[part.journal] for part in state.parts)
        return tuple(op for op in found if op.ending is None and op.queued)

    def _tidy(self, state: State) -> State:
        """Without what makes no difference any more."""
        parts = tuple([self._tidied(part) for part in state.parts])
        return state if parts == state.parts else state._replace(parts=parts)

    def _tidied(self, part: Part) -> Part:
        ending = self._operations[part.journal].ending
        if ending is None:
            return part._replace(includes=True) if part.begun and not part.includes else part
        kept = part.accepted and ending is Ending.STUCK
        return Part(part.journal, part.worker, opener=False, begun=part.begun, accepted=kept)

    # The invariants.

    def _check(self, state: State) -> None:
        begun = [
            number
            for number, part in enumerate(state.parts, 1)
            if part.begun and self._operations[part.journal].ending in (None, Ending.STUCK)
        ]
        if len(begun) > 1:
            self._note(Invariant.ONE_RUNS, f"operations {begun}")
        waiting = self._waiting(state)
        if len(waiting) > 1:
            self._note(Invariant.ONE_WAITS, f"operations {[op.id for op in waiting]}")

    def _check_begin(self, state: State, number: int, part: Part) -> None:
        if number < state.newest_begun:
            self._note(Invariant.IN_ORDER, f"operation {number} after {state.newest_begun}")
        if any(self._operations[each.journal].ending is Ending.STUCK for each in state.parts):
            self._note(Invariant.STUCK, f"operation {number} begins")
        base = self._operations[part.journal].plan.previous_commit
        if not part.includes and _commit(state.branch) not in ("", base):
            self._note(Invariant.FAST_FORWARD, f"operation {number} replaces {state.branch}")

    def _check_record(self, state: State, number: int, part: Part, event: e.Event) -> None:
        forward = isinstance(event, e.Begun | e.StepStarted | e.Committed)
        if forward and part.attached and part.client is Client.GONE and not part.committed:
            self._note(Invariant.ATTACHED, f"operation {number}: {event.type}")
        if isinstance(event, e.WorkerDied) and not part.begun:
            op = self._operations[part.journal]
            if operation.apply(op, event).turned is not op.turned:
                self._note(Invariant.SURVIVES, f"operation {number} was waiting when its worker died")
        if isinstance(event, e.Ended):
            wrong = (
                event.ending not in (Ending.CANCELLED, Ending.STUCK)
                if part.accepted
                else event.ending is Ending.CANCELLED
            )
            if wrong or (part.committed and event.ending is not Ending.SUCCEEDED):
                self._note(Invariant.KEPT, f"operation {number} ended as {event.ending}")
            if (event.ending is Ending.SUPERSEDED) is not part.overtaken:
                self._note(Invariant.OVERTAKEN, f"operation {number} ended as {event.ending}")

    def _check_truth(self, part: Part, op: Operation, verdict: Verdict) -> None:
        late = part.committed or (op.turned and not part.accepted)
        true = {Verdict.TOO_LATE} if late else {Verdict.ALREADY_CANCELLING} if part.accepted else {Verdict.NOW}
        if verdict not in true:
            self._note(Invariant.TRUTH, f"operation {op.id}: {verdict}")

    def _check_quiet(self, state: State, came: dict[State, tuple[State, str] | None]) -> None:
        """Nothing happens by itself any more: then everything has ended."""
        self._seen.ends += 1
        left = [number for number, p in enumerate(state.parts, 1) if self._operations[p.journal].ending is None]
        if left:
            self._note(Invariant.ENDS, f"operations {left} are left: {state}")
            self._record_notes(state, "0 nothing happens", came)

    def _check_ends(self, alone: dict[State, list[State]], came: dict[State, tuple[State, str] | None]) -> None:
        """Nor does anything go round in a circle: so every order of what is due comes to an end."""
        missing = Counter({state: len(targets) for state, targets in alone.items()})
        sources: dict[State, list[State]] = {}
        for state, targets in alone.items():
            for target in targets:
                sources.setdefault(target, []).append(state)
        done = deque(state for state in alone if not missing[state])
        count = 0
        while done:
            count += 1
            for source in sources.get(done.popleft(), ()):
                missing[source] -= 1
                if not missing[source]:
                    done.append(source)
        if count < len(alone):
            round_ = next(state for state in alone if missing[state] > 0)
            self._note(Invariant.ENDS, f"it goes round: {round_}")
            self._record_notes(round_, "0 left alone", came)

    def _note(self, invariant: Invariant, detail: str) -> None:
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
    return ["an idle app", *reversed(way)]


def _set(state: State, number: int, **changes: object) -> State:
    part = state.parts[number - 1]._replace(**changes)  # type: ignore[arg-type]
    return state._replace(parts=(*state.parts[: number - 1], part, *state.parts[number:]))


def _commit(branch: int) -> str:
    """The commit that an operation brings; of 0, that there is no branch yet."""
    return f"{branch}" * 40 if branch else ""


def _plan(number: int, branch: int) -> Plan:
    return Plan(
        kind=Kind.DEPLOY,
        app="shop",
        branch="main",
        release=number,
        commit=_commit(number),
        steps=(Step(STEP),),
        finishing=(),
        settings=Settings(),
        processes={},
        previous_commit=_commit(branch),
    )


def _essence(op: Operation) -> object:
    """What two operations have in common that behave alike from now on."""
    if op.ending is not None and op.ending is not Ending.STUCK:
        return op.id, op.ending, op.queued, op.superseded is not None
    return (
        op.id,
        tuple(step.state for step in op.steps),
        op.plan.previous_commit,
        op.header.queued,
        op.queued,
        op.received and op.queued,
        op.superseded is not None,
        op.cancel is not None,
        bool(op.failure) and op.cancel is None,
        op.committed is not None,
        op.ending,
    )
