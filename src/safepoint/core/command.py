"""A command of pushed code, as data. Who runs it, and how it is contained, is elsewhere (`processes`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safepoint.record import Record


class Command(Record):
    """One command of pushed code: a contained tree of processes."""

    scope: str
    """Names the tree on this server: `42.build`. Enough to find and end what is left of it."""
    argv: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    timeout: float
    """Seconds."""
    grace: float
    """Seconds from SIGTERM to SIGKILL."""
    app: str = ""
    """Whose it is, and as whose Unix user it runs where it can be isolated. Empty: nobody's, and it is not."""
    directories: Sequence[Path] = ()
    """What it has of the home, if it is isolated: its own, to write in."""
