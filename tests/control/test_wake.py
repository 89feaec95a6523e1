"""Whom a cancel may signal where nobody answers: the very process that signed the lock, no stranger with its pid."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from state.plans import open_operation

from safepoint.control.wake import wake
from safepoint.core.operation import Operation
from safepoint.core.plan import ProcessIdentity
from safepoint.processes import identity
from safepoint.record import replace
from safepoint.state.paths import Home
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def operation(home: Home) -> Operation:
    with Store.create(home) as store:
        store.create_app("web", "main")
        return open_operation(store).operation


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        yield made
        made.kill()


def sign(home: Home, by: ProcessIdentity, operation: int) -> None:
    lock = Lock.take(home.pidfile("web"))
    assert lock is not None
    lock.sign(by, operation)
    lock.close()


def lives(process: subprocess.Popen[bytes]) -> bool:
    """It was neither killed nor asked to end: it still does what it is told."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"x\n")
    process.stdin.flush()
    return process.stdout.readline() == b"x\n"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "wrong", [{"started": 1}, {"boot": "0c5d0b3e-0000-0000-0000-000000000000"}, {"pid": 0}, {"pid": -1}]
)
def test_a_stranger_with_the_pid_is_let_be(
    home: Home, operation: Operation, process: subprocess.Popen[bytes], wrong: dict[str, int | str], force: bool
) -> None:
    """After a reboot, or when the number was used again: it gets no signal, not even with --force."""
    someone = identity.of(process.pid)
    assert someone is not None
    sign(home, replace(someone, **wrong), operation.id)  # type: ignore[arg-type]
    assert wake(home, operation, force=force) == ""
    assert lives(process)


@pytest.mark.parametrize("force", [False, True])
def test_who_signed_for_another_operation_is_let_be(
    home: Home, operation: Operation, process: subprocess.Popen[bytes], force: bool
) -> None:
    """The slot's last one, perhaps: it is on its way out, or its own cancel is for it."""
    someone = identity.of(process.pid)
    assert someone is not None
    sign(home, someone, operation.id + 1)
    assert wake(home, operation, force=force) == ""
    assert lives(process)


@pytest.mark.parametrize(("force", "number"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_the_one_that_signed_is_signalled(
    home: Home, operation: Operation, process: subprocess.Popen[bytes], force: bool, number: signal.Signals
) -> None:
    """And it is said, with what to do next."""
    someone = identity.of(process.pid)
    assert someone is not None
    sign(home, someone, operation.id)
    assert f"the deploy process {process.pid} " in wake(home, operation, force=force)
    assert process.wait() == -number
