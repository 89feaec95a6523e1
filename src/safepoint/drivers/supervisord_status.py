"""What supervisord, with our plugin, says of a process, as a ProcessStatus. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from safepoint.core.release import ProcessStatus
from safepoint.hints import Any


def waiting(process: Mapping[str, Any]) -> bool:
    """Whether it has not been launched for the first time yet."""
    return process["state"] == "STOPPED" and not process["pid"] and not process["failures"]


def status_of(process: Mapping[str, Any]) -> ProcessStatus:
    running = process["state"] in ("STARTING", "RUNNING", "STOPPING") and process["pid"] > 0
    return ProcessStatus(process["name"], process["pid"], running, process["failures"], _detail(process))


def _detail(process: Mapping[str, Any]) -> str:
    """It is read after `web.1 died: ` as well as beside a process that runs."""
    ending = process["ending"] or f"not started: {process['error'] or 'supervisord does not say why'}"
    match process["state"]:
        case "STARTING" | "RUNNING":
            return f"{ending}, and was started again" if process["failures"] else "running"
        case "STOPPING":
            return "stopping"
        case "STOPPED":
            return "stopped"
        case "FATAL":
            return f"{ending}; given up after {process['failures']} tries"
        case _:
            return str(ending)
