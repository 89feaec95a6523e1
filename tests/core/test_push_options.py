"""What a pusher may ask for, and what becomes of everything else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core.push_options import MAX_REASON, PushOptions, from_environment, parse
from safepoint.core.queueing import OnBusy
from safepoint.errors import UsageError

EVERY = ("on-busy=queue", "on-busy=supersede", "on-busy=reject", "no-wait", "attach", "reason=TEXT")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], PushOptions()),
        (["on-busy=queue"], PushOptions(on_busy=OnBusy.QUEUE)),
        (["on-busy=supersede"], PushOptions(on_busy=OnBusy.SUPERSEDE)),
        (["on-busy=reject"], PushOptions(on_busy=OnBusy.REJECT)),
        (["no-wait"], PushOptions(no_wait=True)),
        (["attach"], PushOptions(attach=True)),
        (["reason=hot fix"], PushOptions(reason="hot fix")),
        (["reason=a=b"], PushOptions(reason="a=b")),
        (["reason= two\n\tlines "], PushOptions(reason="two lines")),
        (["on-busy=queue", "on-busy=reject"], PushOptions(on_busy=OnBusy.REJECT)),
        (["no-wait", "no-wait"], PushOptions(no_wait=True)),
        (
            ["on-busy=supersede", "attach", "reason=ISSUE 12"],
            PushOptions(on_busy=OnBusy.SUPERSEDE, attach=True, reason="ISSUE 12"),
        ),
    ],
)
def test_each_option(options: list[str], expected: PushOptions) -> None:
    """In any order; of those that say the same the last one counts."""
    assert parse(options) == expected


@pytest.mark.parametrize(
    "option",
    [
        "", "=", "nowait", "no-wait=", "no-wait=1", "NO-WAIT", " no-wait", "no-wait ", "attach=yes", "attach\n",
        "on-busy", "on-busy=", "on-busy=QUEUE", "on-busy=queue ", "on-busy=wait", "on-busy=queue=reject",
        "on_busy=queue", "reason", "reason=", "reason=  \t", "REASON=x", "ci.skip", "--force", "force",
    ],
)  # fmt: skip
def test_an_unknown_option_is_refused_with_the_list(option: str) -> None:
    """One that is known included: it may be the second of two."""
    with pytest.raises(UsageError) as refused:
        parse(["attach", option])
    assert refused.value.message.startswith("there is no push option ")
    assert all(each in refused.value.hint for each in EVERY)


def test_one_cannot_leave_and_stay() -> None:
    """`no-wait` ends the push, and with `attach` its end would be the deploy's."""
    with pytest.raises(UsageError, match="no-wait and attach exclude each other"):
        parse(["attach", "no-wait"])


@pytest.mark.parametrize(
    "option", ["\x1b[31mred\x1b[0m", "a\nremote: deployed\n", "\udcff\x00", "x" * 100_000, "\u202e"]
)
def test_a_hostile_option_is_shown_harmlessly(option: str) -> None:
    """In one line of plain characters that is not long."""
    with pytest.raises(UsageError) as refused:
        parse([option])
    text = str(refused.value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 700


@given(st.lists(st.text() | st.sampled_from(EVERY) | st.text().map("reason={}".format), max_size=6))
def test_whatever_is_asked_is_understood_or_refused(options: list[str]) -> None:
    """With a UsageError and nothing else; what is kept of it is bounded and on one line."""
    try:
        asked = parse(options)
    except UsageError:
        return
    assert len(asked.reason) <= MAX_REASON
    assert len(asked.reason.splitlines()) <= 1
    assert not (asked.no_wait and asked.attach)


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({}, []),
        ({"GIT_PUSH_OPTION_COUNT": "0"}, []),
        ({"GIT_PUSH_OPTION_COUNT": "0", "GIT_PUSH_OPTION_0": "attach"}, []),
        (
            {"GIT_PUSH_OPTION_COUNT": "2", "GIT_PUSH_OPTION_0": "no-wait", "GIT_PUSH_OPTION_1": "reason=a b"},
            ["no-wait", "reason=a b"],
        ),
        ({"GIT_PUSH_OPTION_COUNT": "1"}, [""]),
    ],
)
def test_git_hands_options_over_in_the_environment(environment: dict[str, str], options: list[str]) -> None:
    """As many as it counts."""
    assert from_environment(environment) == options


@pytest.mark.parametrize(
    "count", ["-1", "101", "999999999999", "9" * 5000, "1e3", "٣", " 1", "", "0x1", "000000999999999", "0" * 5000]
)
def test_a_count_that_is_not_gits_is_refused(count: str) -> None:
    """And at once: nobody counts to it."""
    with pytest.raises(UsageError):
        from_environment({"GIT_PUSH_OPTION_COUNT": count})


@given(st.text())
def test_no_count_makes_more_than_a_hundred_options(count: str) -> None:
    """Whatever it is."""
    with suppress(UsageError):
        assert len(from_environment({"GIT_PUSH_OPTION_COUNT": count})) <= 100
