"""Row 11: much build output, from the step to the pusher's terminal, against a hook that just prints it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.bed import FILES, Bed, bed, commit
from benchmarks.many import SETTINGS
from benchmarks.push import in_ms
from benchmarks.rows import Row
from benchmarks.running import Result, Run
from benchmarks.side_by_side import Contender, interleaved
from deploying import App
from ssh.servers import git

LINES = 1_000_000
LINE = "{:09d} " + "x" * 89
BEGIN = re.compile(rb"BEGIN ([0-9.]+)")
END = b"END OF OUTPUT"


def measure(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    place = run.place("output")
    lines = run.size(LINES)
    file = place / "output.txt"
    with file.open("w") as output:
        output.writelines(LINE.format(number) + "\n" for number in range(lines))
    file.chmod(0o644)
    script = f"date +'BEGIN %s.%N'; cat '{file}'; echo '{END.decode()}'"
    with bed(place) as served:
        contenders = [_build(served, script, lines), _hook(served, place, script, lines)]
        found = interleaved(contenders, run.rounds(4), run.on_round)
        for row in rows:
            yield Result(
                row, in_ms(found["build"]), in_ms(found["hook"]), ("no line is lost; both over the embedded server",)
            )


def _build(served: Bed, script: str, lines: int) -> Contender:
    app = served.app("talks", FILES | {"safepoint.toml": f'{SETTINGS}[build]\ncommand = """{script}"""\n'})
    numbers = iter(range(1_000_000))

    def build() -> Mapping[str, float]:
        commit(app.tree, {"version": str(next(numbers))}, "next")
        return {"build": _heard(served, app, lines)}

    return build


def _hook(served: Bed, place: Path, script: str, lines: int) -> Contender:
    """In a repository of the same server's, whose own hooks are taken out."""
    app = served.app("hooked")
    repository, hooks = served.home.repository(app.name), place / "hooks"
    hooks.mkdir()
    (hooks / "post-receive").write_text(f"#!/bin/sh\n{script}\n")
    (hooks / "post-receive").chmod(0o755)
    git("--git-dir", repository, "config", "core.hooksPath", hooks)
    git("--git-dir", repository, "config", "--unset-all", "receive.procReceiveRefs")
    numbers = iter(range(1_000_000))

    def hook() -> Mapping[str, float]:
        commit(app.tree, {"version": str(next(numbers))}, "next")
        return {"hook": _heard(served, app, lines)}

    return hook


def _heard(served: Bed, app: App, lines: int) -> float:
    """Seconds from the first word of the command to its last one on the pusher's side."""
    door = served.embedded
    command = ["git", "-C", str(app.tree), "push", door.url(app.name), "main"]
    head, tail, count, ended = b"", b"", 0, 0.0
    with subprocess.Popen(
        command, env=door.git_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as push:
        assert push.stdout is not None
        while chunk := os.read(push.stdout.fileno(), 1 << 16):
            count += chunk.count(b"\n")
            if len(head) < 1 << 16:
                head += chunk
            tail = (tail + chunk)[-(1 << 17) :]
            if not ended and END in tail[-len(chunk) - len(END) :]:
                ended = time.time()
    assert push.returncode == 0, tail[-2000:]
    assert count >= lines, f"{lines - count} lines are missing"
    began = BEGIN.search(head)
    assert began is not None, head[:2000]
    assert ended
    # The wall clock: the command's own `date` has no other.
    return ended - float(began[1])
