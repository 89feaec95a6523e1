"""Who is struck: processes of this home, and never those of another run beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.processes import Seen, is_target
from chaos.rounds import Target

HOME = Path("/tmp/one/home")


@pytest.mark.parametrize(
    ("target", "arguments"), [(Target.APP, ("python", "app.py")), (Target.COMMAND, ("sh", "-e", "-c", "sh build"))]
)
def test_an_app_of_another_home_is_nobodys_target(target: Target, arguments: tuple[str, ...]) -> None:
    """Every home of chaos has an app0."""
    for root, struck in ((HOME, True), (Path("/tmp/two/home"), False)):
        by_variable = Seen(1, arguments, ("SAFEPOINT_APP=app0", f"HOME={root}/apps/app0/releases/v1"), "")
        by_directory = Seen(1, arguments, ("SAFEPOINT_APP=app0",), f"{root}/apps/app0/releases/v1")
        assert is_target(by_variable, target, HOME, "app0", set()) is struck
        assert is_target(by_directory, target, HOME, "app0", set()) is struck
        assert not is_target(by_variable, target, HOME, "app1", set())
