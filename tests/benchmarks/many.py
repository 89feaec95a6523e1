"""Many apps pushed at the same time, and many pushes to one app: does each end as it should, and what does it take?

    python tests/benchmarks/many.py --apps 100 --pushes 100 [--json]

Everything goes over the embedded ssh server of a home of its own, on 127.0.0.1. Exits with 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import machine
from benchmarks.rows import Row
from benchmarks.running import Result, Run
from deploying import Door, Site, own_environment, processes, site
from holding import Gate
from ssh.servers import git

from safepoint.git import repositories
from safepoint.state.store import Store

SETTINGS = '[watch]\nfor = "0s"\n[stop]\ngrace = "5s"\n'
HELD = '[[before_release]]\ncommand = "test -p {gate} && cat {gate} || true"\n'

APP = """
import os, socket
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    client, _ = server.accept()
    with client:
        client.recv(65536)
        client.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
"""
"""As small as it gets: what is measured is Safepoint."""


@dataclass
class Part:
    """What one part of the run has shown. Seconds, bytes."""

    pushes: int
    alone: float
    """One push that has the machine to itself."""
    all: float
    """From the start of the first push to the end of the last."""
    ratio: float
    """`all` to as many pushes one after the other: below 1, doing them at once was quicker."""
    statuses: dict[str, int]
    states: dict[str, int]
    memory: int
    """The peak of the sum of all processes' proportional set sizes."""
    processes: int
    """At that peak."""
    descriptors: int
    """The most that `serve` had open."""
    threads: int
    lists: int
    slowest_list: float
    problems: list[str] = field(default_factory=list)


class Watcher:
    """Samples the home's processes, and asks `operation:list` over and over, until it is closed.

    That costs time. So it does nothing where it is not `watched`.
    """

    def __init__(self, door: Door, *, watched: bool = True) -> None:
        self.door = door
        self.memory = self.processes = self.descriptors = self.threads = 0
        self.lists: list[float] = []
        self.problems: list[str] = []
        self._stop = threading.Event()
        targets = (self._sample, self._ask) if watched else ()
        self._all = [threading.Thread(target=target) for target in targets]
        for thread in self._all:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._all:
            thread.join()

    def _sample(self) -> None:
        assert self.door.site.process is not None
        serve = Path(f"/proc/{self.door.site.process.pid}")
        while not self._stop.wait(1.0):
            found = processes(self.door.site.home)
            memory = sum(map(pss, found))
            if memory > self.memory:
                self.memory, self.processes = memory, len(found)
            with suppress(OSError):
                self.descriptors = max(self.descriptors, sum(1 for _ in (serve / "fd").iterdir()))
                self.threads = max(self.threads, sum(1 for _ in (serve / "task").iterdir()))

    def _ask(self) -> None:
        while not self._stop.wait(1.0):
            began = time.monotonic()
            done = subprocess.run(
                self.door.command("operation:list", "--limit", "200"),
                env=own_environment(),
                capture_output=True,
                timeout=300,
                check=False,
            )
            self.lists.append(time.monotonic() - began)
            if done.returncode != 0:
                self.problems.append(f"operation:list: {done.stderr.decode().strip()}")


def pss(pid: int) -> int:
    """Bytes (proc(5), smaps_rollup); 0 where it has ended."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


@dataclass
class Bench:
    site: Site
    door: Door
    directory: Path
    deadline: float
    pushes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def app(self, name: str) -> str:
        with Store.open(self.site.home) as store:
            store.create_app(name, "main")
        repositories.create(self.site.home, name, "main")
        return name

    def tree(self, name: str, settings: str) -> Path:
        tree = self.directory / name
        git("init", "-q", "-b", "main", tree)
        for file, text in {
            "app.py": APP,
            "Procfile": f"web: exec {shlex.quote(sys.executable)} -S -E app.py\n",
            "safepoint.toml": settings,
        }.items():
            (tree / file).write_text(text)
        self.commit(tree, "one")
        return tree

    def commit(self, tree: Path, message: str) -> None:
        git("-C", tree, "add", "-A")
        git("-C", tree, "commit", "-q", "--allow-empty", "-m", message)

    def start(self, tree: Path, app: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            push = subprocess.Popen(
                ["git", "-C", str(tree), "push", self.door.url(app), "main"],
                env=self.door.git_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pushes.append(push)
        return push

    def close(self) -> None:
        for push in self.pushes:
            if push.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(push.pid, signal.SIGKILL)
                push.wait()

    def defects(self) -> list[str]:
        """What the server's log has of errors."""
        entries = map(json.loads, self.site.home.log.read_text().splitlines())
        return [f"{each['event']}: {each.get('exception', '')[-300:]}" for each in entries if each["level"] == "error"]

    def wait(self, pushes: list[subprocess.Popen[bytes]]) -> Counter[str]:
        """Their exit statuses. Whatever is left at the deadline is killed."""
        statuses: Counter[str] = Counter()
        for push in pushes:
            try:
                statuses[str(push.wait(max(0.1, self.deadline - time.monotonic())))] += 1
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(push.pid, signal.SIGKILL)
                push.wait()
                statuses["late"] += 1
        return statuses

    def alone(self, tree: Path, app: str) -> float:
        began = time.monotonic()
        statuses = self.wait([self.start(tree, app, self.directory / "alone.log")])
        assert statuses == {"0": 1}, (self.directory / "alone.log").read_text()
        return time.monotonic() - began


def measure(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    """Row 15, for `python tests/benchmarks`."""
    number, cores = run.size(100), machine.cores()
    ours, theirs, notes = [], [], []
    for place in range(1, run.rounds(2) + 1):
        with bench(900.0, run.place(f"many{place}")) as found:
            run.say(f"{number} pushes at once")
            part = many_apps(found, number, alone_times=5, watched=False)
        assert not part.problems, part.problems[:3]
        ours.append(part.all)
        theirs.append(part.alone * number / cores)
        notes.append(f"one push alone {part.alone:.2f} s (median of 5); {cores} cores; none of {number} was lost")
    for row in rows:
        yield Result(row, ours, theirs, tuple(notes))


def many_apps(bench: Bench, number: int, *, alone_times: int = 1, watched: bool = True) -> Part:
    tree = bench.tree("apps", SETTINGS)
    alone = statistics.median(bench.alone(tree, bench.app(f"alone{index}")) for index in range(alone_times))
    apps = [bench.app(f"app{index}") for index in range(number)]
    logs = [bench.directory / f"{app}.log" for app in apps]
    watcher = Watcher(bench.door, watched=watched)
    try:
        began = time.monotonic()
        statuses = bench.wait([bench.start(tree, app, log) for app, log in zip(apps, logs, strict=True)])
        took = time.monotonic() - began
    finally:
        watcher.close()
    states: Counter[str] = Counter()
    problems = [*watcher.problems, *bench.defects()]
    with Store.open(bench.site.home) as store:
        for app, log in zip(apps, logs, strict=True):
            found = [operation.state.value for operation in store.operations(app, 10)]
            states.update(found)
            if found != ["succeeded"]:
                problems.append(f"{app}: {found}: {log.read_text()[-400:]}")
            elif bench.site.get(app) != (200, "ok"):
                problems.append(f"{app} does not answer: {bench.site.get(app)}")
    return part(number, alone=alone, took=took, statuses=statuses, states=states, watcher=watcher, problems=problems)


def many_pushes(bench: Bench, number: int) -> Part:
    """The first is held until all are there: the first and the newest succeed, all others are superseded."""
    gate_path = bench.directory / "gate"
    tree = bench.tree("pushes", SETTINGS + HELD.format(gate=shlex.quote(str(gate_path))))
    app = bench.app("one")
    alone = bench.alone(tree, app)
    bench.commit(tree, "two")
    logs = [bench.directory / f"push{index}.log" for index in range(number)]
    watcher = Watcher(bench.door)
    try:
        with Gate(gate_path):
            began = time.monotonic()
            pushes = [bench.start(tree, app, log) for log in logs]
            with Store.open(bench.site.home) as store:
                while len(store.operations(app, number + 10)) < number + 1 and time.monotonic() < bench.deadline:
                    if all(push.poll() is not None for push in pushes[1:]):
                        break
                    time.sleep(0.25)
        statuses = bench.wait(pushes)
        took = time.monotonic() - began
    finally:
        watcher.close()
    problems = [*watcher.problems, *bench.defects()]
    with Store.open(bench.site.home) as store:
        found = sorted(store.operations(app, number + 10), key=lambda operation: operation.id)[1:]
        states = Counter(operation.state.value for operation in found)
        spans = sorted((op.steps[0].started, op.ended or 0.0, op.id) for op in found if op.steps[0].started is not None)
        if any(earlier[1] > later[0] for earlier, later in pairwise(spans)):
            problems.append("two ran at the same time")
        if [span[2] for span in spans] != sorted(span[2] for span in spans):
            problems.append("not in the order of the IDs")
    if len(found) != number:
        problems.append(f"{number - len(found)} of {number} pushes have no operation")
    for log in logs:
        text = log.read_text()
        if "now runs" not in text and "superseded by operation" not in text:
            problems.append(f"{log.name}: {text[-400:]}")
    if number > 1 and states != {"succeeded": 2, "superseded": number - 2}:
        problems.append(f"endings: {dict(states)}")
    return part(number, alone=alone, took=took, statuses=statuses, states=states, watcher=watcher, problems=problems)


def part(
    number: int,
    *,
    alone: float,
    took: float,
    statuses: Counter[str],
    states: Counter[str],
    watcher: Watcher,
    problems: list[str],
) -> Part:
    return Part(
        pushes=number,
        alone=round(alone, 2),
        all=round(took, 2),
        ratio=round(took / (alone * number), 3),
        statuses=dict(statuses),
        states=dict(states),
        memory=watcher.memory,
        processes=watcher.processes,
        descriptors=watcher.descriptors,
        threads=watcher.threads,
        lists=len(watcher.lists),
        slowest_list=round(max(watcher.lists, default=0.0), 2),
        problems=problems,
    )


def show(name: str, found: Part) -> None:
    print(f"{name}")
    for label, value in (
        ("pushes", found.pushes),
        ("one push alone", f"{found.alone} s"),
        ("all", f"{found.all} s ({found.all / found.pushes:.2f} s each; {found.ratio} of one after the other)"),
        ("exit statuses", found.statuses),
        ("endings", found.states),
        ("peak memory (PSS)", f"{found.memory / 2**20:.0f} MiB in {found.processes} processes"),
        ("serve", f"at most {found.descriptors} descriptors, {found.threads} threads"),
        ("operation:list", f"{found.lists} times, at most {found.slowest_list} s"),
        ("problems", len(found.problems)),
    ):
        print(f"  {label:<20} {value}")
    for problem in found.problems[:20]:
        print(f"  ! {problem}")


@contextmanager
def bench(seconds: float, place: Path | None = None) -> Iterator[Bench]:
    with ExitStack() as stack:
        directory = place or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safepoint-many-")))
        running = stack.enter_context(site(directory))
        door = Door("embedded", running, directory / "alice")
        found = Bench(running, door, directory, time.monotonic() + seconds)
        stack.callback(found.close)
        yield found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", type=int, default=20, metavar="N", help="apps that are pushed at the same time")
    parser.add_argument("--pushes", type=int, default=20, metavar="N", help="pushes to one app at the same time")
    parser.add_argument("--seconds", type=float, default=900.0, help="after which what is left is killed")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # nothing may be left running
    parts: dict[str, Part] = {}
    with bench(words.seconds) as found:
        if words.apps:
            parts["apps"] = many_apps(found, words.apps)
        if words.pushes:
            parts["one app"] = many_pushes(found, words.pushes)
    if words.json:
        print(json.dumps({name: asdict(value) for name, value in parts.items()}, indent=2))
    else:
        for name, value in parts.items():
            show(name, value)
    return 1 if any(value.problems for value in parts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
