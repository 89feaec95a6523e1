"""Opens operations and starts their workers: for pushes, for the operator's commands, and for recovery.

An app has two slots: one for the operation that runs, one for the one that waits for its turn. Each has a lock and a
control socket, which are made here and inherited by the worker. So an open operation whose slot's lock is free has a
dead worker, without exception, and a cancel can be sent before the worker has drawn its first breath.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from safepoint import faults, interpreter
from safepoint.control.wake import wake
from safepoint.core import events as e
from safepoint.core.operation import Operation
from safepoint.core.plan import Plan
from safepoint.core.queueing import OnBusy
from safepoint.core.slots import running_slot, waiting_slot
from safepoint.errors import NoSuchOperation, UserError
from safepoint.processes import identity
from safepoint.processes.detach import spawn
from safepoint.state import pidfile
from safepoint.state.journal import Journal
from safepoint.state.opening import AppBusy, Opened, open_operation
from safepoint.state.paths import Home, short
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store

_LOCK_SECONDS = 10.0
"""A lock is held without a reason in the journal only for moments: by a worker that exits, or by another opening."""


def open_and_launch(
    home: Home,
    store: Store,
    plan: Plan,
    *,
    by: str,
    door: str,
    policy: OnBusy,
    reason: str = "",
    environment: Mapping[str, str],
    permit_cancel: Callable[[int], object],
    on_open: Callable[[Opened], object] = lambda _opened: None,
) -> Opened:
    """Open an operation, to begin now or to wait for its turn; its worker runs.

    `on_open` is called once it is in the journal, and raises nothing: from then on its story has an end, whatever
    becomes of its worker, whose start nobody need wait for to hear of it.
    `permit_cancel` is asked before a running one is cancelled in its favour. Raises AppBusy, and what that raises.
    """
    store.reserve()  # what cannot be journalled to its end is not begun
    recover(home, store, plan.app)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        lock = Lock.take(home.pidfile(running_slot(plan.app)))
        # Before the opening: whoever dies between that and the worker's start drops the connection of `serve` to it.
        listener = None if lock is None else listen(home, running_slot(plan.app))
        started = False
        try:
            opened = open_operation(
                store,
                plan,
                by=by,
                door=door,
                reason=reason,
                environment=environment,
                policy=policy,
                may_start=lock is not None,
                permit_cancel=permit_cancel,
            )
            faults.after_record(0)
            on_open(opened)
            if lock is not None and not opened.queued:
                started = True
                start_worker(home, plan.app, opened.operation, lock, takes_over=False, listener=listener)
        except AppBusy as busy:
            if busy.operation:
                raise
            if time.monotonic() > deadline:
                if not evict(home, store, running_slot(plan.app)):
                    raise UserError(f"{plan.app} is locked by another command", "try again in a moment") from None
                deadline = time.monotonic() + _LOCK_SECONDS
        else:
            break
        finally:
            if listener is not None and not started:
                listener.close()
                home.control_socket(running_slot(plan.app)).unlink(missing_ok=True)
            if lock is not None:
                lock.close()
        time.sleep(0.01)  # a blocking flock would wait for the whole of an operation that began meanwhile
    if opened.queued:
        _start_waiting(home, store, opened)
    return opened


def recover(home: Home, store: Store, app: str) -> bool:
    """Start workers for the app's open operations where the last ones are dead; whether that was so."""
    running = recover_slot(home, store, app, running_slot(app))
    waiting = recover_slot(home, store, app, waiting_slot(app))
    return running or waiting


def retry(home: Home, store: Store, operation: Operation, *, by: str, door: str) -> None:
    """Try the undo of a stuck operation again. Raises UserError where it is not stuck."""
    if operation.ending is not e.Ending.STUCK:
        raise UserError(f"operation {operation.id} is not stuck: it is {operation.state}")
    lock = Lock.take(home.pidfile(running_slot(operation.app)), wait=True)
    assert lock is not None
    try:
        if store.operation(operation.id).ending is e.Ending.STUCK:
            Journal(store, operation.id).record(e.RecoveryRequested(at=time.time(), by=by, door=door))
            start_worker(home, operation.app, operation.id, lock, takes_over=False)
    finally:
        lock.close()


def start_worker(
    home: Home, slot: str, operation: int, lock: Lock, *, takes_over: bool, listener: socket.socket | None = None
) -> None:
    """Start the worker of an operation in a slot whose lock the caller holds, and may close afterwards.

    `listener` is closed; without one the slot gets its control socket here.
    """
    listener = listener or listen(home, slot)
    try:
        arguments = (str(home.root), str(operation), str(lock.fd), str(listener.fileno()), str(int(takes_over)))
        spawn(
            interpreter.command("safepoint.worker", *arguments),
            environment=os.environ,
            pass_fds=(lock.fd, listener.fileno()),
        )
    finally:
        listener.close()


def listen(home: Home, slot: str) -> socket.socket:
    """The control socket of a slot whose lock the caller holds. `serve`, where it runs, is told to watch it."""
    path = home.control_socket(slot)
    path.unlink(missing_ok=True)  # a dead worker's
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    _tell_serve(home, slot)
    return listener


def _tell_serve(home: Home, slot: str) -> None:
    """Name the slot to a running `serve`, which then watches its control socket. Nobody there: recovery comes later."""
    with short(home.serve_socket) as address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with suppress(OSError):
            sock.sendto(slot.encode(), address)


def recover_slot(home: Home, store: Store, app: str, slot: str) -> bool:
    """The same for one slot."""
    if open_in(store, app, slot) is None:
        return False
    lock = Lock.take(home.pidfile(slot))
    if lock is None:
        return False
    try:
        # Only now can nobody end it any more.
        operation = open_in(store, app, slot)
        if operation is None:
            return False
        start_worker(home, slot, operation.id, lock, takes_over=True)
    finally:
        lock.close()
    return True


def evict(home: Home, store: Store, slot: str) -> bool:
    """Kill a worker that is still in the slot though its operation has ended; whether there was one.

    It was stopped, or hangs, on its way out. It has nothing to do any more, and would keep all others out for ever.
    """
    signed = pidfile.read(home.pidfile(slot))
    if signed is None:
        return False
    worker, number = signed
    with suppress(NoSuchOperation):
        if store.operation(number).ending is not None and (fd := identity.open_pidfd(worker)) is not None:
            return identity.kill_and_wait(fd, _LOCK_SECONDS)
    return False


def open_in(store: Store, app: str, slot: str) -> Operation | None:
    """The operation that has a worker in this slot, or needs one."""
    operation = store.unfinished(app) if slot == running_slot(app) else store.waiting(app)
    return operation if operation is not None and operation.ending is None else None


def _start_waiting(home: Home, store: Store, opened: Opened) -> None:
    """The one that waited until now leaves its slot; whoever is to be cancelled for us is told."""
    app = store.operation(opened.operation).app
    slot = waiting_slot(app)
    if opened.cancelled is not None:
        wake(home, store.operation(opened.cancelled), force=False)
    for each in opened.superseded:
        wake(home, store.operation(each), force=False, slot=slot)
    lock = _take(home.pidfile(slot), opened.operation)
    if lock is None and evict(home, store, slot):
        lock = _take(home.pidfile(slot), opened.operation)
    if lock is None:
        return  # it has a worker already; or whoever holds it hangs: it waits in the journal, and is found there
    try:
        # Meanwhile a still newer one may have taken our place, or recovery started our worker, which has moved on.
        waiting = store.waiting(app)
        if waiting is not None and waiting.id == opened.operation:
            start_worker(home, slot, opened.operation, lock, takes_over=False)
    finally:
        lock.close()


def _take(path: Path, operation: int) -> Lock | None:
    """None where its holder does not leave, or is the operation's own worker: somebody has found it without one."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while (lock := Lock.take(path)) is None and time.monotonic() < deadline:
        signed = pidfile.read(path)
        if signed is not None and signed[1] == operation:
            return None
        time.sleep(0.01)  # its holder was told to leave
    return lock
