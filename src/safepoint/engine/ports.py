"""What the engine needs of the world, as Protocols. Drivers satisfy them by shape and never import this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from safepoint.core.command import Command
from safepoint.core.failures import Interrupted, StepError
from safepoint.core.release import ProcessGroup, ProcessStatus
from safepoint.hints import Protocol

__all__ = [
    "Command",
    "Commands",
    "Health",
    "Interrupted",
    "Latch",
    "Output",
    "ProcessStatus",
    "Repository",
    "Router",
    "Runtime",
    "Source",
    "StepError",
]


class Latch(Protocol):
    """Level-triggered: once set it stays set."""

    def is_set(self) -> bool: ...

    def fileno(self) -> int:
        """A descriptor that is readable from when the latch is set on."""

    @property
    def force(self) -> bool:
        """Whether the grace period is to be skipped. May become true later than the latch is set."""


class Commands(Protocol):
    def run(self, command: Command, output: Callable[[bytes], None], latch: Latch) -> int:
        """Its exit status (negative: the signal), once every process of its tree is seen dead.

        Raises Interrupted when the latch is set first, and TimeoutError after `timeout` seconds; in both cases
        the tree got SIGTERM, then SIGKILL after `grace` seconds or as soon as `latch.force`, and is seen dead.
        """

    def end(self, scope: str) -> None:
        """SIGKILL whatever is left of a scope, which may be nothing, and see it dead. Idempotent."""


class Source(Protocol):
    def settle(self, directory: Path) -> None:
        """Have all that was written below `directory` on the disk: no power cut leaves half of it. Raises OSError."""

    def forget(self, directory: Path) -> None:
        """Have it on the disk that `directory` was removed: no power cut brings it back. Idempotent."""

    def export(self, repository: Path, commit: str, directory: Path, latch: Latch) -> None:
        """Write the tree of `commit` into `directory`, which does not exist yet. Raises StepError, Interrupted."""


class Runtime(Protocol):
    """Runs the processes of releases."""

    def start(self, group: ProcessGroup) -> None:
        """Idempotent. Returns once each process was launched, not when it is ready. Raises StepError."""

    def stop(self, app: str, release: int) -> None:
        """SIGTERM, the group's grace, SIGKILL; returns when all of it is seen dead and forgotten.

        Idempotent; accepts a group that was not, half or fully started.
        """

    def status(self, app: str, release: int) -> tuple[ProcessStatus, ...]: ...

    def forget(self, app: str, release: int) -> None:
        """Remove what its processes have said. Idempotent."""

    def tail(self, app: str, release: int, lines: int) -> Mapping[str, list[str]]:
        """The last lines of each process's output, by process name."""


class Router(Protocol):
    """Sends the requests for `APP.*` to one port."""

    def switch(self, app: str, port: int | None) -> None:
        """New requests go to `port`, or nowhere. Durable and idempotent; loses no request. Raises StepError."""

    def drain(self, port: int, timeout: float, latch: Latch | None = None) -> bool:
        """Wait until no connection to `port` is left; False where some are after `timeout` seconds."""


class Health(Protocol):
    def check(self, port: int, path: str, expect: str, timeout: float) -> str:
        """One HTTP GET on 127.0.0.1. An empty text is healthy, else one clause that says what is wrong."""


class Repository(Protocol):
    """The app's bare repository, as far as the engine moves it."""

    def has(self, commit: str) -> bool: ...

    def branch(self, name: str) -> str:
        """The commit at refs/heads/NAME, or an empty text."""

    def move(self, name: str, commit: str) -> None: ...

    def sweep(self) -> None:
        """Remove what dead pushes left behind."""

    def pack(self) -> None:
        """Tidy up, where many pushes have made it worth while."""


class Output(Protocol):
    """The operation's output, durable, for every follower."""

    def say(self, line: str) -> None:
        """One line of Safepoint's own."""

    def write(self, chunk: bytes) -> None:
        """Output of pushed code, as it comes; what is kept of it is bounded, and safe on a terminal."""

    def end(self) -> None:
        """Whoever has written has ended, and all that it said has come."""
