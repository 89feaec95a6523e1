"""A signal wakes the one who waits, whichever thread the kernel gives it to."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, select, signal, threading
from safepoint.signals import readable_on

with readable_on(signal.SIGTERM) as stop:
    other = threading.Thread(target=threading.Event().wait, daemon=True)
    other.start()
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    assert poll.poll(0) == []
    # As when the main thread is about to enter poll(2): its system call is not interrupted by this one.
    threading.Timer(0.2, signal.pthread_kill, (other.ident, signal.SIGTERM)).start()
    assert poll.poll() == [(stop, select.POLLIN)]
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""


def test_signal_of_another_thread() -> None:
    subprocess.run((sys.executable, "-c", PROGRAM), check=True, timeout=60)
