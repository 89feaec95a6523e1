"""What the machine refuses, a full disk say, as a person reads it. That is no defect of ours."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from safepoint.errors import UserError

_HINTS = {
    errno.ENOSPC: "free some, and try again",
    errno.EDQUOT: "free some, and try again",
    errno.EROFS: "make the file system writable, and try again",
    errno.EIO: "the disk may be failing: see the kernel's log",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`), and try again",
    errno.ENFILE: "close some on this machine, and try again",
    errno.ENOMEM: "free some memory, and try again",
    errno.EAGAIN: "end some processes, and try again",
}
_LITTLE = 1 << 20
"""Free bytes with which nothing can be built any more."""
FULL = "no space left on the disk"


def trouble(error: BaseException) -> UserError | None:
    """None where the machine is not to blame."""
    if not isinstance(error, OSError) or error.errno not in _HINTS:
        return None
    where = f": {error.filename}" if isinstance(error.filename, str) else ""
    return UserError(f"{os.strerror(error.errno)}{where}", _HINTS[error.errno])


def is_read_only(directory: Path) -> bool:
    """False where that cannot be told."""
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def is_full(directory: Path) -> bool:
    """Of space or of names; False where that cannot be told."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LITTLE or (found.f_files > 0 and not found.f_favail)
