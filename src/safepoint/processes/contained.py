"""Runs commands of pushed code as contained trees of processes, and ends such trees: engine's `Commands`."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from safepoint.core.command import Command
from safepoint.core.failures import Interrupted
from safepoint.hints import Protocol
from safepoint.processes import cgroups, containment
from safepoint.processes.spec import path_of, write_spec
from safepoint.processes.trees import Tree
from safepoint.state.paths import Home

CHUNK = 64 * 1024
_FORCE_INTERVAL = 0.05
"""Seconds. The latch has no event for `force`, so it is looked at this often, in a grace period only."""


class Latch(Protocol):
    def is_set(self) -> bool: ...
    def fileno(self) -> int: ...
    @property
    def force(self) -> bool: ...


class ContainedCommands:
    def __init__(self, home: Home) -> None:
        self._home = home

    def run(self, command: Command, output: Callable[[bytes], None], latch: Latch) -> int:
        """The exit status (negative: the signal), once every process of its tree is seen dead.

        `output` gets stdout and stderr as they come, at most 64 KiB at a time. Raises Interrupted, TimeoutError,
        and StepError where something of the tree does not die; also UserError and OSError where it cannot start.
        """
        if latch.is_set():
            raise Interrupted
        spec = path_of(self._home, command.scope)
        if spec.exists():
            self.end(command.scope)  # of a worker that was killed; two trees of one name would not be told apart
        argv = write_spec(
            spec,
            scope=command.scope,
            home=self._home.root,
            argv=command.argv,
            directory=command.directory,
            environment=command.environment,
            app=command.app,
            directories=command.directories,
        )
        try:
            return self._run(argv, command, output, latch)
        finally:
            spec.unlink(missing_ok=True)

    def end(self, scope: str, *, within: float = 0.0) -> None:
        """SIGKILL whatever is left of a scope, which may be nothing, and see it dead. Idempotent.

        `within`: seconds to wait before, for what got its SIGTERM already and may still be cleaning up.
        Raises StepError where something of it does not die.
        """
        spec = path_of(self._home, scope)
        tree = Tree(self._home.root, scope, spec)
        if within > 0:
            tree.settle(within)
        tree.kill()
        spec.unlink(missing_ok=True)

    def _run(self, argv: tuple[str, ...], command: Command, output: Callable[[bytes], None], latch: Latch) -> int:
        tree = Tree(self._home.root, command.scope)
        with ExitStack() as open_files:
            reader, process = _start(argv, open_files)
            try:
                attendance = _Attendance(process, reader, output, latch, open_files)
                cut_short = attendance.until_exit(command.timeout)
                if cut_short is not None:
                    tree.terminate(process.pid)
                    attendance.until_gone(tree, command.grace)
            finally:
                try:
                    tree.kill()
                finally:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(5)  # at once, unless the StepError is on its way
            attendance.drain()
        if cut_short is not None:
            raise cut_short
        return process.returncode


def _start(argv: tuple[str, ...], open_files: ExitStack) -> tuple[int, subprocess.Popen[bytes]]:
    # The launcher gets none of the worker's environment; the command's is in the spec. LD_LIBRARY_PATH is for
    # Python itself, where it is not at home in /usr.
    environment = {containment.MARKER: argv[-1]}
    if path := os.environ.get("LD_LIBRARY_PATH"):
        environment["LD_LIBRARY_PATH"] = path
    reader, writer = os.pipe()
    open_files.callback(os.close, reader)
    os.set_blocking(reader, False)
    try:
        process = subprocess.Popen(
            (*argv, str(os.getpid())),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(writer)
    return reader, process


class _Attendance:
    """Waits for the command while its output flows."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: int,
        output: Callable[[bytes], None],
        latch: Latch,
        open_files: ExitStack,
    ) -> None:
        self._reader = reader
        self._output = output
        self._latch = latch
        self._exit = os.pidfd_open(process.pid)
        open_files.callback(os.close, self._exit)
        self._poll = select.poll()
        for descriptor in (reader, self._exit, latch.fileno()):
            self._poll.register(descriptor, select.POLLIN)

    def until_exit(self, timeout: float) -> Exception | None:
        """None where the command exited, else why it has to end."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            ready = self._wait(left)
            if self._exit in ready:
                return None
            if self._latch.is_set():
                return Interrupted()
        return TimeoutError(f"it did not end within {timeout:g} seconds")

    def until_gone(self, tree: Tree, grace: float) -> None:
        """Wait for every process of the tree, at most `grace` seconds or until the latch's `force`.

        A keeper exits after its tree; where there is none, the cgroup says when it is empty.
        """
        deadline = time.monotonic() + grace
        self._poll.unregister(self._latch.fileno())
        exited = False
        with ExitStack() as stack:
            changes = [stack.enter_context(cgroups.events(cgroup)) for cgroup in tree.cgroups]
            for change in changes:
                if change is not None:
                    self._poll.register(change, select.POLLPRI)
            while (left := deadline - time.monotonic()) > 0 and not self._latch.force:
                if exited and not tree.populated():
                    return
                ready = self._wait(min(left, _FORCE_INTERVAL))
                if self._exit in ready:
                    exited = True
                    self._poll.unregister(self._exit)
                for change in changes:
                    cgroups.acknowledge(change)

    def drain(self) -> None:
        """What is in the pipe. Everyone is dead; a limit guards against a writer that got the pipe elsewhere."""
        for _ in range(64):
            if not self._read():
                return

    def _wait(self, seconds: float) -> set[int]:
        ready = {descriptor for descriptor, _ in self._poll.poll(seconds * 1000)}
        if self._reader in ready and not self._read():
            self._poll.unregister(self._reader)
        return ready

    def _read(self) -> bool:
        """False at the end, or where nothing is there now."""
        chunk = b""
        with suppress(BlockingIOError):
            chunk = os.read(self._reader, CHUNK)
        if chunk:
            self._output(chunk)
        return bool(chunk)
