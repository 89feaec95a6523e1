"""The output of one operation: a plain file, so that `tail -f` works, and every follower sees the same.

Pushed code writes here, and the text ends on people's terminals: control characters are taken out on the way in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from safepoint.core.wording import PREFIX, printable

_KEPT = b"\n\t"
_REMOVED = bytes(c for c in (*range(32), 127) if c not in _KEPT and c != 0x0D)


class OutputLog:
    def __init__(self, path: Path, on_growth: Callable[[], None] = lambda: None) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._on_growth = on_growth
        size = os.fstat(self._fd).st_size
        self._line_open = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def say(self, line: str) -> None:
        """One line of Safepoint's own."""
        start = "\n" if self._line_open else ""
        self._append(f"{start}{PREFIX}{printable(line)}\n".encode())

    def write(self, chunk: bytes) -> None:
        """Output of pushed code, as it comes."""
        self._append(neutral(chunk))

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


def neutral(chunk: bytes) -> bytes:
    """Without anything that a terminal would obey; a carriage return becomes a line's end."""
    text = chunk.translate(None, _REMOVED)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\xc2" in text:  # U+0080 to U+009F in UTF-8: some terminals obey these too
        for code in range(0x80, 0xA0):
            text = text.replace(bytes((0xC2, code)), b"")
    return text
