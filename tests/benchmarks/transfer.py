"""Row 14: 200 MB through the embedded server, against the same through OpenSSH: same repositories, same hooks."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.bed import Bed, bed, settle, timed, timed_push
from benchmarks.rows import Row
from benchmarks.running import Result, Run
from benchmarks.side_by_side import Contender, interleaved
from deploying import Door
from ssh.servers import git

FILE, FILES = 5_000_000, 40


def measure(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    run.need_space(3)
    place = run.place("transfer")
    tree = _tree(place / "tree", run.size(FILE))
    with bed(place, doors=True) as served:
        contenders = [_transfer(served, place, tree, door) for door in (served.embedded, served.openssh)]
        found = interleaved(contenders, run.rounds(5), run.on_round)
    for row in rows:
        what = row.key.partition(".")[2]
        yield Result(row, found[f"{what} embedded"], found[f"{what} openssh"])


def _transfer(served: Bed, place: Path, tree: Path, door: Door) -> Contender:
    numbers = iter(range(1_000_000))

    def transfer() -> Mapping[str, float]:
        name = f"{door.name}{next(numbers)}"
        served.register(name)
        # Not the branch that is deployed: it is stored, and nothing else.
        pushed = timed_push(tree, door.url(name), door.git_environment(), "main:data")
        copy = place / f"{name}.clone"
        cloned = timed(["git", "clone", "-q", "--bare", door.url(name), str(copy)], door.git_environment())
        shutil.rmtree(copy)
        shutil.rmtree(served.home.repository(name))  # a few large files, which the disk does not mind
        settle(place)
        return {f"push {door.name}": pushed, f"clone {door.name}": cloned}

    return transfer


def _tree(tree: Path, size: int) -> Path:
    """Of files that cannot be compressed."""
    git("init", "-q", "-b", "main", tree)
    chance = random.Random(200)
    for number in range(FILES):
        (tree / f"file{number}").write_bytes(chance.randbytes(size))
    git("-C", tree, "-c", "core.compression=0", "add", "-A")
    git("-C", tree, "commit", "-q", "-m", "data")
    git("-C", tree, "-c", "core.compression=0", "-c", "core.bigFileThreshold=1m", "repack", "-q", "-a", "-d")
    return tree
