"""Opens operations and starts their workers: for pushes, for the operator's commands, and for recovery.

The lock and the listening control socket are made here and inherited by the worker. So an open operation whose lock
is free has a dead worker, without exception, and a cancel can be sent before the worker has drawn its first breath.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from safepoint import faults
from safepoint.core import events as e
from safepoint.core.operation import Operation
from safepoint.core.plan import Plan
from safepoint.errors import UserError
from safepoint.processes.detach import spawn
from safepoint.state.journal import Journal
from safepoint.state.paths import Home, short
from safepoint.state.pidfile import Lock
from safepoint.state.store import AppBusy, Store

_LOCK_SECONDS = 10.0
"""The lock is held without an open operation only for moments: by a worker that exits, or by another opening."""


def open_and_launch(
    home: Home, store: Store, plan: Plan, *, by: str, door: str, reason: str = "", environment: Mapping[str, str]
) -> int:
    """Returns the new operation's ID; its worker runs. Raises AppBusy, after recovering what is dead."""
    recover(home, store, plan.app)
    lock = _lock(home, store, plan.app)
    try:
        operation = store.open_operation(plan, by=by, door=door, reason=reason, environment=environment)
        faults.after_record(0)
        _start_worker(home, plan.app, operation, lock, takes_over=False)
    finally:
        lock.close()
    return operation


def recover(home: Home, store: Store, app: str) -> bool:
    """Start a worker for the app's open operation where the last one is dead; whether that was so."""
    unfinished = store.unfinished(app)
    if unfinished is None or unfinished.ending is not None:
        return False
    lock = Lock.take(home.pidfile(app))
    if lock is None:
        return False
    try:
        # Only now can nobody end it any more.
        unfinished = store.unfinished(app)
        if unfinished is None or unfinished.ending is not None:
            return False
        _start_worker(home, app, unfinished.id, lock, takes_over=True)
    finally:
        lock.close()
    return True


def retry(home: Home, store: Store, operation: Operation, *, by: str) -> None:
    """Try the undo of a stuck operation again. Raises UserError where it is not stuck."""
    if operation.ending is not e.Ending.STUCK:
        raise UserError(f"operation {operation.id} is not stuck: it is {operation.state}")
    lock = _lock(home, store, operation.app, stuck=operation.id)
    try:
        Journal(store, operation.id).record(e.RecoveryRequested(at=time.time(), by=by))
        _start_worker(home, operation.app, operation.id, lock, takes_over=False)
    finally:
        lock.close()


def _lock(home: Home, store: Store, app: str, *, stuck: int | None = None) -> Lock:
    deadline = time.monotonic() + _LOCK_SECONDS
    while (lock := Lock.take(home.pidfile(app))) is None:
        if (unfinished := store.unfinished(app)) is not None and unfinished.id != stuck:
            raise AppBusy(unfinished.id)
        if time.monotonic() > deadline:
            raise UserError(f"{app} is locked by another command", "try again in a moment")
        time.sleep(0.01)  # a blocking flock would wait for the whole of an operation that began meanwhile
    return lock


def _start_worker(home: Home, app: str, operation: int, lock: Lock, *, takes_over: bool) -> None:
    listener = _listen(home, app)
    try:
        _tell_serve(home, app)
        arguments = (str(home.root), str(operation), str(lock.fd), str(listener.fileno()), str(int(takes_over)))
        spawn(
            (sys.executable, "-I", "-m", "safepoint.worker", *arguments),
            environment=os.environ,
            pass_fds=(lock.fd, listener.fileno()),
        )
    finally:
        listener.close()


def _listen(home: Home, app: str) -> socket.socket:
    path = home.control_socket(app)
    path.unlink(missing_ok=True)  # a dead worker's; the lock is ours
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def _tell_serve(home: Home, app: str) -> None:
    """Name the app to a running `serve`, which then watches the worker. Nobody there: recovery comes later."""
    with short(home.serve_socket) as address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with suppress(OSError):
            sock.sendto(app.encode(), address)
