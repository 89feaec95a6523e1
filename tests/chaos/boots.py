"""A boot ID of our own, which everybody who is started from here on sees, and which a reboot changes."""

from __future__ import annotations

import ctypes
import uuid
from contextlib import suppress
from pathlib import Path

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18
_BOOT_ID = b"/proc/sys/kernel/random/boot_id"


class Boots:
    """To be made once, while the process has one thread: it goes into a mount namespace of its own, where it may."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.next()
        libc = ctypes.CDLL(None, use_errno=True)
        self.changing = (
            libc.unshare(_CLONE_NEWNS) == 0
            and libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
            and libc.mount(str(file).encode(), _BOOT_ID, None, _MS_BIND, None) == 0
        )
        """Whether a reboot changes the ID; where that is not allowed, all the rest of a reboot happens."""

    def next(self) -> None:
        self._file.write_text(f"{uuid.uuid4()}\n")

    def close(self) -> None:
        with suppress(OSError):
            self._file.unlink()
