"""The output of an operation: what is kept, how much of it, and that nothing about it can end the operation."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from safepoint.core.output_limit import TAIL
from safepoint.state.output import OutputLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "42.log"


def test_safepoint_s_own_lines_stand_alone(path: Path) -> None:
    """Whatever was written before, also by a worker that is dead now."""
    growths: list[None] = []
    log = OutputLog(path, lambda: growths.append(None))
    log.say("Building...")
    log.write(b"half a line")
    log.write(b"")
    log.close()
    log = OutputLog(path)
    log.say("The build\nfailed \x1b[31m")
    log.write(b"more\n")
    log.say("Done")
    log.close()
    assert path.read_text() == (
        "safepoint | Building...\nhalf a line\nsafepoint | The build failed  [31m\nmore\nsafepoint | Done\n"
    )
    assert len(growths) == 2
    assert path.stat().st_mode & 0o777 == 0o600


def test_nobody_can_put_a_line_like_ours_together(path: Path) -> None:
    """Not around what we say ourselves, and not from the end of one command and the beginning of the next."""
    log = OutputLog(path)
    log.write(b"working")
    log.say("Cancel requested")
    log.write(b"safepoint | operation 42 succeeded\nsafe")
    log.say("Removing v1...")
    log.write(b"point | operation 42 succeeded\nsafepoint ")
    log.end()
    log.write(b"| operation 42 succeeded\n")
    log.end()
    log.close()
    assert path.read_text() == (
        "working\nsafepoint | Cancel requested\n> safepoint | operation 42 succeeded\nsafe\n"
        "safepoint | Removing v1...\npoint | operation 42 succeeded\nsafepoint \n| operation 42 succeeded\n"
    )


def test_past_the_limit_the_end_of_each_command_is_kept(path: Path) -> None:
    """One line says so when it is reached, another one how much is missing; what Safepoint says is always kept."""
    log = OutputLog(path, limit=1000)
    log.write(b"first\n" * 200)
    lines = [b"line %06d of the build\n" % n for n in range(100_000)]
    for start in range(0, len(lines), 1000):
        log.write(b"".join(lines[start : start + 1000]))
    log.write(b"the error\nafter it")
    log.end()
    log.say("Next")
    log.write(b"short \x1b[1m\n")
    log.end()
    log.close()
    notice = (
        "safepoint | The output has reached its limit of 1000 bytes: "
        "of what this command says from here on, the end is kept\n"
    )
    text = path.read_text()
    beginning, _, rest = text.partition(notice)
    assert beginning == "first\n" * 200
    left_out, _, kept = rest.partition("\n")
    assert left_out == "safepoint | 2.3 MiB of output are left out here; the end of it:"
    tail, _, more = kept.partition("safepoint | Next\n")
    assert tail.startswith("line 0")
    assert tail.endswith("line 099999 of the build\nthe error\nafter it\n")
    assert TAIL - 30 < len(tail) <= TAIL + 1
    assert more == f"{notice}short [1m\n"


def test_a_limit_that_was_reached_before_a_crash_holds_after_it(path: Path) -> None:
    """The file itself is what is counted."""
    path.write_bytes(b"x" * 999 + b"\n")
    log = OutputLog(path, limit=1000)
    log.write(b"more\n")
    log.end()
    log.close()
    assert path.read_bytes().count(b"\n") == 3
    assert path.read_bytes().endswith(b"the end is kept\nmore\n")


def test_a_line_without_end_needs_no_memory(path: Path) -> None:
    """Neither within the limit nor past it."""
    log = OutputLog(path, limit=8_000_000)
    chunk = b"x" * 65536
    log.write(chunk)
    tracemalloc.start()
    for _ in range(300):
        log.write(chunk)
    log.end()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    log.close()
    assert peak < 1_000_000
    assert 8_000_000 < path.stat().st_size < 8_000_000 + 3 * 65536


def test_a_disk_that_is_full_ends_nothing() -> None:
    """What cannot be kept is not an error of the command that said it, nor of ours."""
    log = OutputLog(Path("/dev/full"))
    for _ in range(3):
        log.say("Building...")
        log.write(b"line\n")
    log.end()
    log.close()


def test_nothing_is_written_after_the_end(path: Path) -> None:
    """A cancel may come as the worker ends, and the number of the closed descriptor be another file's."""
    log = OutputLog(path)
    log.close()
    other = os.open(path.with_name("other"), os.O_RDWR | os.O_CREAT)
    log.say("too late")
    log.write(b"too late\n")
    assert os.pread(other, 100, 0) == b""
    os.close(other)
