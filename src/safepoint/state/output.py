"""The output of one operation: a plain file, so that `tail -f` works, and every follower sees the same.

Pushed code writes here, and the text ends on people's terminals: control characters are taken out on the way in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from safepoint.core.wording import PREFIX, printable

_KEPT = b"\n\t"
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
"""U+0080 to U+009F in UTF-8: some terminals obey these as they do escape sequences."""
_REMOVED = bytes(c for c in (*range(32), 127) if c not in _KEPT and c != 0x0D)


class OutputLog:
    def __init__(self, path: Path, on_growth: Callable[[], None] = lambda: None) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._on_growth = on_growth
        self._half = b""
        """The first byte of a character that may turn out to be one of _C1."""
        size = os.fstat(self._fd).st_size
        self._line_open = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def say(self, line: str) -> None:
        """One line of Safepoint's own."""
        start = "\n" if self._line_open else ""
        self._append(f"{start}{PREFIX}{printable(line)}\n".encode())

    def write(self, chunk: bytes) -> None:
        """Output of pushed code, as it comes: without anything that a terminal would obey."""
        text = self._half + _without_controls(chunk)
        whole = text.removesuffix(b"\xc2")
        self._half = text[len(whole) :]
        # Replaced, not taken out: what was around one may make up the next.
        self._append(_C1.sub(b"?", whole))

    def close(self) -> None:
        os.fsync(self._fd)
        os.close(self._fd)

    def _append(self, data: bytes) -> None:
        if not data:
            return
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._line_open = not data.endswith(b"\n")
        self._on_growth()


def _without_controls(chunk: bytes) -> bytes:
    """A carriage return becomes a line's end."""
    text = chunk.translate(None, _REMOVED)
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text
