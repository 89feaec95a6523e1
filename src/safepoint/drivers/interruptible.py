"""Runs a trusted command whose end may be awaited with a latch, and which never outlives this process. Pushed code is
run by `processes`, never here: a command that wants to get away from its group could."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safepoint.core.failures import Interrupted, StepError
from safepoint.hints import Protocol

MAX_STDERR = 16 * 1024


class Latch(Protocol):
    def is_set(self) -> bool: ...
    def fileno(self) -> int: ...


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    latch: Latch,
    stdin: Path | None = None,
    output: Callable[[bytes], None] | None = None,
) -> tuple[int, bytes]:
    """The exit status (negative: the signal) and the first of its standard error. umask is 022. Any thread may do it.

    Raises Interrupted when the latch is set first, StepError where the command cannot be run, and whatever `output`
    raises. In every case the whole process group is dead.
    """
    try:
        with Path(stdin or os.devnull).open("rb") as source:
            process = subprocess.Popen(
                [*_dies_with_us(), *argv],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=directory,
                process_group=0,
                umask=0o022,
            )
    except OSError as error:
        raise StepError(f"{argv[0]} cannot be run: {error.strerror}") from None
    try:
        return _follow(process, latch, output or (lambda chunk: None))
    finally:
        _end(process)


def _follow(process: subprocess.Popen[bytes], latch: Latch, output: Callable[[bytes], None]) -> tuple[int, bytes]:
    assert process.stdout is not None and process.stderr is not None  # noqa: PT018
    said = b""
    poll = select.poll()
    ended = os.pidfd_open(process.pid)
    try:
        stdout, stderr = process.stdout.fileno(), process.stderr.fileno()
        open_ones = {stdout, stderr, ended}
        for descriptor in (*open_ones, latch.fileno()):
            poll.register(descriptor, select.POLLIN)
        # The pipes' ends tell that its children are gone too, the pidfd tells that it is itself.
        while open_ones:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if latch.is_set():
                raise Interrupted
            for descriptor in ready & open_ones:
                chunk = b"" if descriptor == ended else os.read(descriptor, 65536)
                if not chunk:
                    open_ones.remove(descriptor)
                    poll.unregister(descriptor)
                elif descriptor == stdout:
                    output(chunk)
                else:
                    said = (said + chunk)[:MAX_STDERR]
        return process.wait(), said
    finally:
        os.close(ended)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group and see it dead."""
    assert process.stdout is not None and process.stderr is not None  # noqa: PT018
    if process.returncode is None:
        # Before it is reaped: until then nobody else can get its number.
        os.killpg(process.pid, signal.SIGKILL)
        # Children are not ours to wait for, but each holds this pipe until it is dead.
        while os.read(process.stderr.fileno(), 65536):
            pass
        process.wait()
    process.stdout.close()
    process.stderr.close()


def _dies_with_us() -> Sequence[str]:
    """A prefix that has the kernel kill the command with the thread that started it (PR_SET_PDEATHSIG, prctl(2)).

    Otherwise it would go on writing while recovery removes what it writes. Popen's preexec_fn could do it too, but
    runs Python between fork and exec, which hangs where another thread holds a lock. Without util-linux the command
    still dies, a little later, of its closed pipes.
    """
    has_setpriv = any(os.access(f"{folder}/setpriv", os.X_OK) for folder in os.get_exec_path())
    return ("setpriv", "--pdeathsig", "KILL", "--") if has_setpriv else ()
