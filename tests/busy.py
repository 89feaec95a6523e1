"""Two pushes of one app: one that runs and stands still, and one that waits for its turn behind it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from conftest import door_of
from deploying import App, Door, Site, Terminal, wait_until
from dying import await_death
from holding import SETTINGS as _SETTINGS
from holding import Gate, gates, known, make_holdable

from safepoint.core import events as e
from safepoint.core.slots import slot_of
from safepoint.processes import identity
from safepoint.state import pidfile
from safepoint.state.store import Store

SETTINGS = _SETTINGS.replace('for = "2s"', 'for = "0s"')


@dataclass
class Busy:
    """`two` runs, `three` waits; v1 says `one`."""

    app: App
    door: Door
    two: Terminal
    three: Terminal
    gates: tuple[Gate, ...]
    commit: str
    """Three's."""

    @property
    def site(self) -> Site:
        return self.app.site

    @property
    def running(self) -> int:
        return self.two.operation()

    @property
    def waiting(self) -> int:
        return self.three.operation()

    def open(self) -> None:
        """Let the running one go on."""
        for gate in self.gates:
            gate.open()

    def leave(self) -> None:
        """Have both pushers gone, so that nobody but `serve` looks after anything."""
        for terminal in (self.two, self.three):
            terminal.interrupt()
            terminal.finish()
            assert terminal.process.returncode != 0

    def leave_quietly(self) -> None:
        """The same, where a push may have ended by itself."""
        for terminal in (self.two, self.three):
            if terminal.process.poll() is None:
                terminal.interrupt()
            terminal.finish()

    def end(self, running: str, waiting: str) -> None:
        """Let go, and wait for both endings without a command that could help. One after the other, and each once."""
        self.open()
        for number, state in ((self.running, running), (self.waiting, waiting)):
            wait_until(lambda n=number: known(self.site, n).ending is not None, f"operation {number} ends")  # type: ignore[misc]
            assert known(self.site, number).state == state, known(self.site, number)
        two, three = known(self.site, self.running), known(self.site, self.waiting)
        began = [step.started for step in three.steps if step.started is not None]
        assert bool(began) == (waiting in ("succeeded", "failed"))
        assert two.ended is not None
        assert all(two.ended <= at for at in began)
        assert begun(self.site, self.waiting) == bool(began)
        wait_until(lambda: not self.site.home.control_socket(f"{self.app.name}.next").exists(), "its socket is gone")


@contextmanager
def busy(app: App, door: Door, policy: str = "queue", environment: Mapping[str, str] | None = None) -> Iterator[Busy]:
    """The running one stands in before_release; with `supersede` it has been cancelled, and stands in the undo of that.

    `environment` is of the push that waits.
    """
    make_holdable(app, SETTINGS)
    app.commit("one")
    app.push(door_of(app.site, "local"))
    app.commit("two")
    with ExitStack() as stack:
        names = ("two.before_release", "two.undo") if policy == "supersede" else ("two.before_release",)
        held = tuple(stack.enter_context(Gate(gates(app) / name)) for name in names)
        two = stack.enter_context(app.pushing(door))
        held[0].wait_held(two)
        commit = app.commit("three")
        option = () if policy == "queue" else ("-o", f"on-busy={policy}")
        three = stack.enter_context(app.pushing(door, *option, "main", environment=environment))
        if environment is None:
            three.read_until("CTRL + C")
            if policy == "supersede":
                held[1].wait_held(two)
        yield Busy(app, door, two, three, held, commit)


def begun(site: Site, number: int) -> int:
    """How often its turn has come."""
    with Store.open(site.home) as store:
        return sum(isinstance(event, e.Begun) for event in store.events(number))


def worker_of(site: Site, number: int) -> int | None:
    """Its pid, once it has signed for the operation."""
    signed = pidfile.read(site.home.pidfile(slot_of(known(site, number))))
    return signed[0].pid if signed and signed[1] == number and identity.alive(signed[0]) else None


def kill_worker(site: Site, number: int) -> int:
    """SIGKILL; the pid that it had."""
    wait_until(lambda: worker_of(site, number) is not None, f"operation {number} has a worker")
    pid = worker_of(site, number)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await_death(pid)
    return pid
