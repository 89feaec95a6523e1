"""The audit: who did what, from where, when, and what became of it."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

import pytest
from conftest import door_of
from deploying import App, Door, Site
from holding import holding, make_holdable

SECRET = "hunter2"


def entries(site: Site, app: App, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.json("audit", "--app", app.name, *more)
    return found


def test_who_cancelled_and_when_and_why(app: App, door: Door) -> None:
    """Requested, acknowledged and effective; a request that came too late is there too. `operation:show` says it."""
    site = app.site
    make_holdable(app)
    app.commit("one")
    with holding(app, "build", "one") as hold, app.pushing(door_of(site, "local")) as push:
        number = push.operation()
        hold.reached(push)
        door.run("operation:cancel", str(number), "--reason", "wrong branch")
        push.finish()
    door.run("operation:cancel", str(number), "--reason", "again", status=3)
    address = None if door.name == "local" else "127.0.0.1"
    came = "local" if door.name == "local" else "ssh"

    found = [each for each in entries(site, app) if each["operation"] == number]
    opened, cancel, ended, late = found
    assert (opened["verdict"], opened["door"], opened["address"]) == ("begun", "local", None)
    assert opened["what"].startswith("deploy ")
    assert (cancel["by"], cancel["door"], cancel["address"]) == (door.person, came, address)
    assert (cancel["what"], cancel["verdict"], cancel["reason"]) == ("operation:cancel", "now", "wrong branch")
    times = [datetime.fromisoformat(cancel[each]) for each in ("requested", "at", "effective")]
    assert times == sorted(times)
    assert cancel["effective"] == ended["at"]
    assert (ended["by"], ended["verdict"]) == ("safepoint", "cancelled")
    assert (late["verdict"], late["reason"], late["effective"]) == ("already ended", "again", None)

    assert site.operation(number)["audit"] == found
    said = site.run("operation:show", str(number)).stdout
    where = f"{came} from {address}" if address else came
    assert f"{door.person} ({where})  operation:cancel  now, effective " in said
    assert f"{door.person} ({where})  operation:cancel  already ended: again" in said


def test_what_is_no_operation_is_there_too(app: App) -> None:
    """Apps and configuration, with the names that were set and never the values; only what is about the app."""
    site = app.site
    site.run("config:set", app.name, f"PASSWORD={SECRET}", "COLOUR=blue")
    site.run("config:unset", app.name, "COLOUR")
    site.run("apps:on-busy", app.name, "reject")
    found = entries(site, app)
    assert [each["what"] for each in found] == [
        "apps:create", "config:set PASSWORD COLOUR", "config:unset COLOUR", "apps:on-busy reject",
    ]  # fmt: skip
    assert all(each["verdict"] == "done" and each["door"] == "local" and each["by"] for each in found)
    site.run("apps:destroy", app.name, "--yes")
    assert [each["verdict"] for each in entries(site, app)][-2:] == ["begun", "done"]
    assert SECRET not in site.run("audit").stdout
    assert SECRET not in site.run("audit", "--json").stdout


def test_keys_and_grants_are_about_the_server(own_site: Site) -> None:
    """Each change of who may do what, in order."""
    public = own_site.place.make_key("carol").with_name("carol.pub")
    own_site.run("keys:add", "carol", str(public), "--role", "deployer", "--app", "web*")
    own_site.run("keys:grant", "carol", "viewer")
    own_site.run("keys:revoke", "carol", "viewer")
    own_site.run("keys:revoke", "carol", "viewer", status=1)
    own_site.run("keys:remove", "carol")
    assert [each["what"] for each in own_site.json("audit")] == [
        "keys:add carol deployer web*", "keys:grant carol viewer *", "keys:revoke carol viewer", "keys:remove carol",
    ]  # fmt: skip
    assert own_site.run("audit").stdout.count("\n") == 4


def test_since_when(app: App) -> None:
    """A duration back from now, or a time; what is neither is refused."""
    site = app.site
    created = entries(site, app)[0]["at"]
    assert entries(site, app, "--since", "1h") == entries(site, app, "--since", created) == entries(site, app)
    assert entries(site, app, "--since", "2999-01-01") == []
    for wrong in ("", "yesterday", "1", "h", "-1h", "2026-13-01", "\x1b[31m"):
        done = site.run("audit", "--since", wrong, status=2)
        assert "is no time" in done.stderr
        assert done.stderr.replace("\n", "").isprintable()
    site.run("audit", "--app", "no-such-app", status=1)


def test_nobody_can_write_history_anew(app: App) -> None:
    """SQLite refuses it, whoever asks."""
    database = sqlite3.connect(app.site.home.database)
    try:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute("DELETE FROM audit")
    finally:
        database.close()
