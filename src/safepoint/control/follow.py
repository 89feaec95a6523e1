"""Following an operation: its output from the start, live, to its end.

The output is read from its file. The worker's socket only says that there is more, and by its end that the worker is
gone: no followers, a hundred, or one that has stopped reading cost the worker nothing.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress

from safepoint.control.client import Connection, NoAnswer
from safepoint.control.protocol import BadFrame
from safepoint.core import wording
from safepoint.core.operation import Operation
from safepoint.core.slots import slot_of
from safepoint.errors import UserError
from safepoint.hints import BinaryIO
from safepoint.state.paths import Home
from safepoint.state.store import Store
from safepoint.state.trouble import CannotStore

_CHUNK = 64 * 1024
_TRIES = 5
"""Workers that are started one after the other without one of them writing to the journal."""


class ReaderGone(Exception):
    """Nobody reads what is written any more."""


def follow(
    home: Home,
    store: Store,
    number: int,
    write: Callable[[bytes], None],
    *,
    recover: Callable[[str], object],
    readers: tuple[int, ...] = (),
    start: int = 0,
) -> Operation:
    """Write the output from byte `start` on until the operation has ended; returns how it is then.

    Raises UserError where it cannot go on, since its journal cannot be written.

    `recover` is called with the app's name when the worker is found dead. `readers`: descriptors whose error
    or hang-up means that nobody reads any more, which raises ReaderGone.
    """
    file: BinaryIO | None = None
    tries, length = 0, -1
    try:
        while True:
            operation = store.operation(number)
            ended = operation.ending is not None
            connection = None if ended else _connect(home, operation)
            if file is None:
                file = _open(home, number, start)
            if connection is None:
                if ended:
                    _copy(file, write)
                    return operation
                tries, length = tries if operation.length == length else 0, operation.length
                if tries == _TRIES:
                    _copy(file, write)
                    raise UserError(*wording.stopped(operation, _trouble(store)))
                if recover(operation.app):
                    tries += 1
                else:
                    _wait(None, readers, seconds=0.05)  # it is just beginning, or just ending
                continue
            with connection:
                _copy(file, write)
                while not _wait(connection, readers):
                    file = file or _open(home, number, start)
                    _copy(file, write)
    finally:
        if file is not None:
            file.close()


def _trouble(store: Store) -> str:
    try:
        store.reserve()
    except CannotStore as error:
        return error.message
    return "its process ends before it can write to the journal"


def _connect(home: Home, operation: Operation) -> Connection | None:
    try:
        connection = Connection.to(home, slot_of(operation))
    except NoAnswer:
        return None
    try:
        connection.ask("follow", operation.id)
    except (NoAnswer, BadFrame):
        connection.close()
        return None
    return connection


def _wait(connection: Connection | None, readers: tuple[int, ...], seconds: float | None = None) -> bool:
    """Wait for more; True where the worker is gone."""
    poll = select.poll()
    if connection is not None:
        poll.register(connection.fileno(), select.POLLIN)
    for reader in readers:
        poll.register(reader, 0)  # errors and hang-ups are always reported
    for fd, _ in poll.poll(None if seconds is None else seconds * 1000):
        if fd in readers:
            raise ReaderGone
    return connection is None or connection.gone()


def _open(home: Home, number: int, start: int) -> BinaryIO | None:
    with suppress(FileNotFoundError):
        file = home.output(number).open("rb")
        file.seek(start)
        return file
    return None


def _copy(file: BinaryIO | None, write: Callable[[bytes], None]) -> None:
    while file is not None and (chunk := file.read(_CHUNK)):
        write(chunk)
