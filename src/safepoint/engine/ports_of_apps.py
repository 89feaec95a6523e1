"""Which port each process of a release gets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from safepoint.core.failures import StepError

FIRST, LAST = 20_000, 29_999
"""Below the range that Linux takes for outgoing connections (32768 up, ip(7)), which would come and go."""


def choose(names: Iterable[str], used: set[int]) -> dict[str, int]:
    """A free port of 127.0.0.1 for each name. Raises StepError.

    From a random one on, so that two servers on one machine, which do not know of each other, seldom choose the same.
    """
    count = LAST + 1 - FIRST
    start = int.from_bytes(os.urandom(4))
    candidates = (FIRST + (start + step) % count for step in range(count))
    found: dict[str, int] = {}
    for name in names:
        port = next((port for port in candidates if port not in used and free(port)), None)
        if port is None:
            raise StepError(f"no port is free between {FIRST} and {LAST}")
        found[name] = port
    return found


def free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
