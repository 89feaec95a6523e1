"""The plans of rounds."""

from __future__ import annotations

from chaos.rounds import Blow, Deploy, Target, plan

ROUNDS = [plan(7, number) for number in range(500)]


def test_a_seed_says_it_all() -> None:
    """The same seed and number make the same round; another one makes another."""
    assert [plan(7, number) for number in range(500)] == ROUNDS
    assert plan(8, 0) != plan(7, 0) != plan(7, 1)


def test_a_night_has_everything() -> None:
    """500 rounds kill every target, by every blow, and play with every kind of deploy, door and policy."""
    strikes = [strike for each in ROUNDS for strike in each.strikes]
    pushes = [push for each in ROUNDS for push in each.pushes]
    assert {strike.target for strike in strikes} == set(Target)
    assert {strike.blow for strike in strikes} == set(Blow)
    assert {push.deploy for push in pushes} == set(Deploy)
    assert {push.door for push in pushes} == {"local", "embedded", "openssh"}
    assert {push.on_busy for push in pushes} == {"", "queue", "supersede", "reject"}
    assert any(cancel.force for each in ROUNDS for cancel in each.cancels)
    assert any(push.followers for push in pushes)
    assert any(push.dies_after == 0 for push in pushes)
    assert any(push.dies_after for push in pushes)
    assert any(strike.takes_ports for strike in strikes)
    assert any(strike.moment.event == "hook" for strike in strikes)


def test_moments_name_pushes_of_their_round() -> None:
    """A strike that could never come would only look like one."""
    for each in ROUNDS:
        for moment in [strike.moment for strike in each.strikes] + [cancel.moment for cancel in each.cancels]:
            assert 0 <= moment.push < len(each.pushes)
