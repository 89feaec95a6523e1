"""The server's log: one JSON object a line in the home's safepoint.log, by structlog, with the operation's ID bound.

structlog is imported when something is logged, not before: a hook that has nothing to say does not pay for it.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from safepoint.state.paths import Home

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def logger(home: Home, **bound: object) -> FilteringBoundLogger:
    """`bound` is in every line, such as operation=42."""
    import structlog

    log: FilteringBoundLogger = structlog.wrap_logger(
        _AppendLogger(home),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    return log.bind(**bound)


def defect(home: Home, what: str, **bound: object) -> str:
    """Log the exception that is being handled; returns the clause for people, with a reference to the entry."""
    reference = secrets.token_hex(4)
    try:
        logger(home, **bound).exception(what, reference=reference)
    except OSError:  # the log cannot be written either: the person is told all the same
        return f"{what} (internal error {reference}, which could not be logged)"
    return f"{what} (internal error; {home.log.name} has more under {reference})"


class _AppendLogger:
    """Writes each line with one write, so that lines of several processes do not mix."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def _write(self, line: str) -> None:
        fd = os.open(self._home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)

    msg = debug = info = warning = error = exception = critical = _write
