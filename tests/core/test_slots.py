"""The two slots of an app."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core import events as e
from safepoint.core.names import app_name
from safepoint.core.operation import Header, opened, replay
from safepoint.core.plan import FINISHING, Kind, Plan, rollback_steps
from safepoint.core.settings import Settings
from safepoint.core.slots import app_of, running_slot, slot_of, waiting_slot
from safepoint.errors import UsageError
from safepoint.record import replace

APPS = st.from_regex(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?", fullmatch=True)
PLAN = Plan(Kind.ROLLBACK, "shop", "main", 3, "c" * 40, rollback_steps(), FINISHING, Settings(), {})
HEADER = Header(id=7, by="alice", door="local", opened=1.0)


@given(APPS, APPS)
def test_no_two_slots_share_a_name(one: str, other: str) -> None:
    """Of one app or of two; each leads back to its app."""
    slots = [(app, kind(app)) for app in {one, other} for kind in (running_slot, waiting_slot)]
    assert len({slot for _, slot in slots}) == len(slots)
    assert all(app_of(slot) == app for app, slot in slots)


def test_no_app_can_be_named_like_a_slot_of_another() -> None:
    """The names of apps have no dots."""
    assert app_name(running_slot("shop")) == "shop"
    with pytest.raises(UsageError):
        app_name(waiting_slot("shop"))


def test_the_worker_of_what_waits_is_in_the_waiting_slot() -> None:
    """It moves when it begins, and what was never queued is never there; whoever ends without beginning stays."""
    queued = replace(HEADER, queued=True)
    begun = e.Begun(at=2.0, plan=PLAN.to_json())
    refused = e.Refused(at=2.0, reason="fetch first")
    assert slot_of(opened(HEADER, PLAN)) == "shop"
    assert slot_of(opened(queued, PLAN)) == "shop.next"
    assert slot_of(replay(queued, PLAN, [e.WorkerDied(at=2.0)])) == "shop.next"
    assert slot_of(replay(queued, PLAN, [refused])) == "shop.next"
    assert slot_of(replay(queued, PLAN, [begun])) == "shop"
