"""Row 12: releases that come, and releases that are cancelled in watch, under as much load as `wrk` can make."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.bed import FILES, bed, commit
from benchmarks.rows import Row
from benchmarks.running import Result, Run, need_command

SWITCHED, CANCELLED = 100, 20
FILES_WATCHED = FILES | {"safepoint.toml": FILES["safepoint.toml"].replace('for = "0s"', 'for = "10m"')}


def measure(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    need_command("wrk", "wrk")
    switched = max(2, run.size(SWITCHED))
    cancelled = max(1, run.size(CANCELLED))
    with bed(run.place("switch")) as served:
        app = served.app("busy", FILES)
        quick = served.bring(app, commit(app.tree, {}, "quick"))
        watched = served.bring(app, commit(app.tree, {"safepoint.toml": FILES_WATCHED["safepoint.toml"]}, "watched"))
        served.deploy(app.name, quick)
        report: list[str] = []
        with _load(served.site.http_port, f"{app.name}.localhost", report):
            for number in range(1, switched + 1):
                if number % 10 == 1:
                    run.say(f"{number - 1} of {switched} switched")
                served.deploy(app.name, quick)
                if number * cancelled // switched > (number - 1) * cancelled // switched:
                    held = served.begin(app.name, watched, "watch")
                    served.site.run("operation:cancel", str(held))
                    assert served.operation(held).state == "cancelled"
        requests, lost = _counted(report[0])
        note = (
            f"{lost} of {requests:,} requests lost, {_rate(report[0])} a second; {switched} releases switched, "
            f"{cancelled} cancelled in watch"
        )
        for row in rows:
            yield Result(row, [float(lost)], (), (note,))


@contextmanager
def _load(port: int, host: str, report: list[str]) -> Iterator[None]:
    """`report` has wrk's afterwards."""
    command = ["wrk", "-t1", "-c32", "-d6h", "--timeout", "30s", "-H", f"Host: {host}", f"http://127.0.0.1:{port}/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        try:
            yield
        finally:
            wrk.send_signal(signal.SIGINT)  # stop and report
            report.append(wrk.communicate()[0])


def _counted(report: str) -> tuple[int, int]:
    """All requests that were answered, and those that were not, or wrongly."""
    requests = re.search(r"(\d+) requests in", report)
    assert requests, report
    assert int(requests[1]) > 0, report
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", report)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    lost = sum(map(int, errors.groups())) if errors else 0
    return int(requests[1]), lost + (int(wrong[1]) if wrong else 0)


def _rate(report: str) -> str:
    found = re.search(r"Requests/sec:\s*(\d+)", report)
    return f"{int(found[1]):,}" if found else "?"
