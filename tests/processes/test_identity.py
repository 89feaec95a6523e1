"""Identities of processes: against reuse of the number, zombies, and names made to confuse."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dying import await_death

from safepoint.core.plan import ProcessIdentity
from safepoint.processes import identity
from safepoint.record import replace


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Lives until its stdin ends."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as made:
        yield made
        made.kill()


@pytest.fixture
def someone(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    found = identity.of(process.pid)
    assert found is not None
    return found


def test_of_ourselves() -> None:
    """Pid, start time as in /proc, and the boot."""
    me = identity.of(os.getpid())
    assert me is not None
    assert me.pid == os.getpid()
    assert me.started == int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert me.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert identity.alive(me)


def test_of_nobody(process: subprocess.Popen[bytes]) -> None:
    """A number that is nobody's has no identity."""
    process.kill()
    process.wait()
    assert identity.of(process.pid) is None
    assert identity.of(2**31 - 1) is None


def test_name_with_parentheses_and_spaces(tmp_path: Path) -> None:
    """A program's name cannot shift the fields."""
    program = tmp_path / ") R 1 (x 2 3"
    shutil.copy(shutil.which("cat") or "/bin/cat", program)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        found = identity.of(process.pid)
        me = identity.of(os.getpid())
        assert found is not None
        assert me is not None
        assert found.started >= me.started
        assert identity.alive(found)
        process.kill()


def test_zombie_is_dead(process: subprocess.Popen[bytes], someone: ProcessIdentity) -> None:
    """A zombie has an identity and is not alive."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert identity.of(process.pid) == someone
    assert not identity.alive(someone)
    assert identity.open_pidfd(someone) is None
    assert not identity.signal(someone, signal.SIGTERM)


@pytest.mark.parametrize("changed", [{"started": 1}, {"boot": "another"}, {"pid": 0}, {"pid": -1}])
def test_someone_else(
    process: subprocess.Popen[bytes], someone: ProcessIdentity, changed: dict[str, int | str]
) -> None:
    """A number that was used again, or a process of another boot, is neither alive nor signalled."""
    other = replace(someone, **changed)  # type: ignore[arg-type]
    assert not identity.alive(other)
    assert identity.open_pidfd(other) is None
    assert not identity.signal(other, signal.SIGKILL)
    assert process.poll() is None


def test_number_is_a_thread_now() -> None:
    """A number that became a thread's is nobody's process."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        found = identity.of(thread.native_id)
        assert found is None or identity.open_pidfd(found) is None
    finally:
        done.set()
        thread.join()


def test_signal(process: subprocess.Popen[bytes], someone: ProcessIdentity) -> None:
    """A live process gets the signal."""
    assert identity.alive(someone)
    assert identity.signal(someone, signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    assert not identity.signal(someone, signal.SIGTERM)


def test_kill_and_wait(someone: ProcessIdentity) -> None:
    """It is dead on return, though its parent has not looked yet, and the descriptor is closed."""
    pidfd = identity.open_pidfd(someone)
    assert pidfd is not None
    assert identity.kill_and_wait(pidfd, 60)
    assert not identity.alive(someone)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pidfd)


UNDYING = """
import ctypes, os, pathlib, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
NEWUSER, NEWPID, SEIZE = 0x10000000, 0x20000000, 0x4206
assert libc.unshare(NEWPID if os.geteuid() == 0 else NEWUSER | NEWPID) == 0
reader, writer = os.pipe()
first = os.fork()
if first == 0:
    if os.fork() == 0:
        os.write(writer, b"x")
    signal.pause()
os.read(reader, 1)
(second,) = map(int, pathlib.Path(f"/proc/{first}/task/{first}/children").read_text().split())
assert libc.ptrace(SEIZE, second, None, None) == 0
print(first, flush=True)
signal.pause()
"""
"""The first process of a PID namespace cannot die before all others of it are reaped, and one of them is traced."""


def test_what_does_not_die_is_not_waited_for_for_ever() -> None:
    """The kernel may keep a process that was killed for as long as a disk does not answer; so here."""
    with subprocess.Popen([sys.executable, "-c", UNDYING], stdout=subprocess.PIPE) as tracer:
        assert tracer.stdout is not None
        undying = identity.of(int(tracer.stdout.readline()))
        assert undying is not None
        pidfd = identity.open_pidfd(undying)
        assert pidfd is not None
        assert not identity.kill_and_wait(pidfd, 0.2)
        assert identity.alive(undying)
        tracer.kill()
        assert await_death(undying.pid)
