"""Detached processes: they hold on to nothing of their starter, and their starter to nothing of them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from processes.trials import DEADLINE

from safepoint.processes import detach

PROBE = Path(__file__).with_name("detach_probe.py")
SOURCE = str(Path(detach.__file__).parents[2])


class Report:
    """A FIFO that a detached process reports to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def argv(self, *arguments: str, stay: Path | None = None) -> tuple[str, ...]:
        return (sys.executable, "-I", "-S", str(PROBE), str(self.path), str(stay or ""), *arguments)

    def read(self) -> dict[str, Any]:
        """Raises where nothing comes within the deadline. Can be read once."""
        try:
            poll = select.poll()
            poll.register(self._reader, select.POLLIN)
            assert poll.poll(DEADLINE * 1000)
            os.set_blocking(self._reader, True)
            with os.fdopen(os.dup(self._reader)) as file:
                report: dict[str, Any] = json.load(file)
            return report
        finally:
            os.close(self._reader)


@pytest.fixture(params=["setsid", "script"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways: the quick one, and the thorough one that a starter with unusual signals needs."""
    monkeypatch.setattr(detach, "_has_signals_to_reset", lambda: request.param == "script")


@pytest.mark.usefixtures("way")
def test_surroundings(tmp_path: Path) -> None:
    """Own session, / as directory, stdio on /dev/null, no descriptor, and no GIT_* variable."""
    report = Report(tmp_path / "report")
    leak = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(leak, True)
    environment = {"PATH": os.environ["PATH"], "GIT_DIR": ".", "GIT_QUARANTINE_PATH": "/q", "KEPT": "1"}
    try:
        detach.spawn(report.argv("an argument", "", "-x"), environment=environment)
    finally:
        os.close(leak)
    found = report.read()
    assert found["session"] not in {os.getsid(0), os.getpid()}
    assert found["terminal"] == 0
    assert found["directory"] == "/"
    assert found["stdio"] == ["/dev/null"] * 3
    assert found["descriptors"] == []
    assert found["environment"].pop("KEPT") == "1"
    assert [name for name in found["environment"] if name.startswith("GIT_")] == []
    assert found["arguments"] == ["an argument", "", "-x"]


@pytest.mark.usefixtures("way")
def test_is_nobodys_zombie(tmp_path: Path) -> None:
    """The process is not a child of its starter, who has no other child left either."""
    report = Report(tmp_path / "report")
    detach.spawn(report.argv(), environment=os.environ)
    found = report.read()
    assert found["parent"] != os.getpid()
    with pytest.raises(ChildProcessError):
        os.waitpid(found["pid"], os.WNOHANG)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    assert str(found["session"]) not in children.read_text().split()


@pytest.mark.usefixtures("way")
def test_pipes_are_not_held_open(tmp_path: Path) -> None:
    """A hook's pipes end with the hook, though what it started lives on; else `git push` would hang."""
    report, stay = Report(tmp_path / "report"), tmp_path / "stay"
    os.mkfifo(stay)
    starter = (
        f"import os, sys; sys.path.insert(0, {SOURCE!r})\n"
        "from safepoint.processes import detach\n"
        "os.set_inheritable(int(sys.argv[1]), True)\n"
        f"detach._has_signals_to_reset = lambda: {detach._has_signals_to_reset()}\n"
        "detach.spawn(sys.argv[2:], environment=os.environ)\n"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", starter, str(writer), *report.argv(stay=stay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[writer],
    )
    os.close(writer)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert os.read(reader, 1) == b""
    os.close(reader)
    found = report.read()
    assert Path(f"/proc/{found['pid']}").exists()
    pidfd = os.pidfd_open(found["pid"])
    # Reading and writing: opened for one of them, a FIFO waits for the other end, which may be dead.
    going = os.open(stay, os.O_RDWR)
    os.write(going, b"go\n")
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(DEADLINE * 1000)
    os.close(pidfd)
    os.close(going)


@pytest.mark.parametrize(("ends", "raises"), [("kill -9 $$", False), ("exit 3", True)])
def test_the_process_in_between_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, raises: bool
) -> None:
    """Then what it was to start died young, and is found dead. All that it can fail in is its fork."""
    setsid = tmp_path / "setsid"
    setsid.write_text(f"#!/bin/sh\n{ends}\n")
    setsid.chmod(0o755)
    monkeypatch.setattr(detach, "_has_signals_to_reset", lambda: False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BlockingIOError) if raises else nullcontext():
        detach.spawn(("true",), environment=os.environ)


@pytest.mark.usefixtures("way")
def test_passed_descriptors(tmp_path: Path) -> None:
    """Exactly those descriptors that were named arrive, under their numbers."""
    report = Report(tmp_path / "report")
    first, second = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
    try:
        detach.spawn(report.argv(), environment=os.environ, pass_fds=[second])
    finally:
        os.close(first)
        os.close(second)
    assert report.read()["descriptors"] == [second]


def test_signals_are_reset(tmp_path: Path) -> None:
    """A starter with blocked and ignored signals does not hand them down."""
    report = Report(tmp_path / "report")
    starter = (
        f"import os, signal, sys; sys.path.insert(0, {SOURCE!r})\n"
        "from safepoint.processes import detach\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])\n"
        "for name in ('HUP', 'INT', 'QUIT', 'PIPE'): signal.signal(signal.Signals['SIG' + name], signal.SIG_IGN)\n"
        "detach.spawn(sys.argv[1:], environment=os.environ)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", starter, *report.argv()], check=True, timeout=DEADLINE)
    found = report.read()
    assert found["blocked"] == "0" * 16
    # Python itself ignores SIGPIPE and SIGXFSZ.
    itself = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert found["ignored"] & ~itself == 0


def test_pipe_signal_is_reset(tmp_path: Path) -> None:
    """SIGPIPE, which Python ignores, has its default again."""
    report = Report(tmp_path / "report")
    # sh, because Python would ignore it once more before the probe can look.
    script = 'grep SigIgn /proc/self/status >"$0.ignored"; exec "$@"'
    detach.spawn(("sh", "-c", script, str(report.path), *report.argv()), environment=os.environ)
    report.read()
    assert Path(f"{report.path}.ignored").read_text() == f"SigIgn:\t{0:016x}\n"


def test_no_controlling_terminal(tmp_path: Path) -> None:
    """Started from a terminal, it does not have that terminal, and is in another session."""
    report = Report(tmp_path / "report")
    master, slave = os.openpty()
    starter = (
        f"import fcntl, os, sys, termios; sys.path.insert(0, {SOURCE!r})\n"
        "from safepoint.processes import detach\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "detach.spawn(sys.argv[1:], environment=os.environ)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, *report.argv()], stdin=slave, start_new_session=True
    ) as process:
        assert process.wait(DEADLINE) == 0
    os.close(slave)
    os.close(master)
    found = report.read()
    assert found["terminal"] == 0
    assert found["session"] != process.pid


def test_from_many_threads(tmp_path: Path) -> None:
    """Threads may start processes at the same time; each gets its own descriptors only."""
    reports = [Report(tmp_path / f"report{n}") for n in range(8)]
    barrier = threading.Barrier(len(reports))

    def start(report: Report) -> None:
        barrier.wait(DEADLINE)
        detach.spawn(report.argv(), environment=os.environ)

    threads = [threading.Thread(target=start, args=(report,)) for report in reports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert [report.read()["descriptors"] for report in reports] == [[]] * len(reports)
