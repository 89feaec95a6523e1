"""The server's log: bounded, whole lines, and nothing in it that a terminal obeys."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread

import pytest

from safepoint import logs
from safepoint.state.paths import Home


def fail(text: str) -> None:
    raise ValueError(text)


def test_what_is_logged_is_plain_json(tmp_path: Path) -> None:
    """Pushed text may be in it: it is escaped, and cut where it is long, with its end kept."""
    home = Home(tmp_path)
    try:
        fail("\x1b[2J\x9b31m\u202e" + "x" * 100_000 + " the end")
    except ValueError:
        said = logs.defect(home, "it failed", operation=42)
    (line,) = home.log.read_bytes().splitlines()
    assert line.isascii()
    assert not any(byte < 32 or byte == 127 for byte in line)
    assert len(line) < 50_000
    entry = json.loads(line)
    assert entry["operation"] == 42
    assert entry["exception"].endswith("x the end")
    assert f"has more under {entry['reference']})" in said


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one predecessor, whoever writes at the same time: nobody moves a log that another one has just begun."""
    monkeypatch.setattr(logs, "MAX_BYTES", 2000)
    home = Home(tmp_path)
    old = home.log.with_name("safepoint.log.1")

    def write(number: int) -> None:
        log = logs.logger(home, writer=number)
        for count in range(200):
            log.info("event", count=count)
            if old.exists():
                assert old.stat().st_size >= 2000

    writers = [Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["safepoint.log", "safepoint.log.1"]
    for path in (home.log, old):
        assert path.stat().st_size < 3000
        assert path.stat().st_mode & 0o777 == 0o600
        for line in path.read_text().splitlines():
            assert json.loads(line)["event"] == "event"
    assert old.stat().st_size >= 2000
