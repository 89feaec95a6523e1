"""A home, keys, and the same tests over both ssh servers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ssh.servers import SERVERS, Place, Server, run_in_a_shell


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No descriptor and no thread is left behind by a test."""
    descriptors, threads = set(os.listdir("/proc/self/fd")), set(threading.enumerate())  # noqa: PTH208
    yield
    assert set(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208
    assert set(threading.enumerate()) <= threads


@pytest.fixture
def alice(place: Place) -> Path:
    """The private key of somebody whom the server knows."""
    return place.add_key("alice")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, place: Place, alice: Path) -> Iterator[Server]:
    """Each server as it is."""
    with SERVERS[request.param](place) as running:
        yield running


@pytest.fixture(params=SERVERS)
def plumbing(request: pytest.FixtureRequest, place: Place, alice: Path) -> Iterator[Server]:
    """Each server, running every command in a shell: for tests of how bytes and endings go through."""
    with ExitStack() as stack:
        yield stack.enter_context(SERVERS[request.param](place, run_in_a_shell))
