"""Limits as a command feels them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.trials import Bench, bench, isolating

from safepoint.processes import limits
from safepoint.state.paths import Home


@pytest.fixture(params=isolating(), ids=str)
def app(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as made:
        yield made


def run(app: Bench, program: str, **kept: float) -> str:
    """What a Python program of the app says, whose limits are these."""
    home = Home(app.home)
    home.limits("web").parent.mkdir(parents=True, exist_ok=True)
    home.limits("web").write_text(json.dumps(kept))
    home.limits("web").chmod(0o644)
    return app.run(*app.python(program), app="web").output


def test_memory(app: Bench) -> None:
    """What takes more than it may have gets none, or is killed; what takes less runs."""
    program = "import os\nblock = b'x' * (300 * 1024**2)\nos.write(1, b'had it')"
    assert run(app, program) == "had it"
    assert "had it" not in run(app, program, memory=100 * 1024**2)
    assert run(app, program, memory=900 * 1024**2) == "had it"


def test_processes(app: Bench) -> None:
    """A fork bomb ends at the limit."""
    if os.geteuid() != 0 or app.case.prefix:
        return  # where there is no cgroup, they can only be counted for a user of the app's own
    program = """
import os, signal, time
made = []
try:
    while len(made) < 50:
        made.append(os.fork())
        if made[-1] == 0:
            time.sleep(3600)
except OSError:
    pass
for child in made:  # a zombie counts until somebody has waited for it
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(len(made))
"""
    assert run(app, program) == "50\n"
    assert 5 < int(run(app, program, processes=20)) <= 20


def test_described(tmp_path: Path) -> None:
    """How well they are kept here is said in a sentence."""
    fine, sentence = limits.describe(tmp_path)
    assert sentence.endswith(".")
    assert fine == ("(cgroups)" in sentence)


def test_none(tmp_path: Path) -> None:
    """An app for which none were set has none."""
    assert str(limits.of(Home(tmp_path), "web")) == "memory= processes= cpu="
