"""A power cut at every write: what somebody was told of is on the disk, and what is there can be gone on with."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import door_of, new_name
from deploying import SAFEPOINT, App, own_environment, processes, site, wait_until
from holding import holding, make_holdable
from power import Disk, Left, Recording, recorder, write
from ssh.servers import DEADLINE

from safepoint.core import events as e
from safepoint.core.decisions import decide
from safepoint.core.operation import Operation, StepState, apply
from safepoint.core.plan import PUBLISH, Kind
from safepoint.processes import isolation
from safepoint.state.paths import Home
from safepoint.state.store import Store

SEEDS = range(2)


@dataclass
class Told:
    """What people know, who have to be right after the power is back."""

    opened: set[int] = field(default_factory=set)
    detached: set[int] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    current: int = 0

    def hear(self, where: str, text: str) -> None:
        here = re.search(r"/operations/(\d+)\.log$", where)
        for found in re.finditer(r"\(operation (\d+): ", text):
            self.opened.add(int(found[1]))
        if "will NOT interrupt" in text or self._banner:
            self._banner = True
            for found in re.finditer(r"operation:cancel (\d+)", text):
                self.detached.add(int(found[1]))
                self._banner = False
        for found in re.finditer(r"Cancelling operation (\d+) ", text):
            self.cancelled.add(int(found[1]))
        if here and "Cancel requested" in text:
            self.cancelled.add(int(here[1]))
        for found in re.finditer(r"v(\d+) is current; from here on", text):
            self.current = int(found[1])
        for found in re.finditer(r"operation (\d+) (?:succeeded|cancelled by|failed)", text):
            self.ended.add(int(found[1]))

    _banner: bool = False


@dataclass(frozen=True)
class Facts:
    """What the database that a cut has left says."""

    operations: Mapping[int, Operation]
    current: Mapping[str, tuple[int, str]]


class Auditor:
    """Checks what cuts leave, each different one once."""

    def __init__(self, app: str, branch_of: Path) -> None:
        self._app = app
        self._scratch = branch_of
        self._facts: dict[object, Facts] = {}
        self._branches: dict[object, str] = {}
        self._complete: dict[object, bool] = {}
        self._looked_at: set[object] = set()
        self.looks = 0

    def check(self, left: Mapping[str, Left], told: Told) -> None:
        self.looks += 1
        facts = self._read(left)
        assert told.opened <= facts.operations.keys()
        for number in told.cancelled:
            assert facts.operations[number].cancel is not None, number
        for number in told.ended:
            assert facts.operations[number].ending is not None, number
            output = left[f"operations/{number}.log"]
            assert b"safepoint | " in output.bytes(), f"the output of {number} is gone"
            self._check_removed(left, facts, facts.operations[number])
        for number in [each for each in told.detached if facts.operations[each].plan.receiver is not None]:
            assert facts.operations[number].received, number
            assert self._has(left, facts.operations[number].plan.commit), f"the commit of {number} is gone"
        number, commit = facts.current.get(self._app, (0, ""))
        assert number == told.current or any(
            op.plan.release == number and op.committed is not None for op in facts.operations.values()
        )
        if number:
            self._check_release(left, facts, number, commit)
        self._check_the_rest(left)

    def _check_removed(self, left: Mapping[str, Left], facts: Facts, op: Operation) -> None:
        """Of what has failed or was cancelled nothing comes back."""
        again = any(each.plan.release == op.plan.release for each in facts.operations.values() if each.id > op.id)
        if op.ending in (e.Ending.FAILED, e.Ending.CANCELLED) and op.plan.kind is Kind.DEPLOY and not again:
            assert f"apps/{self._app}/releases/v{op.plan.release}/" not in left, f"v{op.plan.release} is back"

    def _check_the_rest(self, left: Mapping[str, Left]) -> None:
        """What is renamed into its place is there in full; nothing of the run directory need be."""
        whole = ("host_key", "hooks/pre-receive", "hooks/proc-receive", f"repositories/{self._app}.git/config")
        for name in (*whole, "run/routes.map"):
            if name in left and (name, left[name].key) not in self._looked_at:
                self._looked_at.add((name, left[name].key))
                text = left[name].bytes().decode()
                if name in whole:
                    assert text.endswith("\n"), f"{name} is torn"
                else:
                    assert re.fullmatch(rf"({self._app} [0-9]+\n)*", text), text

    def _check_release(self, left: Mapping[str, Left], facts: Facts, number: int, commit: str) -> None:
        """It is there in full, and the branch is at it, or the operation that is to move it has not done so."""
        assert self._has(left, commit), f"the commit of v{number} is gone"
        folder = f"apps/{self._app}/releases/v{number}/"
        for name in ("version", "app.py", "Procfile", "built", "migrated"):
            assert f"{folder}{name}" in left, f"{name} of v{number} is gone"
            assert left[f"{folder}{name}"].bytes(), f"{name} of v{number} is empty"
        moving = any(
            op.committed is not None and op.step(PUBLISH).state is not StepState.DONE
            for op in facts.operations.values()
        )
        branch = self._branch(left)
        assert branch == commit or moving, f"v{number} is current, the branch is at {branch!r}"

    def different(self) -> int:
        return len(self._facts) + len(self._branches) + len(self._complete)

    def _read(self, left: Mapping[str, Left]) -> Facts:
        names = ("safepoint.db", "safepoint.db-wal", "safepoint.db-journal")
        key = tuple(left[name].key if name in left else None for name in names)
        if key not in self._facts:
            with self._place() as place:
                for name in names:
                    if name in left:
                        left[name].write(place / name)
                self._facts[key] = _facts(Home(place), self._app)
        return self._facts[key]

    def _repository(self, left: Mapping[str, Left]) -> tuple[str, object]:
        below = f"repositories/{self._app}.git/"
        key = tuple((path, left[path].key) for path in sorted(left) if path.startswith(below) and "tmp_" not in path)
        return below, key

    def _branch(self, left: Mapping[str, Left]) -> str:
        below, key = self._repository(left)
        if key not in self._branches:
            with self._repository_at(left, below) as path:
                self._branches[key] = _git(path, "rev-parse", "--verify", "--quiet", "refs/heads/main").stdout.strip()
        return self._branches[key]

    def _has(self, left: Mapping[str, Left], commit: str) -> bool:
        """With its tree and its whole history."""
        below = f"repositories/{self._app}.git/"
        key = (
            commit,
            *((path, left[path].key) for path in sorted(left) if path.startswith(f"{below}objects/")),
        )
        if key not in self._complete:
            with self._repository_at(left, below) as path:
                self._complete[key] = _git(path, "rev-list", "--objects", "--quiet", commit, "--").returncode == 0
        return self._complete[key]

    @contextmanager
    def _repository_at(self, left: Mapping[str, Left], below: str) -> Iterator[Path]:
        with self._place() as place:
            write(dict(left), below, place / "r")
            yield place / "r"

    @contextmanager
    def _place(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._scratch) as place:
            yield Path(place)


def _facts(home: Home, app: str) -> Facts:
    with Store.open(home) as store:
        operations = {op.id: op for op in store.operations(app, limit=1000)}
        for op in operations.values():
            _goes_on(op)
        release = store.current_release(app)
        return Facts(operations, {} if release is None else {app: (release.number, release.commit)})


def _goes_on(op: Operation) -> None:
    """Recovery knows what to do next."""
    if op.ending is None:
        assert decide(apply(op, e.WorkerDied(at=0.0))) is not None


def _git(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "--git-dir", str(path), *words], capture_output=True, text=True, timeout=DEADLINE)


SETTINGS = """
[build]
command = "sh hold build; date > built"
[[before_release]]
command = "date > migrated"
undo = "true"
[health]
expect = "2xx"
interval = "50ms"
[watch]
for = "0s"
[stop]
grace = "5s"
"""


def story(app: App) -> None:
    """A deploy, one that waits for its turn, one that is cancelled, one that fails, a rollback."""
    door = door_of(app.site, "embedded")
    app.commit("one")
    app.push(door)
    app.commit("two")
    with holding(app, "build", "two") as hold, app.pushing(door) as first:
        hold.reached(first)
        app.commit("three")
        with app.pushing(door) as second:
            second.read_until("operation:cancel")
            second.interrupt()
            second.finish()
        hold.let_go()
        number = first.operation() + 1
        first.finish()
    assert app.site.wait_ended(number)["state"] == "succeeded"
    app.commit("four")
    with holding(app, "health", "four") as hold, app.pushing(door) as push:
        hold.reached(push)
        door.run("operation:cancel", str(push.operation()))
        push.finish()
    app.commit("five", {"safepoint.toml": SETTINGS.replace("date > migrated", "exit 3")})
    app.push(door, status=1)
    door.run("releases:rollback", app.name)


MOMENTS: dict[str, Callable[[Told], bool]] = {
    "one runs, one waits": lambda told: 3 in told.detached,
    "committed, and not published": lambda told: told.current == 2,
    "cancelled, and not undone": lambda told: bool(told.cancelled),
}
"""What has just been told when the power goes, and the server is then started again."""


def test_a_power_cut_at_every_write(tmp_path: Path, shm: Path) -> None:
    """Whatever a crash can leave of the disk then: all, only what was synced, or any mixture, with torn writes."""
    log = tmp_path / "calls"
    with site(tmp_path) as running:
        app = make_holdable(App.create(running, new_name(), tmp_path / "tree"), SETTINGS)
        running.stop()
        # strace gives files the names that they have in its own mounts, and those of isolated code are others.
        (running.home.root / isolation.SWITCH).touch()
        disk = Disk(running.home.root)
        running.under = tuple(recorder(log))
        running.start()
        story(app)
        running.end()
        wait_until(lambda: processes(running.home) == {}, "the recorder has ended too")
        running.under = ()
        auditor, told, chance, moments = Auditor(app.name, shm), Told(), random.Random(1), dict(MOMENTS)
        for cut, said in enumerate(Recording(disk).play(log)):
            if said is not None:
                told.hear(said.where, said.text)
            for how in ("all", "synced", *("some" for _ in SEEDS)):
                left = disk.cut(how, chance)
                try:
                    auditor.check(left, told)
                except AssertionError as wrong:
                    raise AssertionError(f"cut {cut}, {how}: {wrong}; told {told}") from wrong
                for name in [name for name, now in moments.items() if now(told) and how == "synced"]:
                    del moments[name]
                    write(left, "", shm / name)
        assert not moments
        assert told.ended >= {1, 2, 4, 5, 6}
        print(f"{cut} cuts, {auditor.looks} looks, {auditor.different()} different states")
        for name in MOMENTS:
            _go_on(app, shm / name)


def _go_on(app: App, left: Path) -> None:
    """The power is back: what was under way is ended, and what runs, the branch and the journal agree."""
    running = app.site
    shutil.rmtree(running.home.root)
    shutil.copytree(left, running.home.root, symlinks=True)
    subprocess.run(("chmod", "-R", "go=", running.home.root), check=True)  # the modes are not in the recording
    running.start()
    wait_until(lambda: all(each["ended"] for each in running.operations(app.name)), "all of it has ended")
    with Store.open(running.home) as store:
        release = store.current_release(app.name)
    assert release is not None
    assert running.branch(app.name) == release.commit
    assert running.get(app.name) == (200, (running.home.release(app.name, release.number) / "version").read_text())
    app.commit(left.name, {"safepoint.toml": SETTINGS})
    app.push(door_of(running, "embedded"), "+main")
    assert running.get(app.name) == (200, left.name)
    running.stop()


@pytest.fixture
def shm() -> Iterator[Path]:
    """In memory: thousands of states are looked at."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        yield Path(place)


def test_a_new_home(tmp_path: Path, shm: Path) -> None:
    """Once an app was said to be made, its row, its repository and the hooks are on the disk."""
    root, log = tmp_path / "home", tmp_path / "calls"
    root.mkdir()
    disk = Disk(root)
    words = [*recorder(log), *SAFEPOINT, "--home", str(root), "apps:create", "web"]
    subprocess.run(words, env=own_environment(), check=True, timeout=DEADLINE)
    said = False
    for each in Recording(disk).play(log):
        said = said or (each is not None and "Created web" in each.text)
        if said:
            break
    for how in ("all", "synced", "some"):
        left = disk.cut(how, random.Random(2))
        place = shm / how
        write(left, "", place)
        with Store.open(Home(place)) as store:
            assert store.app("web") is not None
        repository = Home(place).repository("web")
        assert _git(repository, "config", "core.hooksPath").stdout.strip() == str(Home(root).hooks)
        assert _git(repository, "symbolic-ref", "HEAD").stdout == "refs/heads/main\n"
        assert _git(repository, "fsck").returncode == 0
        assert all((place / "hooks" / name).stat().st_size for name in ("pre-receive", "proc-receive"))
