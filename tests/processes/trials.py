"""The ways in which a command can be contained on this machine, and a bench that runs commands in one of them."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import safepoint
from safepoint.processes import containment, isolation
from safepoint.processes.contained import ContainedCommands
from safepoint.state.paths import Home

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
DEADLINE = 120.0
"""Seconds. For every wait: a slow machine is no failure, a hang is one."""

WORKER = Path(__file__).with_name("contained_worker.py")
_TAG = "TRIAL_TAG"
_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Ours may name directories that nobody may look into, which makes "not found" a "permission denied"."""


@dataclass(frozen=True)
class Case:
    kind: str
    prefix: tuple[str, ...]
    """Before the worker's argv, to make it another user."""
    python: str

    def __str__(self) -> str:
        return f"{self.kind}-{'nobody' if self.prefix else 'self'}"


def cases() -> list[Case]:
    """Each kind that is possible here, as ourselves and, where we are root, as somebody without any privilege."""
    here = Path(tempfile.gettempdir())
    found = [Case(kind, (), sys.executable) for kind in containment.Kind if containment.possible(kind, here)]
    python = python_for_nobody() if os.geteuid() == 0 else None
    if python:
        found += [
            Case(kind, AS_NOBODY, python) for kind in ("pidns", "subreaper") if _possible_for_nobody(python, kind)
        ]
    return found


@cache
def python_for_nobody() -> str | None:
    """Ours may be in root's own directory."""
    check = "import ctypes, sys; sys.exit(sys.version_info < (3, 11))"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        # By a shell: setpriv starts its program before it has given up everything.
        trial = subprocess.run(
            (*AS_NOBODY, "sh", "-c", '"$@"', "sh", candidate, "-c", check), stderr=subprocess.DEVNULL
        )
        if trial.returncode == 0:
            return candidate
    return None


@cache
def worker_for_nobody() -> Path:
    """The worker and the package in a place that everybody may enter: the clone may be in root's own directory."""
    directory = Path(tempfile.mkdtemp(prefix="safepoint-nobody-"))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o755)
    worker = directory / "tests" / "processes" / WORKER.name
    worker.parent.mkdir(parents=True)
    shutil.copy(WORKER, worker)
    package = Path(safepoint.__file__).parent
    shutil.copytree(package, directory / "src" / "safepoint", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(("chmod", "-R", "a+rX", directory), check=True)
    return worker


@cache
def _possible_for_nobody(python: str, kind: str) -> bool:
    launcher = worker_for_nobody().parents[2] / "src" / "safepoint" / "processes" / "launch.py"
    trial = (*AS_NOBODY, python, "-I", "-S", str(launcher), "--try-pidns")
    return kind == "subreaper" or subprocess.run(trial, stderr=subprocess.DEVNULL).returncode == 0


def isolating() -> list[Case]:
    """Those in which this machine lets apps be isolated as well. Root can in each, another user in PID namespaces."""
    root = os.geteuid() == 0
    return [case for case in cases() if (case.kind == "pidns" or (root and not case.prefix)) and _isolates(case)]


def _isolates(case: Case) -> bool:
    user = str(isolation.FIRST_USER) if os.geteuid() == 0 and not case.prefix else ""
    package = worker_for_nobody().parents[2] / "src" / "safepoint" if case.prefix else Path(safepoint.__file__).parent
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        trial = (*case.prefix, case.python, "-I", "-S", str(package / "processes" / "launch.py"), "--try-isolation")
        return subprocess.run((*trial, directory, user), stderr=subprocess.DEVNULL).returncode == 0


@dataclass(frozen=True)
class Outcome:
    result: object
    output: str
    seconds: float
    descriptors: int
    inside: float
    """Seconds that the worker needed without its own start."""


class Bench:
    """A home of its own, and commands that can be found again by a tag, whatever our own code thinks of them."""

    def __init__(self, case: Case, directory: Path) -> None:
        self.case = case
        self.directory = directory
        self.home = directory / "home"
        self.tag = secrets.token_hex(8)
        self.flags: tuple[str, ...] = ("-W", "error", "-X", "dev")
        """The worker's Python has these. They find mistakes, and cost time."""
        (self.home / "run").mkdir(parents=True, mode=0o700)
        if case.prefix:
            for path in (directory, self.home, self.home / "run"):
                os.chown(path, NOBODY, NOBODY)

    def run(self, *argv: str, **options: Any) -> Outcome:
        started = time.monotonic()
        with self.start(*argv, **options) as worker:
            output, _ = worker.communicate(timeout=DEADLINE)
        seconds = time.monotonic() - started
        assert worker.returncode == 0
        told = json.loads(Path(options.get("result", self.directory / "result")).read_text())
        return Outcome(told["result"], output.decode(), seconds, told["descriptors"], told["seconds"])

    def end(self, scope: str = "42.build") -> None:
        assert self.run(scope=scope, end=True).result is None

    @contextmanager
    def start(self, *argv: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that runs the command; killed at the end where it still lives."""
        request = {
            "scope": "42.build", "argv": argv, "directory": "/", "home": str(self.home), "end": False,
            "environment": {"PATH": _PATH, _TAG: self.tag}, "timeout": DEADLINE, "grace": DEADLINE,
            "latch_before": False, "latch_on": "", "force_on": "", "break_on": "",
            "app": "", "directories": (),
            "result": str(self.directory / "result"),
        }  # fmt: skip
        file = self.directory / "request.json"
        file.write_text(json.dumps(request | options))
        program = worker_for_nobody() if self.case.prefix else WORKER
        worker = subprocess.Popen(
            (*self.case.prefix, self.case.python, *self.flags, str(program), str(file)),
            env={"PATH": os.environ["PATH"], containment.FORCED: self.case.kind, "SECRET_OF_THE_WORKER": "1"},
            stdout=subprocess.PIPE,
        )
        try:
            with worker:
                yield worker
                worker.kill()
        finally:
            worker.kill()

    def python(self, program: str) -> tuple[str, ...]:
        """argv of a program; the tag is in it too, for when it wipes its environment."""
        return (self.case.python, "-I", "-S", "-c", program, self.tag)

    def living(self) -> list[int]:
        """Everything with the tag that is not a zombie, found without the code under test."""
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and self._is_ours(path)]

    def keepers(self, scope: str = "42.build") -> list[int]:
        """Our own processes between the worker and the command, the outer one first."""
        spec = str(self.home / "run" / "specs" / f"{scope}.json").encode()
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    if spec in (path / "cmdline").read_bytes().split(b"\0"):
                        found.append(int(path.name))
                except OSError:
                    continue
        return sorted(found)

    def _is_ours(self, process: Path) -> bool:
        try:
            if (process / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return False
            words = (process / "environ").read_bytes().split(b"\0") + (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return f"{_TAG}={self.tag}".encode() in words or self.tag.encode() in words

    def left_over(self) -> list[str]:
        """Files and cgroups of ours that should not be there any more."""
        name = containment.name(self.home, "x").partition("/")[0]
        cgroups = [str(base / name) for base in containment.cgroup_bases() if (base / name).exists()]
        return cgroups + [str(path) for path in (self.home / "run").rglob("*") if not path.is_dir()]


@contextmanager
def bench(case: Case) -> Iterator[Bench]:
    # Not tmp_path: only its owner can enter that.
    directory = Path(tempfile.mkdtemp(prefix="safepoint-trial-"))
    try:
        made = Bench(case, directory)
        yield made
        ContainedCommands(Home(made.home)).end("42.build")
        assert made.living() == []
        assert made.left_over() == []
    finally:
        shutil.rmtree(directory)


def read_until(worker: subprocess.Popen[bytes], text: bytes) -> bytes:
    """The worker's output up to `text`, within the deadline."""
    assert worker.stdout is not None
    poll = select.poll()
    poll.register(worker.stdout, select.POLLIN)
    seen = b""
    while text not in seen:
        assert poll.poll(DEADLINE * 1000), f"nothing more after {seen!r}"
        chunk = os.read(worker.stdout.fileno(), 4096)
        assert chunk, f"the worker ended after {seen!r}"
        seen += chunk
    return seen
