"""The tricks of nasty.py below everything else: one contained command, also of a user without any privilege."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nasty
import pytest
from processes.trials import Bench, Case, bench, cases

QUIET = sorted(nasty.TRICKS.keys() - {"endless_lines", "endless_line", "escapes"})
"""The others are about output, and that is bounded elsewhere."""


@pytest.fixture(params=cases()[-2:], ids=str)
def weakest(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """What a server gets that is not root and has no cgroup. scenarios/test_escapees.py has the rest."""
    case: Case = request.param
    with bench(case) as made:
        yield made


@pytest.mark.parametrize("trick", QUIET)
def test_an_interrupted_command_is_seen_dead(weakest: Bench, trick: str) -> None:
    """Nothing of it lives when the call returns; the bench looks for itself."""
    program = weakest.directory / "nasty.py"
    program.write_bytes(Path(nasty.__file__).read_bytes())
    program.chmod(0o644)
    argv = (weakest.case.python, "-I", "-S", str(program), trick, weakest.tag)
    outcome = weakest.run(*argv, latch_on="it is ready", grace=0.2)
    assert outcome.result == "Interrupted"
    assert weakest.living() == []
    assert weakest.left_over() == []
