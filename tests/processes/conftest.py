"""Fixtures of the tests of contained processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from processes.trials import Bench, Case, bench, cases


@pytest.fixture(params=cases(), ids=str)
def contained(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every way of containing that works on this machine, as root and as nobody."""
    case: Case = request.param
    with bench(case) as made:
        yield made
