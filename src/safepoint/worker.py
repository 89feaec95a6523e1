"""The worker: the detached process that runs one operation, and the one place that puts engine and drivers together.

Run by `launch` as `safepoint.worker HOME OPERATION LOCK_FD LISTENER_FD TAKES_OVER`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

from safepoint import faults, launch, logs, server_settings
from safepoint.control.protocol import cancel_request
from safepoint.control.server import ControlServer
from safepoint.core import events as e
from safepoint.core import wording
from safepoint.core.decisions import AwaitTurn, decide
from safepoint.core.failures import Interrupted, Overtaken, StepError
from safepoint.core.operation import Operation
from safepoint.core.plan import Kind
from safepoint.core.slots import slot_of, waiting_slot
from safepoint.drivers.checkout import Checkout
from safepoint.drivers.haproxy import HAProxy
from safepoint.drivers.http_health import HttpHealth
from safepoint.drivers.spare import Spare
from safepoint.drivers.supervisord import Supervisord
from safepoint.engine.context import Context, Places
from safepoint.engine.environment import host_facts
from safepoint.engine.executor import Executor
from safepoint.engine.latch import CancelLatch
from safepoint.git.repositories import GitRepository
from safepoint.hints import Any
from safepoint.processes import identity
from safepoint.processes.contained import ContainedCommands
from safepoint.state.journal import Journal
from safepoint.state.output import OutputLog
from safepoint.state.paths import Home
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store
from safepoint.state.trouble import CannotStore
from safepoint.turn import Turn


def main(arguments: list[str]) -> int:
    # Else http.client, for supervisord's Unix socket, loads OpenSSL: 4 MB in each worker that waits. With None it finds
    # no such module (Python's import system, "The module cache").
    sys.modules["ssl"] = None  # type: ignore[assignment]
    home, number, lock_fd, listener_fd, takes_over = Home(Path(arguments[0])), *map(int, arguments[1:])
    lock = Lock(lock_fd)
    me = identity.of(os.getpid())
    assert me is not None
    for fd in (lock_fd, listener_fd):
        os.set_inheritable(fd, False)
    try:
        with Store.open(home) as store:
            server_settings.adopt(store, os.environ)
            worker = Worker(home, store, number, lock, socket.socket(fileno=listener_fd))
            lock.sign(me, number)  # from now on somebody may send SIGTERM
            worker.run(takes_over=bool(takes_over))
            worker.prepare_next()
    except CannotStore as error:
        # The operation stays open, and whoever finds the lock free recovers it.
        logs.logger(home, operation=number).error("the journal cannot be written", reason=str(error))
        return 1
    except Exception:
        logs.defect(home, "the worker gave up", operation=number)
        return 1
    return 0


class Worker:
    def __init__(self, home: Home, store: Store, number: int, lock: Lock, listener: socket.socket) -> None:
        self._home = home
        self._store = store
        self._number = number
        self._lock = lock
        self._listener = listener
        self._latch, self._never, self._received = CancelLatch(), CancelLatch(), CancelLatch()
        handlers = {
            "cancel": self._cancel,
            "received": self._receive,
            "look": self._look,
            "signal": self._signal,
            "detached": self._lost,
        }
        self._control = ControlServer(listener, number, handlers, on_defect=self._on_defect, watch_signals=True)
        self._output = OutputLog(home.output(number), self._control.grown, server_settings.kept_output(store))
        assert self._control.signals is not None
        signal.set_wakeup_fd(self._control.signals, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)  # the wakeup descriptor carries it
        self._journal = Journal(store, number, on_record=self._on_record)
        self._slot = slot_of(self._journal.operation)

    def run(self, *, takes_over: bool) -> None:
        receiver = self._open_receiver()
        if takes_over:
            self._take_over()
        operation = self._journal.operation
        if operation.cancel is not None or operation.superseded is not None:
            self._latch.set(force=operation.cancel is not None and operation.cancel.force)
        if operation.received:
            self._received.set()
        if operation.plan.attach:
            self._attach(receiver)
        self._control.start()
        turn = Turn(self._home, self._store, self._latch, self._received, receiver)
        try:
            self._await_turn(turn)
            Executor(self._journal, self._context(receiver), on_defect=self._on_defect).run()
        except CannotStore as error:
            self._output.say(wording.cannot_go_on(str(error)))
            raise
        finally:
            signal.set_wakeup_fd(-1)
            self._output.close()
            if receiver is not None:
                os.close(receiver)
        self._control.close()
        self._listener.close()
        turn.close()
        self._lock.close()

    def prepare_next(self) -> None:
        """When all is said and the app is free, make what its next export begins with. Nobody waits for it."""
        plan = self._journal.operation.plan
        if plan.kind is not Kind.DEPLOY or self._journal.operation.ending is not e.Ending.SUCCEEDED:
            return
        try:
            maker = Lock.take(self._home.spare_lock(plan.app))
        except OSError:  # the app was taken away meanwhile
            return
        if maker is None:
            return
        os.nice(19)
        try:
            self._source().prepare(self._home.repository(plan.app), plan.commit, self._never)
        except (StepError, OSError) as error:  # a full disk, say: the next export writes all of it
            logs.logger(self._home).warning("no spare tree", app=plan.app, error=str(error))
        finally:
            maker.close()

    def _source(self) -> Checkout:
        return Checkout(Spare(self._home.spare(self._journal.operation.plan.app)))

    def _await_turn(self, turn: Turn) -> None:
        """Of an operation that was opened while its app was busy. Returns when it may run, or is to end."""
        if isinstance(decide(self._journal.operation), AwaitTurn):
            self._output.say(
                wording.waiting(self._journal.operation, self._store.unfinished(self._journal.operation.app))
            )
        while isinstance(decide(self._journal.operation), AwaitTurn):
            try:
                event = turn.wait(self._journal.operation)
            except Interrupted:
                self._journal.refresh()
                continue
            try:
                self._journal.append(event)
            except Overtaken:
                continue
            if isinstance(event, e.Begun):
                self._move_in(turn)

    def _move_in(self, turn: Turn) -> None:
        """Into the running slot. The old one is free for the next that waits as soon as its lock is closed."""
        assert turn.lock is not None
        me = identity.of(os.getpid())
        assert me is not None
        turn.lock.sign(me, self._number)
        self._slot = slot_of(self._journal.operation)
        self._control.add(launch.listen(self._home, self._slot))
        self._home.control_socket(waiting_slot(self._journal.operation.app)).unlink(missing_ok=True)
        self._lock.close()
        self._lock, turn.lock = turn.lock, None
        self._output.say(wording.begun(self._journal.operation))

    def _attach(self, receiver: int | None) -> None:
        """Losing the push cancels the operation: its git-receive-pack lives exactly as long."""
        if receiver is None:
            self._lost({})
        else:
            self._control.watch(receiver, "detached")

    def _take_over(self) -> None:
        """The worker that was here before is dead: say so, in the journal first."""
        while (operation := self._journal.operation).ending is None:
            if operation.queued and operation.length == 0:
                return  # there was none yet: we were quicker than whoever has opened it, or have outlived them
            try:
                self._journal.append(e.WorkerDied(at=time.time()))
            except Overtaken:
                continue  # superseded perhaps, and so at its end
            self._output.say("The deploy process died; another one takes over")
            return

    def _open_receiver(self) -> int | None:
        receiver = self._journal.operation.plan.receiver
        return None if receiver is None else identity.open_pidfd(receiver)

    def _context(self, receiver: int | None) -> Context:
        home, plan = self._home, self._journal.operation.plan
        return Context(
            operation=self._number,
            plan=plan,
            environment=self._store.environment(self._number),
            host=self._store.host_facts() or host_facts(os.environ),
            places=Places(
                repository=home.repository(plan.app),
                release=home.release(plan.app, plan.release),
                cache=home.cache(plan.app),
                data=home.data(plan.app),
                scratch=home.scratch(plan.app),
                release_of=lambda release: home.release(plan.app, release),
            ),
            latch=self._latch,
            never=self._never,
            received=self._received,
            receiver=receiver,
            commands=ContainedCommands(home),
            source=self._source(),
            runtime=Supervisord(home),
            router=HAProxy(home),
            health=HttpHealth(),
            repository=GitRepository(home.repository(plan.app)),
            releases=self._store,
            output=self._output,
            leave=self._leave,
            data_of=lambda step: self._journal.operation.step(step).data or {},
        )

    def _leave(self) -> None:
        """Take away what only a running operation has. Whoever is told of the end finds the output on the disk."""
        self._output.settle()
        self._home.control_socket(self._slot).unlink(missing_ok=True)

    # What the control socket is asked for; in the control server's thread, with a connection of its own.

    def _cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = cancel_request(request)
        with Store.open(self._home) as store:
            journal = Journal(store, self._number, on_record=None)
            given = journal.request_cancel(
                by=asked.by, door=asked.door, reason=asked.reason, force=asked.force, requested=asked.requested
            )
            answer = wording.answer(journal.operation, given)
        if given.accepted:
            self._output.say(wording.asked(journal.operation))
        if given.accepted or (asked.force and given is e.Verdict.ALREADY_CANCELLING):
            self._latch.set(force=asked.force)
        return {"verdict": given.value, "answer": answer}

    def _signal(self, _request: dict[str, Any]) -> dict[str, Any]:
        """SIGTERM means the same cancel. What is journalled already was so before it, and it is to wake us."""
        if not self._look({})["stopped"]:
            self._cancel({"by": "SIGTERM"})
        return {}

    def _lost(self, _request: dict[str, Any]) -> dict[str, Any]:
        """The client of an attached push has gone."""
        if not self._look({})["stopped"]:
            header = self._journal.operation.header
            self._cancel({"by": header.by, "door": header.door, "reason": "the attached push was lost"})
        return {}

    def _look(self, _request: dict[str, Any]) -> dict[str, Any]:
        """Somebody else has written to the journal."""
        with Store.open(self._home) as store:
            found = store.operation(self._number)
        stopped = found.turned or found.ending is not None
        if found.cancel is not None and found.ending is None:
            self._output.say(wording.asked(found))
        if stopped:
            self._latch.set(force=found.cancel is not None and found.cancel.force)
        return {"stopped": stopped}

    def _receive(self, _request: dict[str, Any]) -> dict[str, Any]:
        with Store.open(self._home) as store:
            Journal(store, self._number, on_record=self._on_record).receive()
        self._received.set()
        return {"ok": True}

    @staticmethod
    def _on_record(operation: Operation) -> None:
        faults.after_record(operation.length)

    def _on_defect(self, what: str) -> str:
        return logs.defect(self._home, what, operation=self._number)
