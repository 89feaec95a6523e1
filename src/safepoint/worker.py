"""The worker: the detached process that runs one operation, and the one place that puts engine and drivers together.

Run by `launch` as `python -m safepoint.worker HOME OPERATION LOCK_FD LISTENER_FD TAKES_OVER`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from safepoint import faults, logs
from safepoint.control.server import ControlServer
from safepoint.core import events as e
from safepoint.core import wording
from safepoint.drivers.checkout import Checkout
from safepoint.drivers.haproxy import HAProxy
from safepoint.drivers.http_health import HttpHealth
from safepoint.drivers.supervisord import Supervisord
from safepoint.engine.context import Context, Places
from safepoint.engine.environment import host_facts
from safepoint.engine.executor import Executor
from safepoint.engine.latch import CancelLatch
from safepoint.git.repositories import GitRepository
from safepoint.processes import identity
from safepoint.processes.contained import ContainedCommands
from safepoint.state.journal import Journal
from safepoint.state.output import OutputLog
from safepoint.state.paths import Home
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store


def main(arguments: list[str]) -> int:
    home, number, lock_fd, listener_fd, takes_over = Home(Path(arguments[0])), *map(int, arguments[1:])
    lock = Lock(lock_fd)
    me = identity.of(os.getpid())
    assert me is not None
    for fd in (lock_fd, listener_fd):
        os.set_inheritable(fd, False)
    try:
        with Store.open(home) as store:
            worker = Worker(home, store, number, socket.socket(fileno=listener_fd))
            lock.sign(me, number)  # from now on somebody may send SIGTERM
            worker.run(takes_over=bool(takes_over))
    except Exception:
        # The journal cannot be written: the operation stays open, and whoever finds the lock free recovers it.
        logs.defect(home, "the worker gave up", operation=number)
        return 1
    return 0


class Worker:
    def __init__(self, home: Home, store: Store, number: int, listener: socket.socket) -> None:
        self._home = home
        self._store = store
        self._number = number
        self._latch, self._never, self._received = CancelLatch(), CancelLatch(), CancelLatch()
        handlers = {"cancel": self._cancel, "received": self._receive, "signal": self._signal}
        self._control = ControlServer(listener, number, handlers, on_defect=self._on_defect, watch_signals=True)
        self._listener = listener
        self._output = OutputLog(home.output(number), self._control.grown)
        assert self._control.signals is not None
        signal.set_wakeup_fd(self._control.signals, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)  # the wakeup descriptor carries it
        self._journal = Journal(store, number, on_record=self._on_record)

    def run(self, *, takes_over: bool) -> None:
        output = self._output
        receiver = self._open_receiver()
        if takes_over:
            self._take_over(output)
        asked = self._journal.operation.cancel
        if asked is not None:
            self._latch.set(force=asked.force)
        self._control.start()
        try:
            Executor(self._journal, self._context(output, receiver), on_defect=self._on_defect).run()
        finally:
            signal.set_wakeup_fd(-1)
            output.close()
            if receiver is not None:
                os.close(receiver)
        self._control.close()
        self._listener.close()

    def _take_over(self, output: OutputLog) -> None:
        """The worker that was here before is dead: say so, in the journal first."""
        self._journal.record(e.WorkerDied(at=time.time()))
        output.say("The deploy process died; another one takes over")

    def _open_receiver(self) -> int | None:
        receiver = self._journal.operation.plan.receiver
        return None if receiver is None else identity.open_pidfd(receiver)

    def _context(self, output: OutputLog, receiver: int | None) -> Context:
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
                scratch=home.scratch(plan.app),
                release_of=lambda release: home.release(plan.app, release),
            ),
            latch=self._latch,
            never=self._never,
            received=self._received,
            receiver=receiver,
            commands=ContainedCommands(home),
            source=Checkout(),
            runtime=Supervisord(home),
            router=HAProxy(home),
            health=HttpHealth(),
            repository=GitRepository(home.repository(plan.app)),
            releases=self._store,
            output=output,
            leave=lambda: home.control_socket(plan.app).unlink(missing_ok=True),
            data_of=lambda step: self._journal.operation.step(step).data or {},
        )

    # What the control socket is asked for; in the control server's thread, with a connection of its own.

    def _cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        by, reason, force = (request.get("by"), request.get("reason", ""), request.get("force", False))
        if not isinstance(by, str) or not isinstance(reason, str) or not isinstance(force, bool):
            return {"error": "a cancel says by whom, and may give a reason"}
        with Store.open(self._home) as store:
            journal = Journal(store, self._number, on_record=None)
            given = journal.request_cancel(by=by, reason=reason, force=force)
            answer = wording.answer(journal.operation, given)
        if given.accepted:
            self._output.say(wording.asked(journal.operation))
        if given.accepted or (force and given is e.Verdict.ALREADY_CANCELLING):
            self._latch.set(force=force)
        return {"verdict": given.value, "answer": answer}

    def _signal(self, _request: dict[str, Any]) -> dict[str, Any]:
        """SIGTERM means the same cancel. One that is journalled already was sent after it, to wake this process."""
        with Store.open(self._home) as store:
            journal = Journal(store, self._number)
            asked = journal.operation.cancel
            if asked is None and journal.request_cancel(by="SIGTERM", reason="", force=False).accepted:
                asked = journal.operation.cancel
                self._output.say(wording.asked(journal.operation))
        if asked is not None:
            self._latch.set(force=asked.force)
        return {}

    def _receive(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._received.set()
        return {"ok": True}

    def _on_record(self, _event: e.Event) -> None:
        faults.after_record(self._journal.operation.length)

    def _on_defect(self, what: str) -> str:
        return logs.defect(self._home, what, operation=self._number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
