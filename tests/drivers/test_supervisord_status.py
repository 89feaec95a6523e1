"""What supervisord says of a process, in our words."""

from __future__ import annotations

import pytest

from safepoint.core.release import ProcessStatus
from safepoint.drivers.supervisord_status import status_of, waiting

STATUS_1 = "exited with status 1"


def said(state: str, pid: int = 0, failures: int = 0, ending: str = "", error: str = "") -> dict[str, object]:
    return {"name": "web.1", "state": state, "pid": pid, "failures": failures, "ending": ending, "error": error}


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (said("STARTING", pid=7), (True, 0, "running")),
        (said("RUNNING", pid=7), (True, 0, "running")),
        (said("RUNNING", 7, 2, STATUS_1, "Bad exit code 1"), (True, 2, "exited with status 1, and was started again")),
        (said("STOPPING", pid=7), (True, 0, "stopping")),
        (said("STOPPED", ending="was killed by SIGTERM"), (False, 0, "stopped")),
        (said("EXITED", 0, 1, STATUS_1), (False, 1, STATUS_1)),
        (said("BACKOFF", 0, 1, STATUS_1, "Exited too quickly"), (False, 1, STATUS_1)),
        (said("BACKOFF", 0, 1, "", "no such file"), (False, 1, "not started: no such file")),
        (said("FATAL", 0, 4, STATUS_1), (False, 4, "exited with status 1; given up after 4 tries")),
        (said("UNKNOWN", 0, 1), (False, 1, "not started: supervisord does not say why")),
    ],
)
def test_a_state_is_told_to_people(process: dict[str, object], expected: tuple[bool, int, str]) -> None:
    """Whether it runs, how often it failed, and how it ended last."""
    assert status_of(process) == ProcessStatus("web.1", process["pid"], *expected)  # type: ignore[arg-type]


def test_only_what_was_never_launched_is_waited_for() -> None:
    """A process that failed, or runs, has been launched."""
    assert waiting(said("STOPPED"))
    assert not any(waiting(said(*other)) for other in (("STARTING", 7), ("BACKOFF", 0, 1), ("STOPPED", 0, 1)))
