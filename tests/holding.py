"""Holds a deploy in one of its steps for as long as a test wants, so that nothing is a matter of timing."""

from __future__ import annotations

import errno
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from deploying import APP, App, Site, Terminal, outside, processes, wait_until

from safepoint.core.operation import Operation
from safepoint.state.store import Store

STEPS = ("quarantine", "receive", "export", "build", "before_release", "start", "health", "watch")
"""Where a deploy can be held. `quarantine` is the step `receive` while the objects are not in the repository yet."""

FROM_OUTSIDE = ("quarantine", "receive", "start", "watch")
"""Held by stopping what the step waits for; only after `let_go` can it do anything, such as being interrupted."""

_APP = """
import threading
def gate(name):
    return pathlib.Path(pathlib.Path("gates").read_text(), pathlib.Path("version").read_text() + "." + name)
def stop(*_):
    if gate("stop").exists():
        gate("stop").read_bytes()
    sys.exit(0)
held = threading.Thread(target=lambda: gate("health").read_bytes(), daemon=True)
def status():
    if not gate("health").exists():
        return 200
    if held.ident is None:
        held.start()
    return 500
"""
_APP = (
    APP.replace("self.send_response(200)", "self.send_response(status())")
    .replace("lambda *_: sys.exit(0)", "stop")
    .replace("\nclass ", f"{_APP}class ")
)
_HOLD = """
gate="$(cat gates)/$(cat version).$1"
if [ -p "$gate" ]; then
    echo "held in $1"
    cat "$gate" || true
fi
"""
SETTINGS = """
[build]
command = "sh hold build"
[[before_release]]
command = "sh hold before_release"
undo = "sh hold undo"
[health]
expect = "2xx"
interval = "50ms"
[watch]
for = "2s"
[stop]
grace = "5s"
"""


class Gate:
    """A named pipe. Who reads it waits until it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: int | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)

    def wait_held(self, push: Terminal | None = None) -> None:
        """Until somebody waits here. Fails where the push ends before that."""
        wait_until(lambda: self._held(push), f"somebody waits at {self._path.name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()

    def open(self) -> None:
        """Let everybody pass, for good. Idempotent."""
        try:
            # A writer's coming releases who is still in open(2), and its going is the end of what all others read.
            writer = os.open(self._path, os.O_RDWR) if self._writer is None else self._writer
        except FileNotFoundError:
            return
        self._path.unlink(missing_ok=True)
        os.close(writer)
        self._writer = None

    def _held(self, push: Terminal | None) -> bool:
        try:
            self._writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads
                raise
            assert push is None or push.process.poll() is None, push.finish()
            return False
        return True


class Hold:
    """One deploy, of the commit that an app calls `version`, in one of the STEPS."""

    def __init__(self, app: App, step: str, version: str) -> None:
        self._app = app
        self._step = step
        self._version = version
        self._gates: list[Gate] = []
        self._stopped: list[int] = []
        self._hooks: dict[Path, Path] = {}
        match step:
            case "quarantine":
                # Git goes on when nobody can write to the hook's stderr any more; the real hook has to be git's child.
                self._replace_hook("pre-receive", "cat {gate} & exec sh {hook}")
            case "receive":
                self._replace_hook("proc-receive", "cat {gate}; exec sh {hook}")
            case "export":
                # Git reads this file when it writes the first file of a checkout, and only then.
                self._gate(app.site.home.repository(app.name) / "info" / "attributes")
            case "start":
                self._gate(self._place("before_release"))
            case "switch" | "watch":
                self._gate(self._place("health"))
            case _:
                self._gate(self._place(step))

    def reached(self, push: Terminal) -> None:
        """Wait until the deploy stands in the step."""
        match self._step:
            case "start":
                self._gates[0].wait_held(push)
                self._stop("supervisord")
                self._gates[0].open()
                push.read_until("Starting v")
            case "switch":
                self._reach_switch(push)
            case "watch":
                # It asks supervisord for the processes' states first of all.
                self._reach_switch(push)
                self._stop("supervisord")
                self._continue("haproxy")
                push.read_until("Watching v")
            case _:
                self._gates[0].wait_held(push)
        number = push.operation()
        wait_until(lambda: step_of(self._app.site, number) is not None, f"operation {number} has begun")

    def let_go(self) -> None:
        """Let it go on. Idempotent."""
        for path, was in self._hooks.items():  # which needs no space on a disk that is full
            if was.exists():
                was.rename(path)
        for gate in self._gates:
            gate.open()
        self._continue()

    def _reach_switch(self, push: Terminal) -> None:
        """A worker waits for 5 seconds for the router."""
        push.read_until("Checking the health of")
        self._stop("haproxy")
        self._gates[0].open()
        push.read_until("Switching ")

    def _place(self, name: str) -> Path:
        return gates(self._app) / f"{self._version}.{name}"

    def _gate(self, path: Path) -> None:
        self._gates.append(Gate(path))

    def _replace_hook(self, name: str, text: str) -> None:
        hooks = self._app.site.home.hooks
        hook, real, gate = hooks / name, gates(self._app) / f"{self._version}.{name}", self._place("gate")
        self._gate(gate)
        self._hooks[hook] = hook.with_name(f".{name}.was")
        _write_hook(self._hooks[hook], hook.read_text())
        _write_hook(real, hook.read_text())
        names = {"hook": shlex.quote(str(real)), "gate": shlex.quote(str(gate))}
        _write_hook(hook, f"#!/bin/sh\n{text.format(**names)}\n")

    def _stop(self, program: str) -> None:
        pid = daemon(self._app.site, program)
        os.kill(pid, signal.SIGSTOP)
        self._stopped.append(pid)

    def _continue(self, program: str = "") -> None:
        for pid in [pid for pid in self._stopped if not program or pid == daemon(self._app.site, program)]:
            with suppress(ProcessLookupError):  # a test may have killed it
                os.kill(pid, signal.SIGCONT)
            self._stopped.remove(pid)


@contextmanager
def holding(app: App, step: str, version: str) -> Iterator[Hold]:
    """To be entered before the push. Whatever happens, nothing is held any more at the end."""
    hold = Hold(app, step, version)
    try:
        yield hold
    finally:
        hold.let_go()


def known(site: Site, number: int) -> Operation:
    """What the journal says, without a command that says it."""
    with Store.open(site.home) as store:
        return store.operation(number)


def step_of(site: Site, number: int) -> str | None:
    """The name of the step that is under way."""
    running = known(site, number).running
    return running.name if running else None


def gates(app: App) -> Path:
    return outside(app.name)


def make_holdable(app: App, settings: str = SETTINGS) -> App:
    """Have the app come by the gates of its version in each step that runs its own code, and when it is stopped."""
    app.write({"app.py": _APP, "hold": _HOLD, "gates": str(gates(app)), "safepoint.toml": settings})
    return app


def daemon(site: Site, program: str) -> int:
    """The pid of the site's supervisord or haproxy."""
    configuration = {"supervisord": "supervisord.conf", "haproxy": "haproxy.cfg"}[program]
    return next(pid for pid, command in processes(site.home).items() if configuration in command)


def _write_hook(path: Path, text: str) -> None:
    """As a whole: git may be about to run it."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o755)
    new.rename(path)
