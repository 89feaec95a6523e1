"""The store: what belongs together is changed together, and what is wrong with it is a sentence."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from state.plans import PLAN, deploy, open_operation

from safepoint.core import events as e
from safepoint.core.events import Ending
from safepoint.errors import NoSuchOperation, NotFound, UserError
from safepoint.record import replace
from safepoint.state.opening import AppBusy
from safepoint.state.paths import Home
from safepoint.state.store import Store


def test_a_home_is_private(store: Store) -> None:
    """It holds configuration, which is secret: nobody but its owner gets in."""
    home = store.home
    assert {path.stat().st_mode & 0o777 for path in (home.root, home.run, home.hooks)} == {0o700}
    assert home.database.stat().st_mode & 0o777 == 0o600


def test_what_is_no_home_is_a_sentence(tmp_path: Path) -> None:
    """Nothing is made by looking; what is damaged, or too new, is not touched."""
    home = Home(tmp_path / "home")
    with pytest.raises(NotFound, match="is not a Safepoint home; set SAFEPOINT_HOME or --home"):
        Store.open(home)
    assert not home.root.exists()
    home.root.mkdir()
    home.database.write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=r"cannot read .*safepoint\.db: file is not a database"):
        Store.open(home)
    home.database.unlink()
    with sqlite3.connect(home.database) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UserError, match="was written by a newer Safepoint; upgrade this one"):
        Store.open(home)


def test_the_first_commands_may_race(tmp_path: Path) -> None:
    """Each finds a whole database, and one of two equal names is refused."""
    home = Home(tmp_path / "home")

    def make(name: str) -> bool:
        with Store.create(home) as store:
            try:
                store.create_app(name, "main")
            except UserError:
                return False
            return True

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, ["one", "two", "one", "two", "one", "two", "one", "two"]))
    assert made.count(True) == 2


def test_an_app_has_one_operation_at_a_time(store: Store) -> None:
    """Until that has ended; a stuck one holds the app too. Other apps do not mind."""
    store.create_app("blog", "main")
    journal = open_operation(store)
    with pytest.raises(AppBusy) as busy:
        open_operation(store)
    assert busy.value.operation == journal.operation.id
    open_operation(store, replace(PLAN, app="blog"))
    assert [each.app for each in store.running()] == ["web", "blog"]

    journal.append(e.StepStarted(at=1.0, step="export"))
    journal.append(e.StepFailed(at=1.0, step="export", reason="no room"))
    journal.append(e.UndoStarted(at=1.0, step="export"))
    journal.append(e.UndoFailed(at=1.0, step="export", reason="no way"))
    journal.append(e.Ended(at=1.0, ending=Ending.STUCK))
    assert [each.app for each in store.running()] == ["blog"]
    assert store.unfinished("web") == journal.operation
    with pytest.raises(AppBusy):
        open_operation(store)

    journal.append(e.AppRemoved(at=2.0))
    assert store.unfinished("web") is None
    assert store.operation(journal.operation.id).ending is Ending.FAILED
    open_operation(store)


def test_operations_are_listed_newest_first_and_survive_their_app(store: Store) -> None:
    """History stays; releases and configuration go with the app."""
    numbers = [deploy(store, release) for release in (1, 2, 3)]
    store.change_config("web", {"A": "1"})
    assert [each.id for each in store.operations("web")] == numbers[::-1]
    assert [each.id for each in store.operations(limit=1)] == numbers[-1:]
    assert [(each.number, each.state) for each in store.releases("web")] == [(3, "current"), (2, "kept"), (1, "kept")]
    store.mark_pruned("web", 3)  # what runs cannot be
    store.mark_pruned("web", 1)
    assert [each.state for each in store.releases("web")] == ["current", "kept", "pruned"]
    assert store.ports_in_use() == {4711}
    assert store.next_release("web") == 4

    store.delete_app("web")
    store.create_app("web", "main")
    assert store.releases("web") == []
    assert store.config("web") == {}
    assert store.next_release("web") == 1
    assert [each.id for each in store.operations("web")] == numbers[::-1]
    with pytest.raises(NoSuchOperation) as unknown:
        store.operation(99)
    assert unknown.value.exit_code == 6


def test_names_and_keys_are_there_once(store: Store) -> None:
    """A key has one name: else nobody could say who pushed."""
    store.add_key("alice", "ssh-ed25519", b"blob")
    for name, blob, complaint in (
        ("alice", b"other", "there is already a key named alice"),
        ("bob", b"blob", "this key is there as alice"),
    ):
        with pytest.raises(UserError, match=complaint):
            store.add_key(name, "ssh-ed25519", blob)
    found = store.key_by_blob(b"blob")
    assert found is not None
    assert found == store.key("alice")
    store.remove_key("alice")
    assert store.keys() == []
    with pytest.raises(NotFound):
        store.remove_key("alice")
    with pytest.raises(UserError, match="there is already an app named web"):
        store.create_app("web", "main")


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    """An exception takes back what was written in it."""
    store.change_config("web", {"A": "1", "B": "2"})
    with pytest.raises(UnicodeError):
        store.change_config("web", {"A": None, "C": "\udcff"})
    assert store.config("web") == {"A": "1", "B": "2"}
    store.change_config("web", {"A": None, "B": "3"})
    assert store.config("web") == {"B": "3"}
