"""What was measured, and on what: the machine, the versions and the date."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from safepoint.drivers.haproxy_daemon import find
from safepoint.processes import containment

ROOT = Path(__file__).parents[2]


def described(directory: Path) -> dict[str, str]:
    """In the order in which it is shown. `directory` is on the disk that is measured."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "safepoint": _safepoint(),
        "machine": summary(),
        "filesystem": _filesystem(directory),
        "system": _system(),
        "python": platform.python_version(),
        "git": _said("git", "--version").removeprefix("git version "),
        "ssh": _said("ssh", "-V"),
        "containment": str(containment.best(directory)),
        "haproxy": _haproxy(),
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in ("paramiko", "click", "supervisor")),
        "load": " ".join(f"{each:.2f}" for each in os.getloadavg()) + " before the start",
    }


def summary() -> str:
    return f"{cores()} cores of {_model()}, {_memory()} GiB, Linux {platform.release()}"


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _model() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", sys.platform)


def _filesystem(directory: Path) -> str:
    return _said("findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(directory))


def _safepoint() -> str:
    commit = _said("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return f"{metadata.version('safepoint')}, commit {commit}"


def _haproxy() -> str:
    found = re.search(r"version (\S+)", _said(str(find()), "-v"))
    return found[1] if found else "unknown"


def _said(*command: str) -> str:
    """The first line."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        return error.strerror or "unknown"
    return done.stdout.partition("\n")[0].strip()
