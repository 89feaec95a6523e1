"""Rows 5 to 7: what a cancel costs, and how quickly a build's tree of 200 processes is dead."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.bed import FILES, WAITING_BUILD, Bed, bed, commit, living, timed
from benchmarks.many import SETTINGS
from benchmarks.push import in_ms
from benchmarks.rows import Row
from benchmarks.running import CannotRun, Result, Run
from benchmarks.side_by_side import Contender, interleaved, spread
from deploying import App
from processes.trials import DEADLINE, Case, bench, cases, read_until

from safepoint.core import events as e
from safepoint.processes import containment
from safepoint.state.store import Store

TREE = Path(__file__).with_name("tree.py")
KILL = "cgroup.kill"


def measure_command(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    """`operation:cancel --no-wait` and a plain kill, each a whole process."""
    place = run.place("cancel")
    with bed(place) as served:
        app = served.app("waits", FILES | {"safepoint.toml": WAITING_BUILD})
        version = served.bring(app, commit(app.tree, {}, "1"))
        found = interleaved([_cancel_command(served, app, version), _plain_kill(place)], run.rounds(20), run.on_round)
        for row in rows:
            yield Result(row, in_ms(found["cancel"]), in_ms(found["kill"]))


def _cancel_command(served: Bed, app: App, version: str) -> Contender:
    def cancel() -> Mapping[str, float]:
        number = served.begin(app.name, version, "build")
        took = timed(served.command("operation:cancel", str(number), "--no-wait"))
        assert _asked(served, number), "it was not journalled"
        assert served.wait_ended(number).state == "cancelled"
        return {"cancel": took}

    return cancel


def _plain_kill(place: Path) -> Contender:
    pidfile = place / "pidfile"

    def kill() -> Mapping[str, float]:
        with subprocess.Popen(["sleep", "3600"]) as sleeper:
            pidfile.write_text(f"{sleeper.pid}\n")
            return {"kill": timed(["sh", "-c", f"kill -TERM $(cat {pidfile})"])}

    return kill


def measure_trees(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    """All that kills a tree takes turns with cgroup.kill, on the same tree."""
    base = containment.cgroup_base(run.directory)
    if base is None:
        raise CannotRun("no cgroup can be made here, and cgroup.kill is what it is measured against: run it as root")
    place = run.place("trees")
    keys = {row.key for row in rows}
    with ExitStack() as stack:
        contenders: dict[str, Contender] = {KILL: _cgroup_kill(base)}
        missing: dict[str, str] = {}
        found_cases = {_variant(case): case for case in cases()}
        served = stack.enter_context(bed(place)) if any(key.startswith("6") for key in keys) else None
        for row in rows:
            variant = row.key.partition(".")[2]
            if variant not in found_cases:
                missing[row.key] = "this kind of containment is not possible here" + _unprivileged(variant)
            elif served is not None and row.number == 6:
                contenders[row.key] = _cancel_tree(served, row.key, variant)
            else:
                contenders[row.key] = _kill_tree(stack, row.key, found_cases[variant])
        found = interleaved(contenders.values(), run.rounds(15), run.on_round)
        for row in rows:
            if row.key in missing:
                yield Result(row, why_not=missing[row.key])
                continue
            notes = ["no survivors"]
            if row.number == 6:
                outside = spread(in_ms(found[f"{row.key} outside"]))
                notes = [f"no survivors; the cancel command's whole process took {outside.median:.0f} ms (median)"]
            yield Result(row, in_ms(found[row.key]), in_ms(found[KILL]), tuple(notes))


def _variant(case: Case) -> str:
    return f"{case.kind}-nobody" if case.prefix else case.kind


def _unprivileged(variant: str) -> str:
    return ", or there is no interpreter that anybody may run" if variant.endswith("nobody") else ""


def _cancel_tree(served: Bed, key: str, kind: str) -> Contender:
    """By the journal's times: from the request to the record that it has ended, when all is seen dead and undone."""
    tag = secrets.token_hex(8)
    build = f"exec '{sys.executable}' -I -S tree.py {tag}"
    app = served.app(f"tree-{kind}", FILES)
    served.deploy(app.name, served.bring(app, commit(app.tree, {}, "1")))
    files = {"tree.py": TREE.read_text(), "safepoint.toml": f'{SETTINGS}[build]\ncommand = "{build}"\n'}
    version = served.bring(app, commit(app.tree, files, "2"))
    contained = {containment.FORCED: kind}

    def cancel() -> Mapping[str, float]:
        before = _state(served, app.name)
        number = served.begin(app.name, version, "build", by=contained)
        served.wait_output(number, "ready")
        outside = timed(served.command("operation:cancel", str(number)))
        assert living(tag) == [], "there are survivors"
        ended = served.operation(number)
        assert ended.state == "cancelled", ended.state
        assert ended.ended is not None
        assert _state(served, app.name) == before, "it was not undone"
        return {key: ended.ended - _asked(served, number), f"{key} outside": outside}

    return cancel


def _asked(served: Bed, number: int) -> float:
    """When the cancel was asked for: before the worker, which gives the verdict, knew."""
    with Store.open(served.home) as store:
        found = [event for event in store.events(number) if isinstance(event, e.CancelRequested)]
    assert len(found) == 1, found
    assert found[0].verdict is e.Verdict.NOW, found
    return found[0].requested or found[0].at


def _state(served: Bed, app: str) -> object:
    """What an undo has to leave as it was."""
    with Store.open(served.home) as store:
        releases = [(release.number, release.state) for release in store.releases(app)]
    directories = sorted(each.name for each in (served.home.app(app) / "releases").iterdir())
    return served.site.branch(app), releases, directories, served.site.get(app)


def _kill_tree(stack: ExitStack, key: str, case: Case) -> Contender:
    """SIGKILL at once, by a process that knows the scope's name: until it has seen everything dead."""
    trial = stack.enter_context(bench(case))
    trial.flags = ("-I",)
    program = trial.python(TREE.read_text())

    def kill() -> Mapping[str, float]:
        with trial.start(*program) as worker:
            read_until(worker, b"ready")
            outcome = trial.run(end=True, result=str(trial.directory / "ended"))
            assert trial.living() == [], "there are survivors"
            worker.communicate(timeout=DEADLINE)  # it goes by itself
        return {key: outcome.inside}

    return kill


def _cgroup_kill(base: Path) -> Contender:
    """Written here from the kernel's documentation (cgroup-v2.rst), with nothing of Safepoint's."""

    def kill() -> Mapping[str, float]:
        tag = secrets.token_hex(8)
        with (
            _cgroup(base) as cgroup,
            subprocess.Popen(
                [
                    "sh",
                    "-c",
                    f'echo $$ > {cgroup}/cgroup.procs && exec "$@"',
                    "sh",
                    sys.executable,
                    "-I",
                    "-S",
                    TREE,
                    tag,
                ],
                stdout=subprocess.PIPE,
            ) as tree,
        ):
            assert tree.stdout is not None
            assert tree.stdout.readline() == b"ready\n"
            took = _kill_and_see(cgroup)
            assert living(tag) == []
        return {KILL: took}

    return kill


@contextmanager
def _cgroup(base: Path) -> Iterator[Path]:
    cgroup = base / f"safepoint-bench-{os.getpid()}"
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        cgroup.rmdir()


def _kill_and_see(cgroup: Path) -> float:
    events = os.open(cgroup / "cgroup.events", os.O_RDONLY)
    poll = select.poll()
    poll.register(events, select.POLLPRI)
    try:
        began = time.perf_counter()
        (cgroup / "cgroup.kill").write_text("1")
        while b"populated 1" in os.pread(events, 4096, 0):
            assert poll.poll(DEADLINE * 1000)
        return time.perf_counter() - began
    finally:
        os.close(events)
