"""What all tests share: one served home a process of the test run, and apps of their own on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploying import DOORS, QUICK, App, Door, Site, numbers, site
from deploying import outside as outside_of

from safepoint.engine.latch import CancelLatch


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A served home with an sshd beside it. Tests share it, so each makes apps of its own and leaves it serving."""
    with site(tmp_path_factory.mktemp("site"), doors=True) as running:
        yield running


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """A served home for a test that stops it, kills it or looks at all of it."""
    with site(tmp_path) as running:
        yield running


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, shared_site: Site) -> Door:
    """Each door of the shared site, as alice."""
    return door_of(shared_site, request.param)


def new_name() -> str:
    """For an app: what belongs to one is looked for on the whole machine, where other tests and their apps may run."""
    return f"app{next(numbers)}-{os.getpid():x}"


def door_of(site: Site, name: str, person: str = "alice") -> Door:
    return Door(name, site, site.place.directory / person)


@pytest.fixture
def latch() -> Iterator[CancelLatch]:
    """What a cancel sets, of nobody's operation."""
    latch = CancelLatch()
    yield latch
    latch.close()


@pytest.fixture
def outside() -> Path:
    """Where pushed code may write, and the test sees it."""
    return outside_of(new_name())


@pytest.fixture
def make_app(shared_site: Site, tmp_path: Path) -> Callable[..., App]:
    """Makes an app on the shared site: make_app(settings="...")."""

    def make(settings: str = QUICK) -> App:
        name = new_name()
        return App.create(shared_site, name, tmp_path / name, settings)

    return make


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    return make_app()
