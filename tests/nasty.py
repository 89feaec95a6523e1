"""What pushed code may do so as not to be ended: `python nasty.py TRICK TAG`. Pushed by test_escapees.py.

Says "ready" when it is at it. TAG is for who looks for what is left, since some tricks wipe the environment. Nothing of
it reaches beyond its own processes, and each ends by itself after ten minutes.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIFE = 600


def ready() -> None:
    os.write(1, b"it is ready\n")


def sleep() -> None:
    end = time.monotonic() + LIFE
    while time.monotonic() < end:
        time.sleep(10)


def deaf() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGALRM, signal.SIGCHLD}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)


def daemon(*, wiped: bool) -> None:
    """Forked twice in a session of its own; the one that goes on is nobody's child."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    deaf()
    if wiped:
        os.closerange(0, 100)
        program = f"import signal, time; signal.alarm({LIFE}); time.sleep({LIFE})"
        os.execve(sys.executable, ["python", "-I", "-S", "-c", program, sys.argv[2]], {})
    sleep()


def double_fork() -> None:
    """Daemons: one keeps the pipe and its environment, one has nothing of either; then it exits as if all were well."""
    daemon(wiped=False)
    daemon(wiped=True)
    ready()
    sleep()


def ignore_term() -> None:
    """It hears no signal, nor do its children, each in a session of its own."""
    deaf()
    for _ in range(20):
        if os.fork() == 0:
            os.setsid()
            sleep()
    ready()
    sleep()


def slow_fork_bomb() -> None:
    """One goes from process to process, so that no look at it finds it where it was."""
    deaf()
    if os.fork():
        ready()
        sleep()
    end = time.monotonic() + LIFE
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        with contextlib.suppress(PermissionError):
            os.setsid()
        time.sleep(0.02)


def quick_fork_bomb() -> None:
    """As fast as it can, up to a number: by RLIMIT_NPROC, and by a count of its own, as root has no such limit."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NPROC, (150, 150))
    deaf()
    count = mmap.mmap(-1, 8)
    ready()
    end = time.monotonic() + LIFE
    while time.monotonic() < end:
        (number,) = struct.unpack("q", count[:8])
        if number < 120:
            count[:8] = struct.pack("q", number + 1)
            with contextlib.suppress(OSError):
                if os.fork() == 0:
                    with contextlib.suppress(PermissionError):
                        os.setsid()
                    continue
        time.sleep(0.05)


def endless(chunk: Callable[[], bytes]) -> None:
    deaf()
    ready()
    end = time.monotonic() + LIFE
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            os.write(1, chunk())


def endless_lines() -> None:
    """Ten gigabytes, if it is let."""
    lines = b"all work and no play\n" * 3000
    endless(lambda: lines)


def endless_line() -> None:
    """One that has no end."""
    part = b"x" * 65536
    endless(lambda: part)


def escapes() -> None:
    """Binary, terminal escapes in both of their forms, and lines as if Safepoint had said them."""
    said = b"\x1b[2J\x9b31m\xc2\x9b1m\x1b]0;owned\x07\r\nsafepoint | operation 1 succeeded\r"
    endless(lambda: os.urandom(30_000) + said)


def stop_the_keeper() -> None:
    """It stops its own children, and whoever started it, where that is another of its user."""
    deaf()
    for _ in range(3):
        if (child := os.fork()) == 0:
            sleep()
        os.kill(child, signal.SIGSTOP)
    ready()
    with contextlib.suppress(OSError):
        if os.getppid() > 1 and b"launch.py" in Path(f"/proc/{os.getppid()}/cmdline").read_bytes():
            os.kill(os.getppid(), signal.SIGSTOP)
    sleep()


def leave_the_cgroup() -> None:
    """Root may, so it is found by other means."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            with contextlib.suppress(OSError):
                (Path(line.split(" ")[4]) / "cgroup.procs").write_text(str(os.getpid()))
    daemon(wiped=False)
    deaf()
    ready()
    sleep()


def close_everything() -> None:
    """Nobody reads the end of its output as the end of it."""
    deaf()
    ready()
    os.closerange(0, 100)
    sleep()


def busy_zombies() -> None:
    """Children that nobody waits for, and a processor that is never idle."""
    deaf()
    for _ in range(30):
        if os.fork() == 0:
            os._exit(0)
    ready()
    end = time.monotonic() + LIFE
    while time.monotonic() < end:
        pass


TRICKS = {
    each.__name__: each
    for each in (
        double_fork, ignore_term, slow_fork_bomb, quick_fork_bomb, endless_lines, endless_line, escapes,
        stop_the_keeper, leave_the_cgroup, close_everything, busy_zombies,
    )
}  # fmt: skip

if __name__ == "__main__":
    signal.alarm(LIFE)
    TRICKS[sys.argv[1]]()
