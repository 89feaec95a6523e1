"""How much of an operation's output is kept: the limit, as the operator writes it and as people read it. Pure."""

from __future__ import annotations

import re

from safepoint.errors import UsageError

VARIABLE = "SAFEPOINT_OUTPUT_LIMIT"
"""In the environment of `safepoint serve`, which holds for all operations. Not for pushed code to set."""
DEFAULT = 256 * 1024**2
"""Bytes."""
TAIL = 64 * 1024
"""Bytes of a command's last output that are kept past the limit: why a build failed is at its end."""

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)", re.IGNORECASE)


def output_limit(text: str) -> int:
    """Bytes. An empty text is the default; `64M` is 64 MiB. Raises UsageError."""
    if not text:
        return DEFAULT
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"{VARIABLE}={text[:40]!a} is no size", "write it as 256M, in K, M or G")
    return int(found[1]) * _UNITS[found[2].upper()]


def size(count: int) -> str:
    """A number of bytes for people: `812 bytes`, `64 KiB`, `1.5 GiB`."""
    if count < 1024:
        return f"{count} bytes"
    value = count / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}".replace(".0 ", " ")
