"""The server's log: one JSON object a line in the home's safepoint.log, by structlog, with the operation's ID bound.

structlog is imported when something is logged, not before: a hook that has nothing to say does not pay for it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress

from safepoint.hints import TYPE_CHECKING, Any
from safepoint.interpreter import with_packages
from safepoint.state.paths import Home

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

MAX_BYTES = 10 * 1024**2
"""Of the log; the one before it is kept beside it, as safepoint.log.1."""
_MAX_TEXT = 20_000
"""Characters of one value: an exception may quote a whole request."""


def logger(home: Home, **bound: object) -> FilteringBoundLogger:
    """`bound` is in every line, such as operation=42. A line that cannot be written, on a full disk say, is lost."""
    return _logger(home, strict=False).bind(**bound)


def _logger(home: Home, *, strict: bool) -> FilteringBoundLogger:
    with_packages()
    import structlog

    log: FilteringBoundLogger = structlog.wrap_logger(
        _AppendLogger(home, strict),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _shortened,
            structlog.processors.JSONRenderer(),  # in ASCII: no terminal obeys anything of it
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    return log


def defect(home: Home, what: str, **bound: object) -> str:
    """Log the exception that is being handled; returns the clause for people, with a reference to the entry."""
    reference = os.urandom(4).hex()
    try:
        _logger(home, strict=True).bind(**bound).exception(what, reference=reference)
    except OSError:  # the log cannot be written either: the person is told all the same
        return f"{what} (internal error {reference}, which could not be logged)"
    return f"{what} (internal error; {home.log.name} has more under {reference})"


def _shortened(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The end of a traceback says what happened."""
    for name, value in event.items():
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            event[name] = f"... {value[-_MAX_TEXT:]}"
    return event


class _AppendLogger:
    """Writes each line with one write, so that lines of several processes do not mix."""

    def __init__(self, home: Home, strict: bool) -> None:
        self._log = home.log
        self._strict = strict

    def _write(self, line: str) -> None:
        try:
            self._append(line)
        except OSError:
            if self._strict:
                raise

    def _append(self, line: str) -> None:
        with self._opened() as fd:
            if os.fstat(fd).st_size < MAX_BYTES:
                os.write(fd, f"{line}\n".encode())
                return
            self._rotate(fd)
        with self._opened() as fd:
            os.write(fd, f"{line}\n".encode())

    @contextmanager
    def _opened(self) -> Iterator[int]:
        fd = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)

    def _rotate(self, fd: int) -> None:
        """Any process of the server may be the one to do it, and logging.handlers' rotation is made for one alone."""
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            # Else whoever had the lock before us has moved it: what has the name now is a new one.
            if os.path.samestat(os.fstat(fd), self._log.stat()):
                self._log.rename(self._log.with_name(f"{self._log.name}.1"))

    msg = debug = info = warning = error = exception = critical = _write
