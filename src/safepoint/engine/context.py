"""What the steps of one operation work with. Put together by the worker, or by a test."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from safepoint.core.events import Data
from safepoint.core.failures import Interrupted
from safepoint.core.plan import Plan
from safepoint.core.release import Release
from safepoint.engine.latch import CancelLatch
from safepoint.engine.ports import Commands, Health, Output, Repository, Router, Runtime, Source
from safepoint.hints import Protocol
from safepoint.record import Record


class Releases(Protocol):
    """What the steps ask of the store."""

    def release(self, app: str, number: int) -> Release | None: ...

    def kept_releases(self, app: str) -> list[Release]: ...

    def mark_pruned(self, app: str, number: int) -> None: ...

    def ports_in_use(self) -> set[int]: ...


class Places(Record):
    """The directories of one operation."""

    repository: Path
    release: Path
    cache: Path
    data: Path
    scratch: Path
    release_of: Callable[[int], Path]


class Context(Record):
    operation: int
    plan: Plan
    environment: Mapping[str, str]
    """The app's configuration, as it was when the operation was opened."""
    host: Mapping[str, str]
    """`environment.host_facts` of this server."""
    places: Places
    latch: CancelLatch
    never: CancelLatch
    """A latch that nobody sets: for what is not to be interrupted."""
    received: CancelLatch
    """Set when the push's objects are in the repository."""
    receiver: int | None
    """A pidfd of the push's git-receive-pack; None: it is gone, or there is none."""
    commands: Commands
    source: Source
    runtime: Runtime
    router: Router
    health: Health
    repository: Repository
    releases: Releases
    output: Output
    leave: Callable[[], None]
    """Take away what only a running operation has. Before its last record: after it nobody would come to do it."""
    data_of: Callable[[str], Data]
    """What was journalled as a step began."""

    def pause(self, seconds: float, also: Iterable[int] = ()) -> bool:
        """Wait, at most `seconds`; True where one of the descriptors `also` became readable. Raises Interrupted."""
        return wait(self.latch, time.monotonic() + seconds, also)


def wait(latch: CancelLatch, deadline: float | None, also: Iterable[int] = ()) -> bool:
    """Wait until a descriptor is readable (True) or `deadline`, in monotonic seconds, is reached (False).

    Raises Interrupted as soon as the latch is set, also when it was set before.
    """
    poll = select.poll()
    poll.register(latch.fileno(), select.POLLIN)
    for fd in also:
        poll.register(fd, select.POLLIN)
    while not latch.is_set():
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = poll.poll(None if left is None else left * 1000)
        if any(fd != latch.fileno() for fd, _ in ready) and not latch.is_set():
            return True
        if not ready and left is not None and time.monotonic() >= (deadline or 0.0):
            return False
    raise Interrupted
