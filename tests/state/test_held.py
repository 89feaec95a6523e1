"""Who keeps the database's write lock is found, and named to whoever would write."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from safepoint.state import store as stores
from safepoint.state.held import holder
from safepoint.state.store import Store
from safepoint.state.trouble import Held

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_holder_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do; when it has let go, all is well. Looking for it drops no lock of our own."""
    monkeypatch.setattr(stores, "_BUSY_SECONDS", 0.1)
    database = store.home.database
    assert holder(database) is None
    command = [sys.executable, "-I", "-c", HOLD, str(database)]
    with Store.open(store.home) as impatient:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            assert holder(database) == other.pid
            with pytest.raises(Held) as caught, impatient.transaction():
                pass
            other.communicate()
        assert caught.value.message == f"process {other.pid} holds {database} and does not let go of it"
        assert f"`kill -KILL {other.pid}`" in caught.value.hint
        with impatient.transaction():
            assert holder(database) == os.getpid()
        assert holder(database) is None
