"""A second copy of what was deployed last: the next export takes it, and writes what differs.

It is made after the deploy, when nobody waits for it, and moved away by the export. So no two releases ever share a
file, and no pushed code has seen one before. It costs the disk one more tree an app.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safepoint.core.refs import is_oid
from safepoint.record import Record
from safepoint.trees import remove_tree


class Spare(Record):
    directory: Path
    """One entry, which is named after the commit that it has; and one that is being made."""
    worthwhile: int = 1_000
    """Files. Below that, a whole export takes some ten milliseconds."""

    def take(self, target: Path) -> str | None:
        """Move it to `target`, which does not exist; the commit that it has. None where there is none."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self.directory):  # noqa: PTH208 - names
                if is_oid(name):
                    (self.directory / name).rename(target)
                    return name
        return None

    def make(self, commit: str, write: Callable[[Path], bool]) -> None:
        """Have `write` make it, for the next export, where `write` finds it worthwhile. One maker at a time.

        Raises OSError, and what `write` raises.
        """
        remove_tree(self.directory)
        self.directory.mkdir(mode=0o700, parents=True)
        making = self.directory / "making"
        if write(making):
            making.rename(self.directory / commit)
        else:
            remove_tree(self.directory)
