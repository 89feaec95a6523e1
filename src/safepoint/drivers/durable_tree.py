"""Makes it durable that a tree was written, or removed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from safepoint.core.failures import StepError


def settle(directory: Path) -> None:
    """Have everything that was written to the directory's filesystem on the disk (syncfs(2)). Raises StepError.

    One call for the whole tree: fsync for each of 20,000 files is slower by orders of magnitude. os.sync would wait for
    every other disk too.
    """
    import ctypes  # os has no syncfs; only a worker pays for the import

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            raise StepError(f"{directory} cannot be written to the disk: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


def forget(directory: Path) -> None:
    """Have on the disk that the directory is not there any more. Idempotent."""
    with suppress(FileNotFoundError):  # nothing was ever there
        descriptor = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
