"""Waiting for an operation's turn: for the app's lock, in the kernel, with an ear for everything that ends the wait."""

from __future__ import annotations

import os
import select
import time
from threading import Thread

from safepoint import launch, planning
from safepoint.core import events as e
from safepoint.core import wording
from safepoint.core.app import App
from safepoint.core.failures import Interrupted
from safepoint.core.operation import Operation
from safepoint.core.plan import Kind, Plan
from safepoint.core.slots import running_slot
from safepoint.engine.latch import CancelLatch
from safepoint.errors import UserError
from safepoint.git.repositories import GitRepository
from safepoint.record import replace
from safepoint.state.paths import Home
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store


class Turn:
    """`lock` is the running slot's, once its turn has come."""

    def __init__(
        self, home: Home, store: Store, latch: CancelLatch, received: CancelLatch, receiver: int | None
    ) -> None:
        self._home = home
        self._store = store
        self._latch = latch
        self._received = received
        self._receiver = receiver
        self._locked = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waits = False
        self.lock: Lock | None = None

    def close(self) -> None:
        if self.lock is not None:
            self.lock.close()
        if not self._waits:  # else the thread may still write to it; the process ends with both
            os.close(self._locked)

    def wait(self, operation: Operation) -> e.Begun | e.Refused:
        """Returns what is to be journalled. Raises Interrupted when the latch is set."""
        while True:
            self._wait_for(operation)
            if self._store.operation(operation.id).received:
                self._received.set()  # the hook has journalled it while nobody listened here
            if operation.plan.receiver is not None and not self._received.is_set():
                return e.Refused(at=time.time(), reason="the push ended before everything had arrived")
            blocking = self._store.unfinished(operation.app)
            if blocking is None:
                return self._begin(operation)
            if blocking.ending is not None:
                return e.Refused(at=time.time(), reason=wording.locked(blocking))
            # Its worker is dead, and its story comes first.
            assert self.lock is not None
            launch.start_worker(self._home, running_slot(operation.app), blocking.id, self.lock, takes_over=True)
            self.lock.close()
            self.lock = None

    def _wait_for(self, operation: Operation) -> None:
        """The lock, and the objects; or the end of the push that was to bring them."""
        while not (self.lock is not None and (operation.plan.receiver is None or self._received.is_set())):
            if self.lock is None and not self._waits:
                self._waits = True
                Thread(target=self._take, args=(operation.app,), name="turn", daemon=True).start()
            poll = select.poll()
            poll.register(self._latch.fileno(), select.POLLIN)
            poll.register(self._locked, select.POLLIN)
            if not self._received.is_set():
                poll.register(self._received.fileno(), select.POLLIN)
                if self._receiver is not None:
                    poll.register(self._receiver, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self._latch.is_set():
                raise Interrupted
            if self._locked in ready:
                os.eventfd_read(self._locked)
                self._waits = False
                self.lock = self._taken
            lost = self._receiver in ready or self._receiver is None
            if operation.plan.receiver is not None and lost and not self._received.is_set():
                return

    def _take(self, app: str) -> None:
        self._taken = Lock.take(self._home.pidfile(running_slot(app)), wait=True)
        os.eventfd_write(self._locked, 1)

    def _begin(self, operation: Operation) -> e.Begun | e.Refused:
        try:
            plan = self._plan_anew(operation)
        except UserError as error:
            return e.Refused(at=time.time(), reason=error.message)
        return e.Begun(at=time.time(), plan=plan.to_json())

    def _plan_anew(self, operation: Operation) -> Plan:
        """What it replaces may have changed. Raises UserError where it must not go on."""
        old, app = operation.plan, self._store.need_app(operation.app)
        if old.kind is Kind.ROLLBACK:
            return planning.rollback(self._home, self._store, app, old.release)[0]
        plan = planning.deploy(self._home, self._store, app, old.commit, old.receiver)
        repository = GitRepository(self._home.repository(app.name))
        now = plan.previous_commit
        moved = now not in ("", old.previous_commit)
        if old.receiver is not None and moved and not repository.is_ancestor(now, plan.commit):
            raise UserError(wording.fetch_first(plan, self._current(app)))
        return replace(plan, attach=old.attach)

    def _current(self, app: App) -> Operation | None:
        """The operation that made what runs now."""
        release = self._store.current_release(app.name)
        return None if release is None else self._store.operation(release.operation)
