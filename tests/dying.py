"""Waiting for processes that are on their way out, by event."""

from __future__ import annotations

import os
import select


def await_death(pid: int, seconds: float = 60.0) -> bool:
    """Whether the process is dead within the deadline. A zombie, which its parent has not seen yet, is dead."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
