"""The output of an operation: what ends on people's terminals."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safepoint.state.output import OutputLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "42.log"


def written(path: Path, *chunks: bytes) -> bytes:
    path.unlink(missing_ok=True)
    log = OutputLog(path)
    for chunk in chunks:
        log.write(chunk)
    log.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([b"plain\ttext\n"], b"plain\ttext\n"),
        (["caf\xe9 \N{SNOWMAN}\n".encode()], "caf\xe9 \N{SNOWMAN}\n".encode()),
        ([b"\x1b[31mred\x1b[0m\x07\n"], b"[31mred[0m\n"),
        ([b"\x1b]0;title\x07\x08\x7f\x00\n"], b"]0;title\n"),
        ([b"10%\r20%\r\n"], b"10%\n20%\n"),
        (["\x9b31m\n".encode()], b"?31m\n"),
        ([b"\xc2", b"\x9b31m\n"], b"?31m\n"),
        ([b"\xc2\x00", b"\x07\x9b31m\n"], b"?31m\n"),
        ([b"\xc2\xc2\x9b\x9b\n"], b"\xc2?\x9b\n"),
        ([b"caf\xc3", b"\xa9\xc2", b"\xa0\n"], "caf\xe9\xa0\n".encode()),
        ([b"\xff\xfe\n"], b"\xff\xfe\n"),
    ],
)
def test_a_terminal_obeys_nothing_of_it(path: Path, chunks: list[bytes], text: bytes) -> None:
    """Escapes and controls go, also where they come in parts or would be put together by what goes; text stays."""
    assert written(path, *chunks) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.lists(st.sampled_from(b"\xc2\x9b\x85\x1b\r\n\x00aZ")).map(bytes), max_size=6))
def test_however_it_is_cut_no_control_is_left(path: Path, chunks: list[bytes]) -> None:
    """As a terminal reads it: in UTF-8."""
    text = written(path, *chunks).decode(errors="replace")
    assert not [each for each in text if each != "\n" and (ord(each) < 32 or 0x7F <= ord(each) < 0xA0)]


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
