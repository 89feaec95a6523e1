"""Trusted commands that are awaited with a latch: whatever happens, nothing of them is left running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dying import await_death

from safepoint.core.failures import Interrupted, StepError
from safepoint.drivers.interruptible import run
from safepoint.engine.latch import CancelLatch

ENVIRONMENT = {"PATH": os.environ["PATH"]}
# A process, its child and one that is orphaned; each says its number, then all of them wait.
FAMILY = "sleep 1000 & echo $!; (sleep 1000 & echo $!); echo $$; echo ready; exec sleep 1000"


def shell(script: str, latch: CancelLatch, tmp_path: Path) -> tuple[int, bytes, bytes]:
    chunks: list[bytes] = []
    status, stderr = run(
        ["sh", "-c", script], environment=ENVIRONMENT, directory=tmp_path, latch=latch, output=chunks.append
    )
    return status, b"".join(chunks), stderr


def test_a_command_to_its_end(latch: CancelLatch, tmp_path: Path) -> None:
    """Its status, all of its output, its errors, its directory, its umask, its environment and nothing to read."""
    script = "pwd; umask; echo $X-$HOME; cat; echo no >&2; exit 3"
    assert shell(script, latch, tmp_path) == (3, f"{tmp_path}\n0022\n-\n".encode(), b"no\n")
    assert shell("kill -9 $$", latch, tmp_path)[0] == -9


def test_much_output_on_both_streams(latch: CancelLatch, tmp_path: Path) -> None:
    """Neither stream blocks the other; of the errors the beginning is kept."""
    status, output, stderr = shell("yes | head -c 1000000 >&2; yes | head -c 1000000", latch, tmp_path)
    assert status == 0
    assert len(output) == 1_000_000
    assert stderr.startswith(b"y\ny\n")
    assert 1000 < len(stderr) < 100_000


def test_the_latch_ends_all_of_it(latch: CancelLatch, tmp_path: Path) -> None:
    """Interrupted is raised, and the whole family is dead."""
    said = b""

    def output(chunk: bytes) -> None:
        nonlocal said
        said += chunk
        if b"ready" in said:
            latch.set()

    with pytest.raises(Interrupted):
        run(["sh", "-c", FAMILY], environment=ENVIRONMENT, directory=tmp_path, latch=latch, output=output)
    pids = [int(word) for word in said.split()[:3]]
    assert len(pids) == 3
    assert all(await_death(pid) for pid in pids)


def test_a_latch_that_is_set_already(latch: CancelLatch, tmp_path: Path) -> None:
    """Nothing is waited for."""
    latch.set()
    with pytest.raises(Interrupted):
        shell("exec sleep 1000", latch, tmp_path)


def test_a_reader_that_gives_up(latch: CancelLatch, tmp_path: Path) -> None:
    """What the reader of the output raises comes out, and the command is dead."""
    said = b""

    def output(chunk: bytes) -> None:
        nonlocal said
        said += chunk
        if b"ready" in said:
            raise StepError("enough")

    with pytest.raises(StepError, match="enough"):
        run(["sh", "-c", FAMILY], environment=ENVIRONMENT, directory=tmp_path, latch=latch, output=output)
    assert all(await_death(int(word)) for word in said.split()[:3])


def test_it_dies_with_us(tmp_path: Path) -> None:
    """A worker that is killed takes the command with it: recovery must not race with what goes on writing."""
    script = f"""
import os, sys
from pathlib import Path
from safepoint.drivers.interruptible import run
from safepoint.engine.latch import CancelLatch
run(["sh", "-c", "echo $$; exec sleep 1000"], environment=os.environ, directory=Path({str(tmp_path)!r}),
    latch=CancelLatch(), output=lambda chunk: os.write(1, chunk))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        worker.kill()
        died = await_death(pid)
        if not died:
            os.kill(pid, signal.SIGKILL)
        assert died


def test_a_command_that_is_not_there(latch: CancelLatch, tmp_path: Path) -> None:
    """A directory that is missing, or no PATH to find the command in, is a failed step."""
    with pytest.raises(StepError, match="sh cannot be run: No such file"):
        run(["sh"], environment=ENVIRONMENT, directory=tmp_path / "none", latch=latch)


def test_no_descriptor_is_left(latch: CancelLatch, tmp_path: Path) -> None:
    """Neither after an end nor after an interruption."""
    before = sorted(each.name for each in Path("/proc/self/fd").iterdir())
    shell("echo x", latch, tmp_path)
    latch.set()
    with pytest.raises(Interrupted):
        shell("exec sleep 1000", latch, tmp_path)
    assert sorted(each.name for each in Path("/proc/self/fd").iterdir()) == before
