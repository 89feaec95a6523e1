"""The cancel latch: level-triggered, so that a cancel which comes between two waits is not lost."""

from __future__ import annotations

import os


class CancelLatch:
    """Once set it stays set. Safe from any thread."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._set = False
        self.force = False

    def set(self, *, force: bool = False) -> None:
        self.force = self.force or force
        self._set = True
        os.eventfd_write(self._fd, 1)

    def is_set(self) -> bool:
        return self._set

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)
