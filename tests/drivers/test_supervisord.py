"""The runtime on a real supervisord, in homes of their own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from dying import await_death

from safepoint.core.failures import StepError
from safepoint.core.release import Process, ProcessGroup, ProcessStatus
from safepoint.drivers.supervisord import Supervisord
from safepoint.engine.ports import Runtime
from safepoint.errors import UserError
from safepoint.record import replace
from safepoint.state.paths import Home

DEADLINE = 120.0
ESCAPE = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done' &"
FOREVER = "while :; do sleep 1000; done"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with made_home(tmp_path / "home") as home:
        yield home


@contextmanager
def made_home(root: Path) -> Iterator[Home]:
    home = Home(root)
    home.create()
    try:
        yield home
    finally:
        Supervisord(home).shutdown()
    assert processes_of(home) == []


@pytest.fixture
def runtime(home: Home) -> Supervisord:
    supervisord = Supervisord(home)
    supervisord.ensure_running()
    return supervisord


def processes_of(home: Home) -> list[str]:
    """Command lines of what lives in a home: supervisord and what it runs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                inside = str(home.root).encode() in (entry / "environ").read_bytes()
                if inside or (entry / "cwd").readlink().is_relative_to(home.root):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


def open_files(proc: Path) -> set[Path]:
    found = set()
    for each in (proc / "fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed while we look
            found.add(each.readlink())
    return found


def group(home: Home, *commands: str, app: str = "shop", release: int = 1, grace: float = 10.0) -> ProcessGroup:
    directory = home.release(app, release)
    directory.mkdir(parents=True, exist_ok=True)
    processes = tuple(Process(f"web.{i}", command, 20000 + i) for i, command in enumerate(commands, 1))
    return ProcessGroup(app, release, str(directory), {}, processes, grace)


class Ear:
    """A FIFO: what processes say into it, and whether any of them still lives."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        path.chmod(0o666)
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        # A FIFO that had writers and has none is at its end, and no event tells of the next one: hold it meanwhile.
        self._writer = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._heard = b""

    @property
    def held(self) -> str:
        """Shell code: this process and its children hold the FIFO until they are dead, as descriptor 9."""
        return f"exec 9>'{self.path}'"

    def line(self) -> str:
        """The next line. Waits for it."""
        while b"\n" not in self._heard:
            assert self._more() is not None
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def all_dead(self) -> bool:
        """Whether nobody holds it now. What is still to be heard is heard."""
        with self._let_go():
            poll = select.poll()
            poll.register(self._descriptor, 0)
            return bool(poll.poll(0))

    def wait_all_dead(self) -> None:
        with self._let_go():
            while self._more() is not None:
                pass

    def close(self) -> None:
        os.close(self._writer)
        os.close(self._descriptor)

    @contextmanager
    def _let_go(self) -> Iterator[None]:
        os.close(self._writer)
        try:
            yield
        finally:
            self._writer = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)

    def _more(self) -> bytes | None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        assert poll.poll(DEADLINE * 1000), "nothing was said in time"
        chunk = os.read(self._descriptor, 4096)
        self._heard += chunk
        return chunk or None


@pytest.fixture
def ear(outside: Path) -> Iterator[Ear]:
    ear = Ear(outside / "ear")
    yield ear
    ear.close()


def status_when(runtime: Runtime, condition: Callable[[ProcessStatus], bool]) -> ProcessStatus:
    """The status of the only process of shop v1, once it is so."""
    deadline = time.monotonic() + DEADLINE
    while True:
        (status,) = runtime.status("shop", 1)
        if condition(status):
            return status
        assert time.monotonic() < deadline, status


def kill_supervisord(runtime: Supervisord) -> None:
    pid = runtime.pid()
    assert pid is not None
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], DEADLINE)
    finally:
        os.close(process)


# Starting


def test_processes_run_in_the_release_with_their_environment(home: Home, runtime: Runtime, ear: Ear) -> None:
    """A process gets the release's environment, its own PORT, and the release's programs first in PATH."""
    say = f'printf "%s\\n" "$PORT" "$COLOUR" "$PATH" "$HOME" "$(pwd)" >\'{ear.path}\'; {FOREVER}'
    shop = replace(group(home, say), environment={"COLOUR": "deep blue", "PORT": "1"})
    runtime.start(shop)
    directory = shop.directory
    assert [ear.line(), ear.line()] == ["20001", "deep blue"]
    assert ear.line().startswith(f"{directory}/.venv/bin:{directory}/node_modules/.bin:/")
    assert [ear.line(), ear.line()] == [directory, directory]


def test_the_release_has_the_last_word_on_its_environment(home: Home, runtime: Runtime, ear: Ear) -> None:
    """PATH, HOME and LANG are taken as they are given."""
    given = {"PATH": "/bin:/usr/bin", "HOME": "/nowhere", "LANG": "C"}
    shop = group(home, f"echo $PATH $HOME $LANG >'{ear.path}'; {FOREVER}")
    runtime.start(replace(shop, environment=given))
    assert ear.line() == "/bin:/usr/bin /nowhere C"


def test_every_process_is_launched_when_start_returns(home: Home, runtime: Runtime) -> None:
    """After start, each process has a pid and counts as running, never having failed."""
    runtime.start(group(home, FOREVER, FOREVER))
    found = runtime.status("shop", 1)
    assert [(status.name, status.running, status.restarts, status.detail) for status in found] == [
        ("web.1", True, 0, "running"),
        ("web.2", True, 0, "running"),
    ]
    assert len({status.pid for status in found} - {0}) == 2


def test_starting_twice_changes_nothing(home: Home, runtime: Runtime) -> None:
    """A group that runs with the same definition is left as it is."""
    runtime.start(group(home, FOREVER))
    before = runtime.status("shop", 1)
    runtime.start(group(home, FOREVER))
    assert runtime.status("shop", 1) == before


def test_another_definition_replaces_the_group(home: Home, runtime: Runtime, ear: Ear) -> None:
    """Starting a group under a running identity, but with another environment, replaces its processes."""
    say = f"echo $COLOUR >'{ear.path}'; {FOREVER}"
    runtime.start(replace(group(home, say), environment={"COLOUR": "red"}))
    assert ear.line() == "red"
    before = runtime.status("shop", 1)[0].pid
    runtime.start(replace(group(home, say), environment={"COLOUR": "blue"}))
    assert ear.line() == "blue"
    assert runtime.status("shop", 1)[0].pid != before


def test_a_half_started_group_is_completed(home: Home, runtime: Supervisord) -> None:
    """Files that were written by a start that died before supervisord was told do not count as started."""
    shop = group(home, FOREVER)
    kept = {}
    runtime.start(shop)
    for path in home.run.glob("s*/shop.v1*"):
        kept[path] = path.read_bytes()
    runtime.stop("shop", 1)
    for path, content in kept.items():
        path.write_bytes(content)
    assert len(kept) == 3
    assert runtime.groups() == set()
    runtime.start(shop)
    assert runtime.status("shop", 1)[0].running


def test_without_supervisord_a_start_says_what_to_do(home: Home) -> None:
    """Where supervisord does not run, start fails with the command that helps."""
    with pytest.raises(StepError, match="supervisord does not run; start it with `safepoint serve`"):
        Supervisord(home).start(group(home, FOREVER))


def test_a_home_that_cannot_be_written_fails_the_start(home: Home, runtime: Runtime) -> None:
    """What the file system refuses is one clause, not a traceback."""
    home.process_logs("shop").parent.mkdir(parents=True)
    home.process_logs("shop").write_text("in the way")
    with pytest.raises(StepError, match=r"cannot write .*/apps/shop/logs: File exists"):
        runtime.start(group(home, FOREVER))
    runtime.stop("shop", 1)


def test_a_release_without_processes_starts(home: Home, runtime: Supervisord) -> None:
    """A Procfile may have nothing to run; nothing is loaded then."""
    runtime.start(group(home))
    assert runtime.groups() == set()
    assert runtime.status("shop", 1) == ()


@pytest.mark.parametrize(
    "command",
    ["echo '100% %(here)s' %%d", "echo \"it's\" ; echo '#1' ; # comment", 'printf "%s\\n" "a  b"', "echo \\\\x ä"],
)
def test_commands_reach_the_shell_as_they_are(home: Home, runtime: Runtime, ear: Ear, command: str) -> None:
    """What supervisord's configuration gives a meaning to, a shell command may contain."""
    runtime.start(group(home, f"({command}\n) >'{ear.path}'; {FOREVER}"))
    expected = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert [ear.line() for _ in expected.splitlines()] == expected.splitlines()


def test_groups_of_different_apps_are_added_at_the_same_moment(home: Home, runtime: Supervisord) -> None:
    """Workers that load, and unload, at once do not lose each other's groups."""
    apps = ["shop", "blog", "wiki"]
    failures: list[BaseException] = []

    def deploys(app: str) -> None:
        try:
            for release in range(1, 6):
                Supervisord(home).start(group(home, FOREVER, app=app, release=release))
                Supervisord(home).stop(app, release - 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=deploys, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert runtime.groups() == {(app, 5) for app in apps}
    assert all(runtime.status(app, 5)[0].running for app in apps)


def test_a_lost_log_directory_of_one_app_does_not_stop_another(home: Home, runtime: Supervisord) -> None:
    """supervisord refuses a whole configuration where one log directory is gone; other apps still deploy."""
    runtime.start(group(home, FOREVER, app="lost"))
    for path in home.process_logs("lost").iterdir():
        path.unlink()
    home.process_logs("lost").rmdir()
    runtime.start(group(home, FOREVER))
    assert runtime.groups() == {("lost", 1), ("shop", 1)}


@pytest.mark.parametrize("name", ["long" * 45, "50% [a] ;b #c %(here)s 'q\" x"])
def test_a_home_may_have_any_name(tmp_path: Path, ear: Ear, name: str) -> None:
    """A home whose path is longer than a socket's address, or has what a configuration gives a meaning to, works."""
    with made_home(tmp_path / name) as home:
        runtime = Supervisord(home)
        runtime.ensure_running()
        runtime.start(group(home, f"echo hello; echo up >'{ear.path}'; {FOREVER}"))
        assert ear.line() == "up"
        (status,) = runtime.status("shop", 1)
        assert status.running
        runtime.stop("shop", 1)
        assert runtime.tail("shop", 1, 10) == {"web.1": ["hello"]}


def test_secrets_are_in_one_private_place(home: Home, runtime: Runtime, ear: Ear) -> None:
    """The environment is in no configuration, command line or log, and in files for their owner only."""
    secret = "hunter2-" + "x" * 20
    shop = replace(group(home, f"echo up >'{ear.path}'; {FOREVER}"), environment={"TOKEN": secret})
    runtime.start(shop)
    assert ear.line() == "up"
    assert not any(secret in line for line in processes_of(home))
    files = [path for path in home.root.rglob("*") if path.is_file()]
    holding = [path for path in files if secret.encode() in path.read_bytes()]
    assert {path.suffix for path in holding} == {".json"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in holding)
    assert (home.run / "supervisor.d" / "shop.v1.conf") in files
    assert (home.run / "supervisor.d" / "shop.v1.conf").stat().st_mode & 0o777 == 0o600


# Stopping


def test_a_stopped_group_is_forgotten(home: Home, runtime: Supervisord, ear: Ear) -> None:
    """After stop, all of it is dead, and neither supervisord nor the home knows of it; again is harmless."""
    runtime.start(group(home, f"{ear.held}; echo up >&9; {FOREVER}"))
    assert ear.line() == "up"
    for _ in range(2):
        runtime.stop("shop", 1)
        assert ear.all_dead()
        assert runtime.groups() == set()
        assert runtime.status("shop", 1) == ()
        assert list(home.run.glob("s*/*shop*")) == []


def test_stop_takes_what_left_the_process_group(home: Home, runtime: Runtime, ear: Ear) -> None:
    """A child that called setsid and ignores SIGTERM is dead when stop returns."""
    runtime.start(group(home, f"{ear.held}; {ESCAPE} echo up >&9; {FOREVER}"))
    assert ear.line() == "up"
    runtime.stop("shop", 1)
    assert ear.all_dead()


def test_stop_gives_the_grace_and_then_kills(home: Home, runtime: Runtime, ear: Ear) -> None:
    """A process may clean up after SIGTERM; one that ignores it is killed when the grace is over."""
    tidy = f"{ear.held}; trap 'echo cleaned >&9; exit' TERM; echo up >&9; while :; do sleep 0.1; done"
    stubborn = f"{ear.held}; trap 'echo ignored >&9' TERM; echo up >&9; while :; do sleep 0.1; done"
    runtime.start(group(home, tidy, stubborn, grace=0.5))
    assert [ear.line(), ear.line()] == ["up", "up"]
    runtime.stop("shop", 1)
    assert {ear.line(), ear.line()} == {"cleaned", "ignored"}
    assert ear.all_dead()


def test_stop_leaves_other_releases_alone(home: Home, runtime: Supervisord) -> None:
    """v1 can be stopped while v10 of the app, and v1 of another, run."""
    for app, release in (("shop", 1), ("shop", 10), ("shop-v1", 1)):
        runtime.start(group(home, FOREVER, app=app, release=release))
    runtime.stop("shop", 1)
    assert runtime.groups() == {("shop", 10), ("shop-v1", 1)}
    assert runtime.status("shop", 10)[0].running
    assert runtime.status("shop-v1", 1)[0].running


def test_a_group_in_a_crash_loop_can_be_stopped(home: Home, runtime: Supervisord) -> None:
    """Between two tries there is no process; stop ends the tries."""
    runtime.start(group(home, "exit 1"))
    status_when(runtime, lambda status: not status.running)
    runtime.stop("shop", 1)
    assert runtime.groups() == set()


def test_what_never_was_can_be_stopped(home: Home, runtime: Runtime) -> None:
    """Stop accepts a group that nobody started, with and without a supervisord."""
    runtime.stop("shop", 1)
    elsewhere: Runtime = Supervisord(Home(home.root / "elsewhere"))
    elsewhere.stop("shop", 1)
    assert (elsewhere.status("shop", 1), elsewhere.tail("shop", 1, 10)) == ((), {})


# What is known of them


def test_a_process_that_dies_at_once_is_told_with_its_status(home: Home, runtime: Runtime) -> None:
    """The exit status of a broken release is known at once, though supervisord itself forgets it."""
    runtime.start(group(home, "echo no such module; exit 3"))
    status = status_when(runtime, lambda status: not status.running)
    assert (status.pid, status.restarts, status.detail) == (0, 1, "exited with status 3")
    assert runtime.tail("shop", 1, 10) == {"web.1": ["no such module"]}


def test_a_crash_loop_is_counted_and_given_up(home: Home, runtime: Runtime) -> None:
    """What crashes again and again is not started for ever, and its status says so."""
    runtime.start(group(home, "kill -KILL $$"))
    status = status_when(runtime, lambda status: "given up" in status.detail)
    # 4, unless a busy machine took more than a second to start it: supervisord then begins to count anew.
    assert (status.pid, status.running, status.restarts >= 4) == (0, False, True)
    assert status.detail == f"was killed by SIGKILL; given up after {status.restarts} tries"


def test_a_process_that_died_later_runs_again_and_it_shows(home: Home, runtime: Runtime, ear: Ear) -> None:
    """A restart counts for ever, so that nobody has to look at the right moment."""
    runtime.start(group(home, f"echo $$ >'{ear.path}'; {FOREVER}"))
    ear.line()
    (first,) = runtime.status("shop", 1)
    os.kill(first.pid, signal.SIGKILL)
    ear.line()
    again = status_when(runtime, lambda status: status.running and status.restarts > 0)
    assert again.pid != first.pid
    assert (again.restarts, again.detail) == (1, "was killed by SIGKILL, and was started again")


def test_the_tail_is_kept_until_it_is_forgotten(home: Home, runtime: Supervisord, ear: Ear) -> None:
    """The last lines, of stdout and stderr, can be read after the release was stopped."""
    runtime.start(group(home, f"seq 1 2000; printf '\\377\\n' >&2; echo up >'{ear.path}'; {FOREVER}"))
    ear.line()
    runtime.stop("shop", 1)
    assert runtime.tail("shop", 1, 3) == {"web.1": ["1999", "2000", "\N{REPLACEMENT CHARACTER}"]}
    assert runtime.tail("shop", 1, 0) == {"web.1": []}
    for _ in range(2):
        runtime.forget("shop", 1)
        assert runtime.tail("shop", 1, 3) == {}
        assert list(home.process_logs("shop").iterdir()) == []


def test_the_tail_goes_on_over_a_rotation(home: Home, runtime: Supervisord) -> None:
    """Where the log was rotated a moment ago, the lines before that are in the tail too."""
    logs = home.process_logs("shop")
    logs.mkdir(parents=True)
    (logs / "v1.web.1.log.1").write_text("one\ntwo\n")
    (logs / "v1.web.1.log").write_text("three\n")
    assert runtime.tail("shop", 1, 2) == {"web.1": ["two", "three"]}
    runtime.forget("shop", 1)
    assert list(logs.iterdir()) == []


# supervisord itself


def test_only_one_supervisord_is_started(home: Home) -> None:
    """Callers at the same moment get the same one; it runs until it is shut down."""
    pids: list[int] = []
    threads = [threading.Thread(target=lambda: pids.append(Supervisord(home).ensure_running())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runtime = Supervisord(home)
    assert pids == [runtime.pid()] * 4
    assert runtime.running()
    assert len(processes_of(home)) == 1
    for _ in range(2):
        runtime.shutdown()
        assert (runtime.running(), runtime.pid(), runtime.groups()) == (False, None, set())
        assert processes_of(home) == []


def test_one_whose_starter_died_before_it_listened_is_ended(home: Home, runtime: Supervisord) -> None:
    """Nobody could find it by its socket, and it would run the same groups beside the next one."""
    first = runtime.pid()
    assert first is not None
    (home.run / "supervisor.sock").unlink()
    second = runtime.ensure_running()
    assert second != first
    assert await_death(first, 0)


def test_supervisord_outlives_its_starter_and_has_nothing_of_it(home: Home) -> None:
    """It has a session of its own, and neither the signal mask, ignored signals, files nor variables of its starter."""
    code = """
import os, signal, sys
from pathlib import Path
from safepoint.drivers.supervisord import Supervisord
from safepoint.state.paths import Home
from safepoint.record import replace
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
os.set_inheritable(os.open("/etc/passwd", os.O_RDONLY), True)
print(Supervisord(Home(Path(sys.argv[1]))).ensure_running())
"""
    environment = os.environ | {"GIT_DIR": "/nowhere", "TOKEN": "hunter2"}
    starter = subprocess.run(
        [sys.executable, "-c", code, str(home.root)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    runtime = Supervisord(home)
    pid = int(starter.stdout)
    assert runtime.pid() == pid
    assert os.getsid(pid) == pid
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & 1 << (signal.SIGHUP - 1) == 0
    assert b"hunter2" not in (proc / "environ").read_bytes()
    assert b"GIT_DIR" not in (proc / "environ").read_bytes()
    assert Path("/etc/passwd") not in open_files(proc)


def test_after_a_sigkill_of_supervisord_all_begins_anew(home: Home, runtime: Supervisord, ear: Ear) -> None:
    """A new supervisord starts nothing by itself, and what the dead one ran is dead; the release can be started."""
    shop = group(home, f"{ear.held}; {ESCAPE} echo up >&9; {FOREVER}")
    runtime.start(shop)
    assert ear.line() == "up"
    before = runtime.pid()
    kill_supervisord(runtime)
    assert not runtime.running()
    assert runtime.ensure_running() != before
    ear.wait_all_dead()
    assert runtime.groups() == set()
    assert runtime.status("shop", 1) == ()
    runtime.start(shop)
    assert ear.line() == "up"
    assert runtime.groups() == {("shop", 1)}


def test_without_supervisord_its_orphans_can_be_stopped(home: Home, runtime: Supervisord, ear: Ear) -> None:
    """Stop works when supervisord was killed: what it left is dead, and not started by the next one."""
    runtime.start(group(home, f"{ear.held}; {ESCAPE} echo up >&9; {FOREVER}"))
    assert ear.line() == "up"
    kill_supervisord(runtime)
    (status,) = runtime.status("shop", 1)
    assert status == ProcessStatus("web.1", 0, False, 0, "supervisord does not run")
    runtime.stop("shop", 1)
    assert ear.all_dead()
    assert list(home.run.glob("s*/*shop*")) == []
    runtime.ensure_running()
    assert runtime.groups() == set()


def test_a_stopped_supervisord_fails_whatever_needs_it(
    home: Home, runtime: Supervisord, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a deadline, in a clause that says so. Afterwards what it had, and what it was not given, can be stopped."""
    from safepoint.drivers import supervisord_rpc

    monkeypatch.setattr(supervisord_rpc, "TIMEOUT", 0.5)
    runtime.start(group(home, f"{ear.held}; echo up >&9; {FOREVER}"))
    assert ear.line() == "up"
    pid = runtime.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        for action in (
            lambda: runtime.start(group(home, FOREVER, release=2)),
            lambda: runtime.status("shop", 1),
            lambda: runtime.stop("shop", 1),
        ):
            with pytest.raises(StepError, match="supervisord does not answer within"):
                action()
        with pytest.raises(UserError, match=f"does not answer; end it with `kill -KILL {pid}` and try again"):
            runtime.ensure_running()
    finally:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    for release in (1, 2):
        runtime.stop("shop", release)
    ear.wait_all_dead()
    assert runtime.groups() == set()


def test_shutdown_leaves_nothing(home: Home, runtime: Supervisord, ear: Ear) -> None:
    """Every process gets its SIGTERM, and all are dead, escaped or not."""
    polite = f"{ear.held}; {ESCAPE} trap 'echo bye >&9; exit' TERM; echo up >&9; while :; do sleep 0.1; done"
    for app in ("shop", "blog"):
        runtime.start(group(home, polite, app=app))
        assert ear.line() == "up"
    runtime.shutdown()
    assert [ear.line(), ear.line()] == ["bye", "bye"]
    assert ear.all_dead()
    assert list((home.run / "supervisor.d").iterdir()) == []
    assert list((home.run / "specs").iterdir()) == []


def test_supervisord_that_cannot_start_says_why(home: Home) -> None:
    """supervisord's own words are in the error."""
    (home.run / "supervisor.d").mkdir()
    (home.run / "supervisor.d" / "broken.conf").write_text("[program:x]\n")
    with pytest.raises(UserError, match="cannot start supervisord: Error: program section program:x does not specify"):
        Supervisord(home).ensure_running()


def test_the_driver_is_cheap_to_import() -> None:
    """A worker that does not talk to supervisord yet does not pay for XML-RPC."""
    code = "import safepoint.drivers.supervisord, sys; print('http.client' in sys.modules, 'supervisor' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "False False\n"
