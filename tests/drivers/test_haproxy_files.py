"""The router's files: whoever reads them without the lock reads the old text or the new."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safepoint.drivers import haproxy_files
from safepoint.drivers.haproxy_files import Files
from safepoint.state.paths import Home


@pytest.mark.parametrize("writes", [1, 3])
def test_a_file_that_is_changed_as_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Its old text's place is the next one's: first there are zeros behind it, and then another text."""
    files = Files(Home(tmp_path))
    files.directory.mkdir()
    files.write_routes({"blog": 20001})
    files.write_routes({"blog": 20002})
    state, pending = haproxy_files._state, list(range(writes))

    def meanwhile(found: os.stat_result) -> tuple[int, ...]:
        """It is asked for between the opening and the reading."""
        while pending:
            files.write_routes({"blog": 20003 + pending.pop(0), "shop": 25000})
        return state(found)

    monkeypatch.setattr(haproxy_files, "_state", meanwhile)
    assert files.read_routes() == {"blog": 20002 + writes, "shop": 25000}
