"""Contained commands, by every kind of containment: what they see, how they end, that nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest
from processes.trials import DEADLINE, Bench, read_until

from safepoint.processes import containment

IGNORES_TERM = "import signal, os, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); "
FOR_EVER = "time.sleep(3600)"
CLEANS_UP = """
import os, signal, time
def clean(*_):
    os.write(1, b"cleaning\\n"); time.sleep(0.5); os.write(1, b"clean\\n"); os._exit(0)
signal.signal(signal.SIGTERM, clean)
os.write(1, b"ready\\n")
time.sleep(3600)
"""


# --- what a command sees and says


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", -9),
        ("kill -TERM $$", -15),
        ("kill -SEGV $$", -11),
    ],
)
def test_exit_status(contained: Bench, script: str, status: int) -> None:
    """The status is the command's own; a signal is its negative number."""
    assert contained.run("sh", "-c", script).result == status


@pytest.mark.parametrize(
    ("argv", "directory", "status"),
    [(["no-such-command"], "/", 127), (["/etc/passwd"], "/", 126), (["true"], "/no/such/directory", 127)],
)
def test_cannot_be_run(contained: Bench, argv: list[str], directory: str, status: int) -> None:
    """A command that cannot be started says so in one line, and has a shell's exit status."""
    outcome = contained.run(*argv, directory=directory)
    assert outcome.result == status
    assert outcome.output.startswith("safepoint: cannot run ")
    assert outcome.output.count("\n") == 1


def test_output_order(contained: Bench) -> None:
    """stdout and stderr come in the order in which they were written."""
    lines = "for i in $(seq 300); do echo out $i; echo err $i >&2; done"
    expected = "".join(f"out {i}\nerr {i}\n" for i in range(1, 301))
    assert contained.run("sh", "-c", lines).output == expected


def test_much_output(contained: Bench) -> None:
    """Output that is many times a pipe's size arrives whole, up to the last byte before the exit."""
    outcome = contained.run("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' a; printf end")
    assert outcome.output == "a" * 3_000_000 + "end"


def test_surroundings(contained: Bench) -> None:
    """Nothing of the worker's reaches the command: environment, descriptors, signals, session, umask, stdin."""
    program = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "environment": dict(os.environ),
    "descriptors": [fd for fd in range(3, 200) if os.path.exists(f"/proc/self/fd/{fd}")],
    "signals": [status[key].strip() for key in ("SigBlk", "SigIgn")],
    "leads": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
    "umask": os.umask(0),
    "stdin": os.readlink("/proc/self/fd/0"),
    "directory": os.getcwd(),
    "proc": os.path.exists(f"/proc/{os.getpid()}/stat"),
}))
"""
    # sh, because Python sets signals of its own before the program can look.
    status = "grep -E 'SigBlk|SigIgn' /proc/self/status"
    outcome = contained.run("sh", "-c", f'{status}; exec "$@"', "sh", *contained.python(program), directory="/usr")
    *signals, rest = outcome.output.splitlines()
    seen = json.loads(rest)
    assert [line.split()[1] for line in signals] == ["0" * 16] * 2
    assert seen["environment"].pop(containment.MARKER) == containment.name(contained.home, "42.build")
    assert set(seen["environment"]) - {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"} == {"PATH", "TRIAL_TAG"}
    assert seen["descriptors"] == []
    assert seen["leads"] == [True, True]
    assert seen["umask"] == 0o022
    assert seen["stdin"] == "/dev/null"
    assert seen["directory"] == "/usr"
    assert seen["proc"]


def test_kind_in_force(contained: Bench) -> None:
    """The command is in the kind of containment that was asked for."""
    program = "import os; print(os.getpid() < 10, open('/proc/self/cgroup').read())"
    output = contained.run(*contained.python(program)).output
    cgroup = containment.name(contained.home, "42.build")
    assert output.startswith("True" if contained.case.kind == "pidns" else "False")
    assert (f"/{cgroup}\n" in output) == (contained.case.kind == "cgroup")


def test_spec_is_secret(contained: Bench) -> None:
    """The spec holds the environment: only its owner can read it, and it goes with the command."""
    with contained.start("sh", "-c", "echo ready; sleep 3600", latch_on="ready") as worker:
        read_until(worker, b"ready")
    contained.end()
    assert not list((contained.home / "run" / "specs").iterdir())
    with contained.start("sh", "-c", "echo ready; sleep 3600") as worker:
        read_until(worker, b"ready")
        (spec,) = (contained.home / "run" / "specs").iterdir()
        assert stat.S_IMODE(spec.stat().st_mode) == 0o600
        assert stat.S_IMODE(spec.parent.stat().st_mode) == 0o700


def test_no_descriptor_is_left_open(contained: Bench) -> None:
    """A worker has as many descriptors open after a command as before."""
    before = contained.run("true", latch_before=True)
    after = contained.run("true")
    interrupted = contained.run("sh", "-c", "echo ready; sleep 3600", latch_on="ready")
    assert before.descriptors == after.descriptors == interrupted.descriptors


# --- what outlives the main process


LEFT_BEHIND = {
    "background": "sleep 3600 &",
    "own session": "setsid sleep 3600 &",
    "daemon": "(setsid sh -c 'sleep 3600 & sleep 3600' >/dev/null 2>&1 &)",
    "wiped environment": "(env -i setsid sleep 3600 & )",
    "ignores TERM": "(trap '' TERM HUP INT; setsid sleep 3600 &)",
    "stopped": "(setsid sh -c 'kill -STOP $$' &)",
}


@pytest.mark.parametrize("script", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_exits_and_leaves_a_child(contained: Bench, script: str) -> None:
    """What is left when the main process exits is ended, even where it holds the output open; the status stays."""
    outcome = contained.run("sh", "-c", f"echo before; {script}\n echo after; exit 3", timeout=600)
    assert outcome.result == 3
    assert outcome.output == "before\nafter\n"
    assert contained.living() == []


def test_double_fork(contained: Bench) -> None:
    """A Python daemon: forked twice, own session, descriptors closed, environment gone."""
    program = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 100)
        os.execve({contained.case.python!r}, ["python", "-c", "import time; time.sleep(3600)", {contained.tag!r}], {{}})
    os._exit(0)
os.wait()
print("daemon left")
"""
    outcome = contained.run(*contained.python(program))
    assert (outcome.result, outcome.output) == (0, "daemon left\n")
    assert contained.living() == []


HOPPER = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nwhile True:\n    if os.fork(): os._exit(0)\n"


def test_a_process_that_hops_from_pid_to_pid(contained: Bench) -> None:
    """It forks and exits for ever, so that no look at /proc finds it where it was."""
    outcome = contained.run("sh", "-c", '"$@"; echo left', "sh", *contained.python(HOPPER))
    assert (outcome.result, outcome.output) == (0, "left\n")
    assert contained.living() == []


# --- interruption


def test_interrupted(contained: Bench) -> None:
    """A set latch ends the command by SIGTERM, and the whole tree with it."""
    script = "sleep 3600 & setsid sleep 3600 & echo ready; wait"
    outcome = contained.run("sh", "-c", script, latch_on="ready", grace=600)
    assert outcome.result == "Interrupted"
    assert contained.living() == []


def test_latch_set_before(contained: Bench) -> None:
    """With the latch set, nothing is started at all."""
    outcome = contained.run("sh", "-c", f"touch {contained.directory}/ran", latch_before=True)
    assert outcome.result == "Interrupted"
    assert not (contained.directory / "ran").exists()


def test_grace_is_given_to_the_main_process(contained: Bench) -> None:
    """A command that cleans up on SIGTERM gets to finish, and its last words are heard."""
    outcome = contained.run(*contained.python(CLEANS_UP), latch_on="ready", grace=600)
    assert outcome.result == "Interrupted"
    assert outcome.output == "ready\ncleaning\nclean\n"


def test_grace_is_given_to_the_whole_tree(contained: Bench) -> None:
    """A child in its own session gets the SIGTERM once, and time to clean up though the main process is dead."""
    script = 'setsid "$@" & wait'
    outcome = contained.run("sh", "-c", script, "sh", *contained.python(CLEANS_UP), latch_on="ready", grace=600)
    assert outcome.result == "Interrupted"
    assert outcome.output == "ready\ncleaning\nclean\n"


def test_everybody_gets_the_term(contained: Bench) -> None:
    """However many they are: each of 60 gets it once."""
    # Blocked and waited for: a handler of Python's could miss it between its fork and its sleep.
    program = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "forked = any(os.fork() == 0 for _ in range(59))\n"
        "if not forked: os.write(1, b'ready\\n')\n"
        "signal.sigwait({signal.SIGTERM}); os.write(1, b'clean\\n')"
    )
    outcome = contained.run(*contained.python(program), latch_on="ready", grace=600)
    assert outcome.result == "Interrupted"
    assert outcome.output == "ready\n" + 60 * "clean\n"


def test_term_ignored(contained: Bench) -> None:
    """What ignores SIGTERM is killed when the grace is over, and not before."""
    children = "[os.fork() or time.sleep(3600) for _ in range(3)]; "
    outcome = contained.run(*contained.python(IGNORES_TERM + children + FOR_EVER), latch_on="ready", grace=1.0)
    assert outcome.result == "Interrupted"
    assert outcome.seconds >= 1.0
    assert contained.living() == []


def test_force_skips_the_grace(contained: Bench) -> None:
    """`force` may come during the grace period, which then is over."""
    program = (
        "import os, signal, time; signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'no\\n')); "
        "os.write(1, b'ready\\n')\nwhile True: time.sleep(3600)"
    )
    outcome = contained.run(*contained.python(program), latch_on="ready", force_on="no", grace=DEADLINE * 10)
    assert outcome.result == "Interrupted"
    assert outcome.output.startswith("ready\nno\n")


def test_forced_from_the_beginning(contained: Bench) -> None:
    """A latch that is set and forced at once leaves no grace at all."""
    outcome = contained.run(
        *contained.python(IGNORES_TERM + FOR_EVER), latch_on="ready", force_on="ready", grace=DEADLINE * 10
    )
    assert outcome.result == "Interrupted"
    assert contained.living() == []


def test_timeout(contained: Bench) -> None:
    """A command that takes too long is ended like an interrupted one."""
    outcome = contained.run("sh", "-c", "setsid sleep 3600 & echo started; wait", timeout=1.0, grace=600)
    assert (outcome.result, outcome.output) == ("TimeoutError", "started\n")
    assert contained.living() == []


def test_timeout_while_output_flows(contained: Bench) -> None:
    """A command that never stops talking has its timeout all the same; SIGTERM ignored."""
    outcome = contained.run("sh", "-c", "trap '' TERM; while :; do echo more; done", timeout=1.0, grace=0.2)
    assert outcome.result == "TimeoutError"


def test_many_processes(contained: Bench) -> None:
    """A tree of 200, each in a session of its own and deaf to SIGTERM, is dead when the call returns."""
    program = IGNORES_TERM.replace("print('ready', flush=True); ", "") + (
        "\nfor n in range(199):\n    if os.fork() == 0:\n        os.setsid(); time.sleep(3600)\n"
        "print('ready', flush=True); time.sleep(3600)"
    )
    outcome = contained.run(*contained.python(program), latch_on="ready", grace=0.1)
    assert outcome.result == "Interrupted"
    assert contained.living() == []


def test_output_that_cannot_be_kept(contained: Bench) -> None:
    """An error of the output's ends the tree before it is passed on."""
    outcome = contained.run("sh", "-c", "setsid sleep 3600 & echo ready; wait", break_on="ready")
    assert outcome.result == "Broken"
    assert contained.living() == []


# --- a worker that dies


TREE = "setsid sleep 3600 & (env -i setsid sleep 3601 &) ; trap '' TERM; echo ready; wait; sleep 3600"


def test_worker_killed(contained: Bench) -> None:
    """After a SIGKILL of the worker, `end` in another process sees everything dead."""
    with contained.start("sh", "-c", TREE) as worker:
        read_until(worker, b"ready")
        worker.kill()
    contained.end()
    assert contained.living() == []
    assert contained.left_over() == []


def test_worker_killed_while_it_starts_the_command(contained: Bench) -> None:
    """The command is just being launched: `end` leaves nothing that starts later."""
    specs = contained.home / "run" / "specs"
    for _ in range(3):
        with contained.start("sh", "-c", TREE) as worker:
            while not (specs.is_dir() and list(specs.glob("*.json"))):
                assert worker.poll() is None
            worker.kill()
        contained.end()
        assert contained.living() == []
        assert contained.left_over() == []


def test_worker_and_keepers_killed(contained: Bench) -> None:
    """The keepers of the tree die with the worker: by a person who kills whatever they see."""
    with contained.start("sh", "-c", "setsid sleep 3600 & trap '' TERM; echo ready; wait; sleep 3600") as worker:
        read_until(worker, b"ready")
        keepers = [pid for pid in contained.keepers() if pid != worker.pid]
        for pid in [worker.pid, *keepers]:
            os.kill(pid, signal.SIGKILL)
    contained.end()
    assert contained.living() == []


@pytest.mark.parametrize("which", [0, -1], ids=["outer", "inner"])
def test_a_keeper_killed(contained: Bench, which: int) -> None:
    """One keeper dies: the other one ends the tree, and the worker tells it as a killed command."""
    with contained.start("sh", "-c", "(env -i setsid sleep 3600 &); echo ready; wait; sleep 3600") as worker:
        read_until(worker, b"ready")
        keepers = contained.keepers()
        if keepers:  # with a cgroup there is none
            os.kill(keepers[which], signal.SIGKILL)
        else:
            worker.kill()
        worker.wait(DEADLINE)
    if keepers:
        assert json.loads((contained.directory / "result").read_text())["result"] == -9
        assert contained.living() == []


def test_a_keeper_stopped(contained: Bench) -> None:
    """A tree that stops its own keeper wins nothing."""
    with contained.start("sh", "-c", "trap '' TERM; echo ready; sleep 3600", timeout=2.0, grace=0.1) as worker:
        read_until(worker, b"ready")
        for pid in contained.keepers():
            os.kill(pid, signal.SIGSTOP)
        worker.wait(DEADLINE)
    assert json.loads((contained.directory / "result").read_text())["result"] == "TimeoutError"
    assert contained.living() == []


def test_scope_of_a_dead_worker_is_run_again(contained: Bench) -> None:
    """A second worker that runs the same scope ends what is left of the first."""
    with contained.start("sh", "-c", TREE) as worker:
        read_until(worker, b"ready")
        worker.kill()
    assert contained.run("sh", "-c", "echo again").output == "again\n"
    assert contained.living() == []


def test_end_of_nothing(contained: Bench) -> None:
    """A scope that never was can be ended, and more than once."""
    contained.end("43.before_release.1")
    contained.end("43.before_release.1")


def test_end_leaves_other_scopes(contained: Bench) -> None:
    """A scope whose name begins alike lives on."""
    with contained.start("sh", "-c", "echo ready; read line; sleep 3600", scope="4.build.1") as worker:
        read_until(worker, b"ready")
        contained.end("4.build")
        contained.end("4.build.10")
        assert len(contained.living()) >= 1
        worker.kill()
    contained.end("4.build.1")
    assert contained.living() == []


def test_end_without_the_spec(contained: Bench) -> None:
    """The run directory may be empty: the name of the scope is enough."""
    with contained.start("sh", "-c", TREE) as worker:
        read_until(worker, b"ready")
        for spec in (contained.home / "run" / "specs").iterdir():
            spec.unlink()
        worker.kill()
    contained.end()
    assert contained.living() == []


def test_nested_cgroups_go_too(contained: Bench) -> None:
    """A command that makes cgroups inside its own has them removed with it."""
    base = containment.cgroup_base(contained.home)
    if contained.case.kind != "cgroup" or base is None:
        return  # nothing to nest in; the bench checks the rest
    own = base / containment.name(contained.home, "42.build")
    move = f"mkdir -p {own}/a/b {own}/c; setsid sleep 3600 & echo $! >{own}/a/b/cgroup.procs"
    nest = f"{move}; echo $? ready; exec sleep 3600"  # exec: a shell that outlives its child says "Terminated"
    outcome = contained.run("sh", "-c", nest, latch_on="ready")
    assert outcome.output == "0 ready\n"
    assert not Path(own).exists()
    with contained.start("sh", "-c", nest) as worker:
        read_until(worker, b"ready")
        worker.kill()
    contained.end()
    assert not Path(own).exists()
