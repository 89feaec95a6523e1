"""A few dozen rounds of chaos, and proof that they find what is wrong: bugs are planted into a copy of Safepoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chaos.planted import BUGS, plant

import safepoint

TESTS = Path(__file__).parents[1]
QUICKLY_FOUND = (
    "the release's directory is left",
    "the lock goes before the tree is dead",
    "the control socket is left",
)
"""`python -m chaos --planted` tries all of them, at night."""


def chaos(directory: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Its exit status, its report, and what it said on the way."""
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--json", "--directory", str(directory), *words],
        cwd=TESTS,
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_whoever_is_killed_the_world_is_as_the_journal_says(tmp_path: Path) -> None:
    """Real pushes, cancels and followers, over every door, with a killer among them."""
    status, report, said = chaos(tmp_path, "--rounds", "24", "--seed", "1")
    assert status == 0, said
    assert report["rounds"] == report["audits"] == 24
    assert report["violations"] == []
    assert report["recoveries"] > 0
    assert report["operations"]["succeeded"] > 0
    assert sum(report["kills"].values()) > 0


@pytest.mark.parametrize("name", QUICKLY_FOUND)
def test_a_planted_bug_is_found(tmp_path: Path, name: str) -> None:
    """The run ends with the violation, its seed, its round and the whole plan of it, and leaves the home."""
    python = plant(BUGS[name], tmp_path / "planted")
    status, report, said = chaos(tmp_path, "--rounds", "40", "--seed", "1", "--python", python, "--patience", "5")
    assert status == 1, said
    (violation,) = report["violations"]
    assert violation["violations"]
    assert f"VIOLATED with seed 1 in round {violation['round']['number']}" in said
    assert violation["round"]["pushes"]


def test_every_bug_can_be_planted() -> None:
    """Where the code has changed, another one has to be thought of: at once, not in the night."""
    source = Path(safepoint.__file__).parent
    assert [name for name, bug in BUGS.items() if (source / bug.file).read_text().count(bug.old) != 1] == []
