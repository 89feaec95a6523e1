"""Ctrl-C, in every step and over every door: the deploy has not noticed."""

from __future__ import annotations

import pytest
from conftest import door_of
from deploying import App, Door, world
from holding import STEPS, holding, known, make_holdable


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_ends_the_push_and_not_the_deploy(app: App, door: Door, step: str) -> None:
    """It goes live, the branch moves, and whoever follows sees it all.

    Before the worker has been told that the objects are in place, it may end as failed instead: nothing has happened.
    """
    make_holdable(app)
    commit = app.commit("one")
    before = world(app)
    with holding(app, step, "one") as hold, app.pushing(door) as push:
        hold.reached(push)
        number = push.operation()
        push.interrupt()
        push.finish()
        assert push.process.returncode != 0
        hold.let_go()
    followed = door.run("operation:follow", str(number), status=None)
    ended = known(app.site, number)
    if ended.state == "failed" and step in ("quarantine", "receive"):
        assert followed.returncode == 1
        assert ended.failure == "the push ended before everything had arrived"
        assert world(app) == before
        app.push(door)
    else:
        assert followed.returncode == 0, followed.stdout
        assert f"safepoint | operation {number} succeeded: {app.name} now runs v1\n" in followed.stdout
        assert "safepoint | Exporting " in followed.stdout
    assert app.site.branch(app.name) == commit
    assert app.site.get(app.name) == (200, "one")


def test_ctrl_c_on_a_cancel_does_not_take_it_back(app: App, door: Door) -> None:
    """It stops the waiting only: what was accepted ends as cancelled."""
    make_holdable(app)
    app.commit("one")
    before = world(app)
    with holding(app, "start", "one") as hold, app.pushing(door_of(app.site, "embedded")) as push:
        hold.reached(push)
        number = push.operation()
        with door.running("operation:cancel", str(number)) as canceller:
            canceller.read_until(f"Cancelling operation {number} now")
            canceller.interrupt()
            canceller.finish()
            assert canceller.process.returncode != 0
        hold.let_go()
        push.finish()
    app.site.run("follow", str(number), status=3)
    assert world(app) == before
