"""How what pushed code starts is kept together, and why not better."""

from __future__ import annotations

from collections.abc import Iterable

from safepoint.core import findings as f
from safepoint.processes import containment
from safepoint.processes.containment import Kind
from safepoint.state.paths import Home
from safepoint.state.store import Store

_MEANS = {
    Kind.CGROUP: "a cgroup of its own, all of which the kernel ends at once",
    Kind.PIDNS: "a PID namespace of its own, all of which ends with its first process",
    Kind.SUBREAPER: "the care of a subreaper: each process is found by its descent and ended",
}


def in_use(home: Home, store: Store) -> Iterable[f.Finding]:
    forced = store.setting(containment.FORCED) or ""
    kind = containment.chosen(home.root, forced)
    why = [f"by {each}: {containment.obstacle(each, home.root)}" for each in Kind if each is not kind]
    better = why[: list(Kind).index(kind)]
    text = f"each command of pushed code runs in {_MEANS[kind]}"
    if forced:
        text += f" (as {containment.FORCED} says)"
    elif better:
        text += f" (not {'; not '.join(better)})"
    if kind is Kind.SUBREAPER:
        advice = "" if forced else "let this user have a cgroup: systemd's Delegate=yes, or run as root"
        yield f.warning("containment", text, advice)
    else:
        yield f.ok("containment", text)
