"""Rows 8 and 9: writing out the pushed tree, the first time and with 40 files changed, against `git archive | tar x`.

The export is that of real deploys, by the journal's times. Neither side counts what makes it durable: of a deploy that
is in the step build, which has nothing else to do here. A note says what both take with it, and what the spare tree
takes that a deploy makes for the next one when it has ended: nothing here begins before that is there.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.bed import FILES, Bed, bed, settle, timed
from benchmarks.push import in_ms
from benchmarks.rows import Row
from benchmarks.running import Result, Run
from benchmarks.side_by_side import Contender, interleaved, ratios, spread
from deploying import wait_until
from ssh.servers import GIT_ENVIRONMENT, git

from safepoint.core.operation import Operation

CHANGED = 40
LARGE = 20_000
FIRST, SECOND = "refs/heads/first", "refs/heads/second"


def measure_large(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    run.need_space(12 if not run.small else 1)
    yield from _measure(run, rows, run.size(78_000), run.rounds(3), {"8.changed": "changed", "8.first": "first"})


def measure_small(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    yield from _measure(run, rows, run.size(5_000), run.rounds(7), {"9": "changed"})


def _measure(run: Run, rows: Sequence[Row], files: int, rounds: int, names: Mapping[str, str]) -> Iterator[Result]:
    place = run.place(f"export-{files}")
    source = place / "source.git"
    run.say(f"making a repository of {files:,} files")
    monorepo(source, files)
    # Entered here and closed at the end of the run: every release and every tree stays until then.
    run.kept.callback(_remove, run, place)
    served = run.kept.enter_context(bed(place))
    settle(place)
    contenders = [_archive(place, source), _deploys(served, place, source)]
    # A warm-up round would write as much as a counted one. Where that is much, only the pack is read before.
    timed(["sh", "-c", f"git --git-dir '{source}' archive {SECOND} > /dev/null"], GIT_ENVIRONMENT)
    found = interleaved(contenders, rounds, run.on_round, warm_up=files < LARGE)
    for row in rows:
        name = names[row.key]
        durable = spread(ratios(found[f"{name}, durable"], found["archive, durable"]))
        notes = (
            f"with what makes both durable the ratio is {durable.median:.2f} ({durable.low:.2f} to {durable.high:.2f})",
            f"a deploy's spare tree is there {spread(found['spare']).median:.1f} s after its end (median)",
        )
        yield Result(row, in_ms(found[name]), in_ms(found["archive"]), notes)


def _archive(place: Path, source: Path) -> Contender:
    numbers = iter(range(1_000_000))

    def archive() -> Mapping[str, float]:
        target = place / f"archive-{next(numbers)}"
        target.mkdir()
        command = f"git --git-dir '{source}' archive {SECOND} | tar -x -C '{target}'"
        began = time.perf_counter()
        took = timed(["sh", "-c", command], GIT_ENVIRONMENT)
        settle(target)
        return {"archive": took, "archive, durable": time.perf_counter() - began}

    return archive


def _deploys(served: Bed, place: Path, source: Path) -> Contender:
    """A new app each time: its first release, and one that changes 40 files."""
    numbers = iter(range(1_000_000))

    def deploys() -> Mapping[str, float]:
        name = f"mono{next(numbers)}"
        served.register(name)
        _lend(source, served.home.repository(name))
        found: dict[str, float] = {}
        for what, ref in (("first", FIRST), ("changed", SECOND)):
            operation = served.deploy(name, git("--git-dir", source, "rev-parse", ref).strip())
            found["spare"] = _wait_spare(served, operation)
            export, build = (next(step for step in operation.steps if step.name == n) for n in ("export", "build"))
            assert export.started is not None and export.ended is not None and build.ended is not None  # noqa: PT018
            found[what] = export.ended - export.started
            found[f"{what}, durable"] = build.ended - export.started
        settle(place)
        return found

    return deploys


def _wait_spare(served: Bed, operation: Operation) -> float:
    """Seconds from the end of the deploy until its spare tree was seen."""
    spare = served.home.spare(operation.app) / operation.plan.commit
    wait_until(spare.is_dir, f"{operation.app} has a spare tree")
    assert operation.ended is not None
    return time.time() - operation.ended


def _lend(source: Path, repository: Path) -> None:
    """Have the packs there without a push of hundreds of megabytes: the same files, by hard links."""
    for pack in (source / "objects" / "pack").iterdir():
        os.link(pack, repository / "objects" / "pack" / pack.name)
    for ref in (FIRST, SECOND):
        oid = git("--git-dir", source, "rev-parse", ref).strip()
        git("--git-dir", repository, "update-ref", f"{ref}-brought", oid)


def _remove(run: Run, place: Path) -> None:
    """Many at a time: a file system that is mounted with `discard` waits for the disk at each."""
    run.say(f"removing what is in {place.name}, which may take minutes")
    find = ["find", str(place), "-type", "d", "-name", "package[0-9]*", "-prune", "-print0"]
    with subprocess.Popen(find, stdout=subprocess.PIPE) as found:
        subprocess.run(["xargs", "-0", "-n4", "-P16", "rm", "-rf"], stdin=found.stdout, check=True)


def monorepo(repository: Path, files: int) -> None:
    """Two commits, the same bytes each time it is made: depths of 2 to 9, a median of 2 KB and a few large ones."""
    git("init", "-q", "--bare", "-b", "main", repository)
    chance = random.Random(78_000)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 11))) for _ in range(4_000)]
    pool = b" ".join(chance.choices(words, k=700_000))

    def content() -> bytes:
        size = min(int(chance.lognormvariate(7.6, 1.3)), 1_000_000)
        start = chance.randrange(len(pool) - size)
        return b"%x\n" % chance.getrandbits(64) + pool[start : start + size]

    paths = [_path(chance, number) for number in range(files - len(FILES))]
    command = ["git", "--git-dir", str(repository), "-c", "core.bigFileThreshold=1", "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=GIT_ENVIRONMENT) as importing:
        assert importing.stdin is not None
        write = importing.stdin.write

        def put(path: str, data: bytes) -> None:
            write(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data))

        def begin(ref: str, parent: str = "") -> None:
            write(f"commit {ref}\ncommitter test <test@localhost> 1700000000 +0000\ndata 1\nx\n{parent}".encode())

        begin(FIRST)
        for name, text in FILES.items():
            put(name, text.encode())
        for path in paths:
            put(path, content())
        begin(SECOND, f"from {FIRST}\n")
        for path in chance.sample(paths, min(CHANGED, len(paths))):
            put(path, content())
    assert importing.returncode == 0


def _path(chance: random.Random, number: int) -> str:
    """Packages of some hundred files, in folders of some ten."""
    package = number // 300
    depth = chance.randint(0, 5)
    folders = [f"{part}{chance.randrange(3)}" for part in ("src", "lib", "core", "internal", "detail")[:depth]]
    return "/".join([f"area{package % 17}", f"package{package}", *folders, f"file{number}.txt"])
