"""Whether what should run does: `serve` and its daemons, operations, and the current releases."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress

from safepoint import server_settings
from safepoint.core import findings as f
from safepoint.core import wording
from safepoint.core.events import Ending
from safepoint.core.operation import Operation
from safepoint.core.output_limit import VARIABLE, size
from safepoint.core.slots import slot_of
from safepoint.drivers.haproxy import HAProxy
from safepoint.drivers.supervisord import Supervisord
from safepoint.processes import identity
from safepoint.state import pidfile
from safepoint.state.paths import Home, short
from safepoint.state.store import Store

_START = "start it with `safepoint serve`"
_SECONDS = 10.0
"""For an answer on this machine."""


def serve(home: Home, store: Store) -> Iterable[f.Finding]:
    if not _listens(home):
        yield f.problem("serve", "`safepoint serve` does not run", _START)
        return
    address, _, port = (store.setting("ssh") or "").rpartition(" ")
    if not port:
        yield f.ok("serve", "`safepoint serve` runs")
    elif banner := _banner(address, int(port)):
        yield f.ok("serve", f"`safepoint serve` runs, and answers ssh at {address} port {port} ({banner})")
    else:
        text = f"`safepoint serve` runs, but does not answer ssh at {address} port {port}"
        yield f.problem("serve", text, f"see {home.log}, and start it again")


def daemons(home: Home, _store: Store) -> Iterable[f.Finding]:
    runtime, router = Supervisord(home), HAProxy(home)
    pid = runtime.pid()
    if pid is None:
        yield f.problem("supervisord", "supervisord, which runs the apps, does not run", _START)
    else:
        yield f.ok("supervisord", f"supervisord runs {_count(len(runtime.groups()), 'release')} (process {pid})")
    listening = router.listening()
    if listening is None:
        yield f.problem("HAProxy", "HAProxy, which routes to the apps, does not run", _START)
    else:
        yield f.ok("HAProxy", f"HAProxy listens at {listening[0]} port {listening[1]}")


def operations(home: Home, store: Store) -> Iterable[f.Finding]:
    stuck = [op for app in store.apps() if (op := store.unfinished(app.name)) and op.ending is Ending.STUCK]
    for op in stuck:
        yield f.problem("operations", wording.closing(op), f"see `operation:show {op.id}`, then `recover {op.id}`")
    open_ones = store.running()
    dead = [op for op in open_ones if not _has_worker(home, op)]
    for op in dead:
        text = f"operation {op.id} of {op.app} has not ended, and its process is dead"
        yield f.warning("operations", text, "a running `safepoint serve` finishes it at once, and so does `recover`")
    if not stuck and not dead:
        yield f.ok("operations", f"operations under way: {len(open_ones)}; none is stuck")


def releases(home: Home, store: Store) -> Iterable[f.Finding]:
    """Every process of each current release is up."""
    runtime, count = Supervisord(home), 0
    if not runtime.running():
        return
    for app in store.apps():
        release = store.current_release(app.name)
        if release is None:
            continue
        count += 1
        found = {status.name: status for status in runtime.status(app.name, release.number)}
        if not found and release.processes:
            yield f.problem("releases", f"{app.name} v{release.number} does not run", "see safepoint.log")
        for status in found.values():
            if not status.running:
                text = f"{status.name} of {app.name} v{release.number} does not run: {status.detail}"
                yield f.problem("releases", text, f"deploy {app.name} again, or roll back")
    yield f.ok("releases", f"apps that have a release: {count} of {len(store.apps())}")


def output(home: Home, store: Store) -> Iterable[f.Finding]:
    files = list((home.root / "operations").glob("*.log"))
    used = sum(path.stat().st_size for path in files)
    limit = size(server_settings.kept_output(store))
    text = f"of each operation {limit} of output are kept ({VARIABLE}); all {len(files)} take {size(used)}"
    yield f.ok("output", text)


def _listens(home: Home) -> bool:
    """Asked of its inbox, since trying its lock might keep a `serve` that is just starting from having it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
        with short(home.serve_socket) as name:
            sock.connect(name)
        return True
    return False


def _banner(address: str, port: int) -> str:
    with suppress(OSError), socket.create_connection((address, port), _SECONDS) as connection:
        connection.settimeout(_SECONDS)
        line = connection.recv(256).decode(errors="replace").strip()
        return line if line.startswith("SSH-2.0-") else ""
    return ""


def _has_worker(home: Home, op: Operation) -> bool:
    signed = pidfile.read(home.pidfile(slot_of(op)))
    return signed is not None and signed[1] == op.id and identity.alive(signed[0])


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
