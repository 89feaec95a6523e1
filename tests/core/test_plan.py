"""Plans: the order of their steps, and how they are written down."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core import plan as p
from safepoint.core.plan import FINISHING, Kind, OnCancel, Plan, ProcessIdentity, Step, deploy_steps, rollback_steps
from safepoint.core.settings import BeforeRelease, Build, Health, Settings

SECONDS = st.floats(min_value=0, max_value=86400)
SETTINGS = st.builds(
    Settings,
    build=st.builds(Build, command=st.text(), timeout=SECONDS),
    before_release=st.lists(
        st.builds(
            BeforeRelease,
            command=st.text(),
            undo=st.text(),
            timeout=SECONDS,
            on_cancel=st.sampled_from(["interrupt", "finish"]),
        ),
        max_size=3,
    ).map(tuple),
    health=st.builds(Health, path=st.text(), expect=st.text(), interval=SECONDS, timeout=SECONDS),
    watch=SECONDS,
    grace=SECONDS,
)
STEPS = st.lists(st.builds(Step, name=st.text(), on_cancel=st.sampled_from(OnCancel)), max_size=5).map(tuple)
PLANS = st.builds(
    Plan,
    kind=st.sampled_from(Kind),
    app=st.text(),
    branch=st.text(),
    release=st.integers(),
    commit=st.text(),
    steps=STEPS,
    finishing=STEPS,
    settings=SETTINGS,
    processes=st.dictionaries(st.text(), st.text(), max_size=3),
    previous_commit=st.text(),
    previous_release=st.none() | st.integers(),
    receiver=st.none() | st.builds(ProcessIdentity, pid=st.integers(), started=st.integers(), boot=st.text()),
    attach=st.booleans(),
    build=st.lists(st.text(), max_size=3).map(tuple),
)


@given(PLANS)
def test_a_plan_comes_back_from_json_as_it_was(plan: Plan) -> None:
    """Recovery reads the very plan that was opened."""
    back = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert back == plan
    assert all(isinstance(step.on_cancel, OnCancel) for step in (*back.steps, *back.finishing))
    assert list(back.processes) == list(plan.processes)


SOME = Settings(before_release=(BeforeRelease("migrate"), BeforeRelease("index", on_cancel="finish")))


def test_a_pushed_deploy_waits_for_its_objects_first() -> None:
    """The order of a deploy, with one step a pre-release command."""
    assert [step.name for step in deploy_steps(SOME, pushed=True)] == [
        "receive", "export", "build", "before_release.1", "before_release.2", "start", "health", "switch", "watch",
    ]  # fmt: skip


def test_a_deploy_of_what_is_there_has_nothing_to_receive() -> None:
    """The other steps stay."""
    assert deploy_steps(SOME, pushed=False) == deploy_steps(SOME, pushed=True)[1:]


def test_a_rollback_neither_exports_nor_builds() -> None:
    """A kept release only has to be run again."""
    assert [step.name for step in rollback_steps()] == ["start", "health", "switch", "watch"]


def test_the_switch_finishes_first_and_so_does_what_asks_for_it() -> None:
    """Everything else may be interrupted."""
    finish = {step.name for step in deploy_steps(SOME, pushed=True) if step.on_cancel is OnCancel.FINISH}
    assert finish == {"switch", "before_release.2"}


def test_a_push_does_not_hold_its_deploy_unless_it_asks_to() -> None:
    """Losing the client is no reason to cancel, by default."""
    assert Plan(Kind.DEPLOY, "shop", "main", 3, "c" * 40, (), FINISHING, SOME, {}).attach is False


def test_the_names_of_steps_are_unique() -> None:
    """A step is found by its name, before and after the commit."""
    names = [step.name for step in (*deploy_steps(SOME, pushed=True), *FINISHING)]
    assert len(set(names)) == len(names)


@given(st.integers(min_value=0, max_value=1000))
def test_a_pre_release_step_leads_back_to_its_command(index: int) -> None:
    """Its name counts from 1, its index from 0."""
    assert p.before_release_index(p.before_release_step(index)) == index


def test_a_step_that_is_not_there_is_not_found() -> None:
    """Never another one in its place."""
    plan = Plan(Kind.ROLLBACK, "shop", "main", 3, "c" * 40, rollback_steps(), FINISHING, SOME, {})
    assert plan.step("switch").on_cancel is OnCancel.FINISH
    assert plan.step("retire") in FINISHING
    with pytest.raises(StopIteration):
        plan.step("build")
