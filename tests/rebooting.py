"""A reboot, as far as one home can tell: all of it dies, its run directory is empty, the boot has another ID."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

from deploying import Site, processes
from dying import await_death

from safepoint.processes import containment

_BOOT = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"'


def cut_power(site: Site, *, empty: bool = True) -> None:
    """Nothing runs any more; with `empty`, what is only in memory on most systems is gone as well.

    All stand still before one is killed: nobody is there to notice a death, and to start something on account of it.
    """
    assert site.process is not None
    stopped: set[int] = set()
    while fresh := processes(site.home).keys() - stopped:
        _signal(fresh, signal.SIGSTOP)
        stopped |= fresh
    _signal(stopped, signal.SIGKILL)
    with site.process:
        site.process.wait()
    for pid in stopped - {site.process.pid}:
        assert await_death(pid)
    site.process = None
    assert not processes(site.home)
    for cgroup in _cgroups(site):
        cgroup.rmdir()
    if empty:
        for path in site.home.run.rglob("*"):
            if not path.is_dir():
                path.unlink()


def _cgroups(site: Site) -> list[Path]:
    """The home's own, the deepest first."""
    name = containment.name(site.home.root, "any").partition("/")[0]
    found = [path for base in containment.cgroup_bases() for path in (base / name).glob("**/")]
    return sorted(set(found), key=lambda path: -len(path.parts))


def boot(site: Site) -> None:
    """Serve again, and believe in another boot: in a mount namespace of its own, where that can be had."""
    file = site.place.directory / "boot_id"
    file.write_text(f"{uuid.uuid4()}\n")
    prefix = ("unshare", "--mount", "sh", "-c", _BOOT, "sh", str(file))
    allowed = subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    site.boot = prefix if allowed else ()
    site.start()


def _signal(pids: Set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
