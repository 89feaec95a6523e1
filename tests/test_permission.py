"""Who may do what, decided in one place, against a real store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from safepoint import permission
from safepoint.core.audit import DENIED
from safepoint.core.doors import Door
from safepoint.core.plan import Kind, Plan
from safepoint.core.queueing import OnBusy
from safepoint.core.roles import VERBS, Action, Grant, Role
from safepoint.core.settings import Settings
from safepoint.errors import NoSuchOperation, NotFound, NotPermitted
from safepoint.people import Visitor
from safepoint.state.paths import Home
from safepoint.state.store import Store

ADDRESS = "192.0.2.7"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(Home(tmp_path / "home")) as store:
        store.create_app("web", "main")
        store.create_app("shop", "main")
        yield store


def visitor(store: Store, name: str, *grants: Grant) -> Visitor:
    """Somebody with a key and these grants only."""
    store.add_key(name, "ssh-ed25519", name.encode())
    store.revoke(name, None, None)
    for grant in grants:
        store.grant(name, grant)
    return Visitor(name, Door.ssh("git", "::1", 22, ADDRESS), name)


def opened(store: Store, by: str, app: str = "web", door: str = "ssh") -> int:
    plan = Plan(
        kind=Kind.DEPLOY, app=app, branch="main", release=1, commit="c" * 40, steps=(), finishing=(),
        settings=Settings(), processes={}, previous_commit="", previous_release=None,
    )  # fmt: skip
    return store.insert_operation(plan, by=by, door=door, reason="", environment={})


def test_the_servers_own_shell_may_do_everything(store: Store) -> None:
    """It has no key: it is the server's Unix user, to whom all of it belongs."""
    root = Visitor("root", Door.local("/srv"))
    for verb in (*VERBS, "serve"):
        permission.require(store, root, verb, app="web")
    assert permission.sees_all(store, root)


def test_what_one_may_not_see_does_not_exist(store: Store) -> None:
    """The same sentence, hint and exit status as for what is not there, whatever the verb."""
    mallory = visitor(store, "mallory", Grant(Role.ADMIN, "mine-*"))
    hidden = opened(store, "alice")
    for verb in ("operation:show", "operation:cancel", "recover"):
        with pytest.raises(NoSuchOperation) as seen:
            permission.require(store, mallory, verb, operation=hidden)
        with pytest.raises(NoSuchOperation) as missing:
            permission.require(store, mallory, verb, operation=hidden + 1)
        assert str(seen.value).replace(f"{hidden}", "N") == str(missing.value).replace(f"{hidden + 1}", "N")
        assert seen.value.exit_code == missing.value.exit_code == 6
    for verb in ("deploy", "releases", "config:set", "apps:destroy", "git-receive-pack", "git-upload-pack"):
        with pytest.raises(NotFound) as caught:
            permission.require(store, mallory, verb, app="web")
        with pytest.raises(NotFound) as absent:
            store.need_app("nope")
        assert str(caught.value).replace("web", "nope") == str(absent.value)


def test_creating_says_nothing_of_what_is_there(store: Store) -> None:
    """The name of a hidden app and one that is free are refused alike."""
    mallory = visitor(store, "mallory", Grant(Role.ADMIN, "mine-*"))
    permission.require(store, mallory, "apps:create", app="mine-1")
    for name in ("web", "free"):
        with pytest.raises(NotPermitted):
            permission.require(store, mallory, "apps:create", app=name)


def test_one_cancels_ones_own_and_an_operator_anyones(store: Store) -> None:
    """A Unix user of the same name is somebody else."""
    carol = visitor(store, "carol", Grant(Role.DEPLOYER))
    bob = visitor(store, "bob", Grant(Role.OPERATOR, "web"))
    own, other, local = (opened(store, *each) for each in (("carol",), ("bob", "shop"), ("carol", "x", "local")))
    permission.require(store, carol, "operation:cancel", operation=own)
    for number in (other, local):
        with pytest.raises(NotPermitted) as caught:
            permission.require(store, carol, "operation:cancel", operation=number)
        assert caught.value.exit_code == 5
        assert "operator" in str(caught.value)
    permission.require(store, bob, "operation:cancel", operation=own)
    with pytest.raises(NoSuchOperation):
        permission.require(store, bob, "operation:cancel", operation=other)


def test_superseding_is_cancelling(store: Store) -> None:
    """By one's own choice it takes the same right; where the app does it by itself, an operator has decided so."""
    carol, app = visitor(store, "carol", Grant(Role.DEPLOYER)), store.need_app("web")
    running = opened(store, "bob")
    with pytest.raises(NotPermitted):
        permission.superseding(store, carol, app, OnBusy.SUPERSEDE)
    permission.superseding(store, carol, app, OnBusy.QUEUE)(running)
    store.set_on_busy("web", OnBusy.SUPERSEDE)
    permission.superseding(store, carol, store.need_app("web"), OnBusy.SUPERSEDE)(running)
    check = permission.superseding(store, carol, store.need_app("shop"), OnBusy.SUPERSEDE)
    with pytest.raises(NotPermitted):  # what began between the look and the lock is seen too
        check(running)


def test_a_verb_that_nobody_knows_is_the_servers(store: Store) -> None:
    """Whoever comes with a key, even an admin."""
    admin = visitor(store, "admin", Grant(Role.ADMIN))
    for verb in ("serve", "shell", "authorized-keys", "hooks:install"):
        with pytest.raises(NotPermitted):
            permission.require(store, admin, verb)


def test_a_key_without_a_grant_may_do_nothing(store: Store) -> None:
    """Revoked is revoked, at once; a key that is removed takes its grants along."""
    dave = visitor(store, "dave")
    with pytest.raises(NotFound):
        permission.require(store, dave, "git-upload-pack", app="web")
    assert not permission.allowed(store, dave, Action.VIEW)("web")
    store.grant("dave", Grant(Role.ADMIN))
    permission.require(store, dave, "keys")
    store.remove_key("dave")
    with pytest.raises(NotPermitted, match="has been removed"):
        permission.require(store, dave, "git-upload-pack", app="web")
    store.add_key("dave", "ssh-ed25519", b"new")
    assert store.grants("dave") == (Grant(Role.OPERATOR),)


def test_a_grant_takes_the_place_of_the_one_for_the_same_apps(store: Store) -> None:
    """So granting less takes something away, as it says."""
    visitor(store, "erin", Grant(Role.ADMIN), Grant(Role.DEPLOYER, "web"))
    store.grant("erin", Grant(Role.VIEWER))
    assert store.grants("erin") == (Grant(Role.VIEWER), Grant(Role.DEPLOYER, "web"))
    assert store.revoke("erin", Role.DEPLOYER, "shop") == 0
    assert store.revoke("erin", Role.DEPLOYER, None) == 1
    with pytest.raises(NotFound):
        store.grant("nobody", Grant(Role.VIEWER))


def test_what_is_denied_is_in_the_audit(store: Store) -> None:
    """Who, from where, what and why."""
    carol = visitor(store, "carol", Grant(Role.VIEWER))
    with pytest.raises(NotPermitted):
        permission.require(store, carol, "config:set", app="web")
    (entry,) = store.audit("web")
    assert (entry.by, entry.door, entry.what, entry.verdict) == ("carol", f"ssh {ADDRESS}", "config:set", DENIED)
    assert "operator" in entry.reason
    assert entry.effective is None
    with pytest.raises(NotFound):
        permission.require(store, visitor(store, "dave"), "deploy", app="\x1b[31m" * 1000)
    hostile = list(store.audit(""))[-1]
    assert len(hostile.reason) <= 200


def test_history_is_append_only(store: Store) -> None:
    """Whatever a defect may try: SQLite itself refuses it."""
    number = opened(store, "alice")
    store.add_audit(by="a", door="local", app="web", what="x", verdict="done")
    with store.transaction() as db:
        db.execute("INSERT INTO events VALUES (?, 1, ?)", (number, '{"type":"received","at":1.0}'))
    for statement in (
        "DELETE FROM audit",
        "UPDATE audit SET by = 'b'",
        "DELETE FROM events",
        "UPDATE events SET event = '{}'",
        "DELETE FROM operations",
        "UPDATE operations SET by = 'b'",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"), store.transaction() as db:
            db.execute(statement)
