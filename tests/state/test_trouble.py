"""What is written to a disk that is full: the sentence, and what goes on all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from breaking import Disk, small_disk
from state.plans import PLAN, open_operation

from safepoint.core import events as e
from safepoint.core.events import Ending
from safepoint.drivers.haproxy_files import Files
from safepoint.state.output import OutputLog
from safepoint.state.paths import Home
from safepoint.state.store import RESERVE, Store
from safepoint.state.trouble import CannotStore


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "home", 16) as found:
        yield found


@pytest.fixture
def store(disk: Disk) -> Iterator[Store]:
    with Store.create(Home(disk.path)) as store:
        store.create_app("web", "main")
        yield store


def test_a_full_disk_is_a_sentence(store: Store, disk: Disk) -> None:
    """Nothing was written; once there is space, the same store goes on."""
    disk.fill()
    with pytest.raises(CannotStore, match=rf"no space left on the disk of {disk.path}; free some, and try again"):
        store.change_config("web", {"KEY": "x" * 100_000})
    with pytest.raises(CannotStore, match="no space left on the disk of "):
        store.reserve()
    assert store.config("web") == {}
    disk.free()
    store.reserve()
    store.change_config("web", {"KEY": "x" * 100_000})
    assert store.config("web") == {"KEY": "x" * 100_000}


def test_what_is_set_aside_is_enough_for_an_operation(store: Store, disk: Disk) -> None:
    """From its first record to its last, also for who opens the store only now; and setting it aside again is free."""
    store.reserve()
    journal = open_operation(store)
    disk.fill()
    store.reserve()
    for step in PLAN.steps[:1]:
        journal.append(e.StepStarted(at=1.0, step=step.name, data={"text": "x" * 10_000}))
        journal.append(e.StepFailed(at=2.0, step=step.name, reason="y" * 10_000))
        journal.append(e.UndoStarted(at=3.0, step=step.name))
        journal.append(e.UndoDone(at=4.0, step=step.name))
    journal.append(e.Ended(at=5.0, ending=Ending.FAILED))
    with Store.open(store.home) as other:
        assert other.operation(journal.operation.id) == journal.operation
    assert store.home.database.with_name("safepoint.db-wal").stat().st_size == RESERVE


def test_output_that_has_no_space_is_left_out(disk: Disk) -> None:
    """And said to be, where it would have been. Nobody who writes it has to care."""
    log = OutputLog(disk.path / "42.log")
    log.write(b"first\n")
    disk.fill()
    log.write(b"x" * 10_000)
    log.say("nobody will know")
    disk.free()
    log.say("last")
    log.settle()
    log.close()
    first, *middle, missing, last = (disk.path / "42.log").read_text().splitlines()
    assert (first, last) == ("first", "safepoint | last")
    assert missing.startswith("safepoint | ")
    assert missing.endswith(" of output are missing here: No space left on device")
    assert all(set(line) == {"x"} for line in middle)


def test_output_that_cannot_be_made_is_made_later(disk: Disk) -> None:
    """As where no descriptor or inode is free."""
    place = disk.path / "operations"
    log = OutputLog(place / "42.log")
    log.say("lost")
    place.mkdir()
    log.say("kept")
    log.close()
    assert (place / "42.log").read_text().splitlines()[1:] == ["safepoint | kept"]


def test_routes_can_be_changed_on_a_full_disk(disk: Disk) -> None:
    """The undo of a switch must not need space: each text has the place of the one before the last."""
    home = Home(disk.path)
    home.run.mkdir()
    files = Files(home)
    files.write_routes({})
    files.write_routes({"web": 1})
    disk.fill()
    for port in (2, 3, 40_000, 5):
        files.write_routes({"web": port})
        assert files.read_routes() == {"web": port}
    assert sorted(each.name for each in home.run.iterdir()) == ["routes.map", "routes.map.new"]
