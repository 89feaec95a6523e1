"""The Procfile: one line a process type, `name: shell command`, as on Heroku."""

from __future__ import annotations

import re

from safepoint.errors import UsageError

FILE = "Procfile"
MAX_BYTES = 64 * 1024
MAX_TYPES = 50
WEB, RELEASE = "web", "release"

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,29})\s*:\s*(\S.*)", re.ASCII)


def parse(text: str) -> dict[str, str]:
    """Process types and their commands, in the file's order. Raises UsageError, which names the line."""
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise UsageError(f"{FILE} is larger than {MAX_BYTES // 1024} KiB")
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or "\0" in line:
            raise UsageError(
                f"{FILE} line {number}: expected a process type and a command, such as `web: python app.py`"
            )
        if match[1] in found:
            raise UsageError(f"{FILE} line {number}: {match[1]} is there twice")
        found[match[1]] = match[2]
    if len(found) > MAX_TYPES:
        raise UsageError(f"{FILE} has {len(found)} process types; the most is {MAX_TYPES}")
    return found
