"""Signals as a descriptor, for a main thread that waits in poll(2) for other things too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def readable_on(*numbers: int) -> Iterator[int]:
    """A descriptor that becomes readable with the first of these signals. To be called in the main thread.

    By the wakeup descriptor, which is written to the moment that a signal comes, by whichever thread gets it. Python's
    own handlers only run once the main thread is back from its system call, which may be never.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    previous_descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    previous = {number: signal.signal(number, _nothing) for number in numbers}
    try:
        yield reader
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_descriptor)
        os.close(reader)
        os.close(writer)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, unlike SIG_IGN, is not inherited by a child."""
