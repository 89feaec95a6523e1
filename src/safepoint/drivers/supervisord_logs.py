"""What the processes of a release wrote: one file each, kept when the release stops, until it is forgotten."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

TAIL_BYTES = 256 * 1024
"""At most this much of the end of a log is read."""


def file_name(release: int, process: str) -> str:
    return f"v{release}.{process}.log"


def of_release(directory: Path, release: int) -> Iterator[tuple[str, Path]]:
    """Each process's name and its log."""
    for path in sorted(directory.glob(file_name(release, "*"))):
        yield path.name.removeprefix(f"v{release}.").removesuffix(".log"), path


def last_lines(path: Path, lines: int) -> list[str]:
    """Of a log and, where it was rotated a moment ago, of its predecessor."""
    text = b"".join(_end_of(each) for each in (_rotated(path), path))[-TAIL_BYTES:]
    return list(deque(text.decode(errors="replace").splitlines(), maxlen=max(0, lines)))


def remove(path: Path) -> None:
    # In this order: what is interrupted is found, and finished, the next time.
    _rotated(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _rotated(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _end_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read(TAIL_BYTES)
    except FileNotFoundError:
        return b""
