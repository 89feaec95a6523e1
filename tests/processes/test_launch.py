"""The launcher under a starter such as supervisord: one pid, its signals and its status stand for the whole tree."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes.trials import DEADLINE, Bench, Case, bench

from safepoint.processes import containment
from safepoint.processes.contained import ContainedCommands
from safepoint.processes.spec import path_of, write_spec
from safepoint.state.paths import Home

SCOPE = "web.v7.web.1"


@pytest.fixture(params=[kind for kind in containment.Kind if containment.possible(kind, Path("/"))])
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv(containment.FORCED, request.param)
    with bench(Case(request.param, (), sys.executable)) as made:
        yield made
        ContainedCommands(Home(made.home)).end(SCOPE)


def _argv(app: Bench, *argv: str, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    return write_spec(
        path_of(Home(app.home), SCOPE),
        scope=SCOPE,
        home=app.home,
        argv=argv,
        directory=app.directory,
        environment={"PATH": os.environ["PATH"], "TRIAL_TAG": app.tag, **(environment or {})},
    )


@contextmanager
def _started(argv: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """As supervisord starts it: leading a process group, stdin a pipe."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    """The next line of its output, within the deadline."""
    assert process.stdout is not None
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    assert poll.poll(DEADLINE * 1000)
    return process.stdout.readline()


@pytest.mark.parametrize(("script", "status"), [("exit 5", 5), ("kill -ABRT $$", -6), ("kill -KILL $$", -9)])
def test_status(app: Bench, script: str, status: int) -> None:
    """The starter sees the app's own exit status, or its signal."""
    with _started(_argv(app, "sh", "-c", script)) as process:
        assert process.wait(DEADLINE) == status


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "TTIN", "WINCH"])
def test_signal_reaches_the_app(app: Bench, name: str) -> None:
    """A signal to the pid that was started reaches the app, which may end as it likes."""
    program = (
        "import os, signal, sys, time\n"
        f"def heard(*_): os.write(1, b'heard\\n'); os._exit(9)\nsignal.signal(signal.SIG{name}, heard)\n"
        "os.write(1, b'ready\\n')\nwhile True: time.sleep(3600)"
    )
    with _started(_argv(app, *app.python(program))) as process:
        assert _line(process) == b"ready\n"
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert _line(process) == b"heard\n"
        assert process.wait(DEADLINE) == 9


def test_term_ends_a_plain_app(app: Bench) -> None:
    """An app without handlers dies of SIGTERM, and the starter is told so."""
    with _started(_argv(app, "sh", "-c", "echo ready; exec sleep 3600")) as process:
        assert _line(process) == b"ready\n"
        process.terminate()
        assert process.wait(DEADLINE) == -signal.SIGTERM


def test_kill_and_end(app: Bench) -> None:
    """SIGKILL of the pid that was started, then `end`: nothing is left, whatever was started beside."""
    with _started(_argv(app, "sh", "-c", "setsid sleep 3600 & trap '' TERM; echo ready; wait; sleep 3600")) as process:
        assert _line(process) == b"ready\n"
        process.kill()
        ContainedCommands(Home(app.home)).end(SCOPE)
        assert app.living() == []


def test_end_within_a_grace(app: Bench) -> None:
    """What still cleans up when the main process is dead already gets the time that is asked for."""
    program = (
        "import os, signal, sys, time\n"
        "def clean(*_): os.write(1, b'cleaning\\n'); time.sleep(0.5); os.write(1, b'clean\\n'); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, clean); os.write(1, b'ready\\n')\nwhile True: time.sleep(3600)"
    )
    with _started(_argv(app, "sh", "-c", '"$@"; true', "sh", *app.python(program))) as process:
        assert _line(process) == b"ready\n"
        os.killpg(process.pid, signal.SIGTERM)  # as supervisord does with `stopasgroup`
        ContainedCommands(Home(app.home)).end(SCOPE, within=DEADLINE)
        assert _line(process) == b"cleaning\n"
        assert _line(process) == b"clean\n"
        assert process.wait(DEADLINE) == -signal.SIGTERM


def test_terminated_while_it_forks(app: Bench) -> None:
    """SIGTERM reaches those too that are forked while it is being sent."""
    forks = "echo ready; i=0; while [ $i -lt 300 ]; do sleep 3600 & i=$((i+1)); done; wait"
    with _started(_argv(app, "sh", "-c", forks)) as process:
        assert _line(process) == b"ready\n"
        process.terminate()
        assert process.wait(DEADLINE) == -signal.SIGTERM


def test_end_within_is_bounded(app: Bench) -> None:
    """What does not clean up is killed when that time is over."""
    with _started(_argv(app, "sh", "-c", "trap '' TERM; echo ready; sleep 3600")) as process:
        assert _line(process) == b"ready\n"
        ContainedCommands(Home(app.home)).end(SCOPE, within=0.2)
        assert app.living() == []
        process.wait(DEADLINE)


def test_started_again(app: Bench) -> None:
    """The app's next life begins without what its last one left behind."""
    argv = _argv(app, "sh", "-c", "setsid sleep 3600 >/dev/null & echo ready; exit 1")
    for _ in range(3):
        with _started(argv) as process:
            assert _line(process) == b"ready\n"
            assert process.wait(DEADLINE) == 1
            assert len(app.living()) <= 1


def test_starter_dies(app: Bench) -> None:
    """The app does not outlive the one that watches over it."""
    argv = _argv(app, "sh", "-c", "echo ready; exec sleep 3600")
    starter = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    with subprocess.Popen([sys.executable, "-c", starter, *argv], stdout=subprocess.PIPE) as process:
        assert _line(process) == b"ready\n"
        process.kill()
        # The pipe is closed by the last of them.
        assert process.stdout is not None
        assert process.stdout.read() == b""


def test_starter_is_dead_already(app: Bench) -> None:
    """A launcher whose starter died before it could ask to be told runs nothing."""
    argv = (*_argv(app, "sh", "-c", "echo ran"), "1")
    with _started(argv) as process:
        assert process.communicate(timeout=DEADLINE)[0] == b""
        assert process.returncode == 125


def test_cgroup_that_cannot_be_entered(app: Bench) -> None:
    """A starter in another part of the hierarchy contains the app in the next best way."""
    argv = _argv(app, "sh", "-c", "setsid sleep 3600 & echo ready; sleep 3600")
    path = path_of(Home(app.home), SCOPE)
    path.write_text(path.read_text().replace('"kind": "cgroup", "cgroup": "', '"kind": "cgroup", "cgroup": "/proc'))
    with _started(argv) as process:
        assert _line(process) == b"ready\n"
        process.terminate()
        process.wait(DEADLINE)
        ContainedCommands(Home(app.home)).end(SCOPE)
        assert app.living() == []


def test_spec_is_missing(app: Bench) -> None:
    """A launcher without its spec says so in one line."""
    argv = _argv(app, "true")
    path_of(Home(app.home), SCOPE).unlink()
    process = subprocess.run(argv, stderr=subprocess.PIPE, check=False, timeout=DEADLINE)
    assert process.returncode == 125
    assert process.stderr.startswith(b"safepoint: cannot contain the command: ")
    assert process.stderr.count(b"\n") == 1
