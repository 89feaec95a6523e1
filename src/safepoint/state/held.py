"""Who keeps the database's write lock: a process that was stopped in the middle of a transaction, say."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_WRITE_LOCK = 120
"""The byte of the -shm file that a writer locks (sqlite.org, "WAL-mode File Format", 2.2.1: locks)."""


def holder(database: Path) -> int | None:
    """Who has the write lock now, as proc_locks(5) has it.

    Not by fcntl(F_GETLK) on a descriptor of ours: closing that would drop the locks of our own connection (fcntl(2)).
    """
    with suppress(OSError, ValueError):
        inode = database.with_name(f"{database.name}-shm").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            # `7: POSIX  ADVISORY  WRITE 1234 08:01:5678 120 120`; one that waits has `->` after its number.
            words = line.split()
            if words[1] == "POSIX" and words[3] == "WRITE" and words[5].rpartition(":")[2] == str(inode):
                first, last = int(words[6]), words[7]
                if first <= _WRITE_LOCK and (last == "EOF" or int(last) >= _WRITE_LOCK):
                    return int(words[4])
    return None
