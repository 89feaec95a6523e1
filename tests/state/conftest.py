"""A home with an app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from safepoint.state.paths import Home
from safepoint.state.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(Home(tmp_path / "home")) as store:
        store.create_app("web", "main")
        yield store
