"""The output of one operation: a plain file, so that `tail -f` works, and every follower sees the same.

Pushed code writes here, as much as it likes. So what is kept is bounded, and made safe on the way in, once for all who
read it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from safepoint.core import wording
from safepoint.core.output_limit import DEFAULT, TAIL
from safepoint.core.pushed_text import PushedText
from safepoint.state.durable import flush_directory


class OutputLog:
    """What cannot be written is left out, and said to be: a full disk must not keep an operation from being undone.

    Safe from several threads: the control socket's says what was asked for while a build writes.
    """

    def __init__(self, path: Path, on_growth: Callable[[], None] = lambda: None, limit: int = DEFAULT) -> None:
        """`limit`: bytes. Of what a command writes past it only the last TAIL bytes are kept."""
        self._path = path
        self._on_growth = on_growth
        self._limit = limit
        self._lock = Lock()
        self._text = PushedText()
        self._left_out = 0
        """Bytes that the running command wrote past the limit; the last of them are in `_tail`."""
        self._tail = b""
        self._size = 0
        self._line_open = False
        self._lost, self._why = 0, ""
        self._closed = False
        self._fd: int | None = None
        with suppress(OSError):
            self._open()

    def say(self, line: str) -> None:
        """One line of Safepoint's own. It is kept, whatever the limit."""
        with self._lock:
            self._say(line)

    def write(self, chunk: bytes) -> None:
        """Output of pushed code, as it comes. The command neither waits nor fails because it says too much."""
        with self._lock:
            if self._size < self._limit:
                self._append(self._text.safe(chunk, line_open=self._line_open))
                return
            if not self._left_out:
                self._say(wording.output_limit_reached(self._limit))
            self._left_out += len(chunk)
            self._tail = (self._tail + chunk)[-TAIL:]

    def end(self) -> None:
        """The command that wrote has ended: keep what was held back, and the end of what was left out."""
        with self._lock:
            left_out, tail = self._left_out, self._tail
            self._left_out, self._tail = 0, b""
            if left_out > len(tail):
                tail = tail[tail.find(b"\n") + 1 :]  # not from the middle of a line, or of a character
                self._say(wording.output_left_out(left_out - len(tail)))
            self._append(self._text.rest())
            self._append(self._text.safe(tail, line_open=self._line_open) + self._text.rest())
            if self._line_open:  # what the next command writes is no part of this one's line
                self._append(b"\n")

    def settle(self) -> None:
        """Have all of it on the disk."""
        with self._lock:
            if self._fd is not None:
                with suppress(OSError):
                    os.fsync(self._fd)
                    flush_directory(self._path.parent)

    def close(self) -> None:
        """What is said later is lost."""
        with self._lock:
            self._closed = True
            if self._fd is not None:
                os.close(self._fd)

    def _say(self, line: str) -> None:
        self._append(self._text.rest())
        self._append(f"{self._start()}{wording.PREFIX}{wording.printable(line)}\n".encode())

    def _start(self) -> str:
        return "\n" if self._line_open else ""

    def _append(self, data: bytes) -> None:
        if not data or self._closed:  # by then a descriptor of that number may be somebody else's
            return
        try:
            fd = self._open()
            if self._lost:
                missing = wording.output_missing(self._lost, self._why)
                self._write(fd, f"{self._start()}{wording.PREFIX}{missing}\n".encode())
                self._lost, data = 0, data.removeprefix(b"\n")
            self._write(fd, data)
        except OSError as error:
            self._lost, self._why = self._lost + len(data), os.strerror(error.errno or 0)
        self._on_growth()

    def _open(self) -> int:
        if self._fd is None:
            fd = self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(fd).st_size
            self._line_open = self._size > 0 and os.pread(fd, 1, self._size - 1) != b"\n"
        return self._fd

    def _write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(fd, rest)
            self._size += written
            self._line_open = rest[written - 1] != ord("\n")
            rest = rest[written:]
