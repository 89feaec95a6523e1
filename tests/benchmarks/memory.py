"""Row 10: what a worker that waits takes of the memory, against an interpreter that does nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.bed import FILES, WAITING_BUILD, Bed, bed, children, commit, resident
from benchmarks.many import SETTINGS
from benchmarks.rows import Row
from benchmarks.running import Result, Run
from benchmarks.side_by_side import Contender, interleaved, spread
from deploying import wait_until

from safepoint.core.slots import running_slot
from safepoint.state import pidfile

NEVER_HEALTHY = FILES | {
    "Procfile": "web: exec sleep 3600\n",
    "safepoint.toml": SETTINGS + '[health]\ntimeout = "10m"\n',
}


def measure(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    apps = {"build": FILES | {"safepoint.toml": WAITING_BUILD}, "health": NEVER_HEALTHY}
    with bed(run.place("memory")) as served:
        steps = [row.key.partition(".")[2] for row in rows]
        waiting = [_worker(served, step, apps[step]) for step in steps]
        found = interleaved([_bare, *waiting], run.rounds(7), run.on_round)
        for row, step in zip(rows, steps, strict=True):
            pss, children = (spread(found[f"{step} {what}"]).median for what in ("pss", "children"))
            note = (
                f"resident set sizes; by proportional set size, which counts shared pages in parts, the worker has "
                f"{pss:.1f} MiB, and the processes that it has started {children:.1f} MiB"
            )
            yield Result(row, found[step], found["bare"], (note,))


def _bare() -> Mapping[str, float]:
    command = [sys.executable, "-I", "-S", "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bare:
        assert bare.stdout is not None and bare.stdin is not None  # noqa: PT018
        bare.stdout.readline()
        found = resident(bare.pid)
        bare.stdin.write(b"\n")
    return {"bare": found}


def _worker(served: Bed, step: str, files: Mapping[str, str]) -> Contender:
    app = served.app(f"waits-{step}", files)
    version = served.bring(app, commit(app.tree, {}, "1"))

    def wait() -> Mapping[str, float]:
        number = served.begin(app.name, version, step)
        signed = pidfile.read(served.home.pidfile(running_slot(app.name)))
        assert signed is not None
        pid = signed[0].pid
        wait_until(_steady(pid), "the worker has come to rest")
        found = {step: resident(pid), f"{step} pss": resident(pid, "Pss")}
        found[f"{step} children"] = sum(resident(each, "Pss") for each in children(pid))
        served.site.run("operation:cancel", str(number), "--no-wait")
        served.wait_ended(number)
        return found

    return wait


def _steady(pid: int) -> Callable[[], bool]:
    """Whether its size has been the same for a second: it may still be importing what it waits with."""
    last: list[float] = []

    def steady() -> bool:
        last.append(resident(pid))
        return len(last) > 50 and len(set(last[-50:])) == 1

    return steady
