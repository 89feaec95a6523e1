"""How bytes, endings and losses go through both ssh servers, with a shell at the far end."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ssh.servers import DEADLINE, Server, is_alive, kill, wait_dead


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_goes_through(plumbing: Server, alice: Path, status: int) -> None:
    """As it is."""
    assert plumbing.ssh(alice, f"exit {status}").returncode == status


def test_a_signal_is_an_exit_status(plumbing: Server, alice: Path) -> None:
    """128 and the signal's number, as a shell has it."""
    assert plumbing.ssh(alice, "kill -TERM $$").returncode == 128 + signal.SIGTERM


def test_bytes_go_through_as_they_are(plumbing: Server, alice: Path) -> None:
    """In both directions at once, and the end of input is passed on."""
    data = bytes(range(256)) * 4096 + os.urandom(3_000_000)
    done = plumbing.ssh(alice, "cat", stdin=data)
    assert done.returncode == 0
    assert done.stdout == data


def test_stderr_is_apart_from_stdout(plumbing: Server, alice: Path) -> None:
    """A git client reads its protocol from the one, and shows the other."""
    done = plumbing.ssh(alice, "head -c 300000 /dev/zero; head -c 200000 /dev/zero | tr '\\0' e >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, bytes(300_000), b"e" * 200_000)


def test_output_comes_while_the_command_runs(plumbing: Server, alice: Path) -> None:
    """Line by line, not at its end: a deploy is followed live."""
    command = plumbing.command(alice, "echo one; read answer; echo got $answer")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == b"one\n"
        client.stdin.write(b"two\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got two\n"
    assert client.returncode == 0


def test_a_command_that_does_not_read_ends_in_time(plumbing: Server, alice: Path) -> None:
    """A client that still wants to send megabytes hears the status all the same."""
    assert plumbing.ssh(alice, "exit 4", stdin=bytes(5_000_000)).returncode == 4


def test_what_holds_the_pipes_open_holds_up_nobody(plumbing: Server, alice: Path) -> None:
    """A process left in the background would make `git push` hang; it is ended with its group."""
    done = plumbing.ssh(alice, "sleep 1000 & echo $!; exit 5")
    assert done.returncode == 5
    wait_dead(int(done.stdout))


STALL = """
import os, select, sys
os.set_blocking(1, False)
poller = select.poll()
poller.register(1, select.POLLOUT)
written = 0
# It has stalled when nothing more was taken for a while: the one thing here that only time can tell.
while poller.poll(3000):
    try:
        written += os.write(1, bytes(65536))
    except BlockingIOError:
        pass
with open(sys.argv[1], "w") as file:
    file.write(str(written))
os.set_blocking(1, True)
os.write(1, b"the end")
"""


def test_a_slow_reader_slows_the_command(plumbing: Server, alice: Path, tmp_path: Path) -> None:
    """What is not read stays unwritten: the server's memory does not grow with it, and nothing is lost."""
    program, report = tmp_path / "stall.py", tmp_path / "report"
    program.write_text(STALL)
    os.mkfifo(report)
    command = shlex.join([sys.executable, str(program), str(report)])
    with subprocess.Popen(plumbing.command(alice, command), stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        written = int(report.read_text())  # waits for the writer
        assert 0 < written < 16 * 1024 * 1024
        received = client.stdout.read()
    assert received == bytes(written) + b"the end"
    assert client.returncode == 0


def test_large_output_is_complete(plumbing: Server, alice: Path) -> None:
    """Tens of megabytes, as a clone has them."""
    size = 30_000_000
    done = plumbing.ssh(alice, f"head -c {size} /dev/zero")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(bytes(size)).digest()


# It says who it is, leaves a worker behind in a session of its own, and is then as silent as a long build.
SILENT = """
echo $$ >{report}
setsid sh -c 'echo $$ >{report}; exec sleep 1000' </dev/null >/dev/null 2>&1 &
{extra}
exec sleep 1000
"""


@pytest.mark.parametrize("extra", ["", "trap '' TERM"], ids=["silent", "ignores-term"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_lost_client_ends_what_it_ran_and_no_worker(
    plumbing: Server, alice: Path, tmp_path: Path, how: signal.Signals, extra: str
) -> None:
    """Ctrl-C, or a killed client: the command and its children die, even if they never write; the worker does not."""
    report = tmp_path / "report"
    os.mkfifo(report)
    command = SILENT.format(report=report, extra=extra)
    with subprocess.Popen(plumbing.command(alice, command), stdin=subprocess.PIPE) as client:
        with report.open() as reader, report.open("w"):
            command_pid, worker = int(reader.readline()), int(reader.readline())
        assert is_alive(command_pid)
        client.send_signal(how)
        client.wait(DEADLINE)
    try:
        wait_dead(command_pid)
        assert is_alive(worker)
    finally:
        kill(worker)


def test_a_client_lost_in_mid_output_ends_what_it_ran(plumbing: Server, alice: Path, tmp_path: Path) -> None:
    """Also where the command is stuck in a write that nobody reads."""
    report = tmp_path / "report"
    os.mkfifo(report)
    command = f"echo $$ >{report}; exec cat /dev/zero"
    with subprocess.Popen(plumbing.command(alice, command), stdout=subprocess.PIPE) as client:
        pid = int(report.read_text())
        assert client.stdout is not None
        client.stdout.read(1)
        client.kill()
        client.wait(DEADLINE)
        wait_dead(pid)


def test_a_client_lost_in_mid_input_ends_what_it_ran(plumbing: Server, alice: Path, tmp_path: Path) -> None:
    """Also where the command does not read, and the server cannot pass on what came."""
    report = tmp_path / "report"
    os.mkfifo(report)
    with (
        Path("/dev/zero").open() as zeros,
        subprocess.Popen(plumbing.command(alice, f"echo $$ >{report}; exec sleep 1000"), stdin=zeros) as client,
    ):
        pid = int(report.read_text())
        client.kill()
        client.wait(DEADLINE)
        wait_dead(pid)
