"""Fault injection: lets a test, or a doubting operator, kill a worker after any record of the journal.

SAFEPOINT_DIE_AFTER_RECORD holds record numbers, separated by commas; 0 is the opening of the operation. The process
that has just made such a record durable gets a SIGKILL at once.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SAFEPOINT_DIE_AFTER_RECORD"


def after_record(number: int) -> None:
    wanted = os.environ.get(VARIABLE)
    if wanted and str(number) in wanted.split(","):
        os.kill(os.getpid(), signal.SIGKILL)
