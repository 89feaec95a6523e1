"""The lock of an app: the kernel says who lives, the text is for people."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from safepoint.core.plan import ProcessIdentity
from safepoint.state import pidfile
from safepoint.state.pidfile import Lock

SOMEBODY = ProcessIdentity(pid=4711, started=1234567, boot="b00f")


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """Who waits for it gets it when it is free. The file stays, with its text."""
    path = tmp_path / "web.pid"
    lock = Lock.take(path)
    assert lock is not None
    lock.sign(SOMEBODY, 42)
    inode = path.stat().st_ino
    assert Lock.take(path) is None
    waited: list[Lock | None] = []
    thread = threading.Thread(target=lambda: waited.append(Lock.take(path, wait=True)))
    thread.start()
    lock.close()
    thread.join()
    (later,) = waited
    assert later is not None
    assert pidfile.read(path) == (SOMEBODY, 42)
    later.close()
    assert path.stat().st_ino == inode
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_lives_as_long_as_its_last_heir(tmp_path: Path) -> None:
    """It is handed to a process, and is free when that is dead, whatever killed it."""
    path = tmp_path / "web.pid"
    lock = Lock.take(path)
    assert lock is not None
    child = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(child, stdin=subprocess.PIPE, pass_fds=[lock.fd]) as heir:
        lock.close()
        assert Lock.take(path) is None
        heir.kill()
        heir.wait()
        free = Lock.take(path)
        assert free is not None
        free.close()


def test_the_text_is_for_people_and_for_signals(tmp_path: Path) -> None:
    """The pid on a line of its own, then who that is; a shorter text leaves nothing of a longer one."""
    path = tmp_path / "web.pid"
    lock = Lock.take(path)
    assert lock is not None
    lock.sign(ProcessIdentity(pid=10**6, started=10**12, boot="b" * 60), 10**9)
    lock.sign(SOMEBODY, 42)
    lock.close()
    assert path.read_text().splitlines()[0] == "4711"
    assert pidfile.read(path) == (SOMEBODY, 42)


WRONG = '4711\n{"pid": %s, "started": %s, "boot": %s, "operation": %s}\n'


@pytest.mark.parametrize(
    "text",
    [
        *("", "4711\n", "4711\n[]\n", "4711\nnull", '4711\n{"pid": 1}\n', "\xff\n\xff", "4711\n" + "[" * 50_000),
        *(
            WRONG % ('"self"', 1, '"b"', 1),
            WRONG % (1, "[]", '"b"', 1),
            WRONG % (1, 1, 3, 1),
            WRONG % (1, 1, '"b"', "true"),
        ),
    ],
)
def test_a_damaged_text_names_nobody(tmp_path: Path, text: str) -> None:
    """Nobody gets a signal because of it."""
    path = tmp_path / "web.pid"
    path.write_bytes(os.fsencode(text))
    assert pidfile.read(path) is None
    assert pidfile.read(tmp_path / "none") is None
