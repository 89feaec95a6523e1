"""What keeps pushed code from what is not its own, and what does not."""

from __future__ import annotations

from collections.abc import Iterable

from safepoint.core import findings as f
from safepoint.processes import isolation, limits
from safepoint.state.paths import Home
from safepoint.state.store import Store


def of_pushed_code(home: Home, _store: Store) -> Iterable[f.Finding]:
    for about, (as_wished, text) in (
        *(("isolation", found) for found in isolation.describe(home.root)),
        ("limits", limits.describe(home.root)),
    ):
        yield (f.ok if as_wished else f.warning)(about, text.removesuffix("."))
