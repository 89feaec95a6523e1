"""The words by which limits are set, and what is kept of them."""

from __future__ import annotations

import pytest

from safepoint.core.limits import Limits, changed
from safepoint.errors import UsageError


def test_set_and_taken_away() -> None:
    """Each word changes its own limit; an empty value takes it away."""
    first = changed(Limits(), ["memory=512M", "processes=200", "cpu=1.5"])
    assert first == Limits(512 * 1024**2, 200, 1.5)
    assert changed(first, ["memory=2G", "cpu="]) == Limits(2 * 1024**3, 200, None)
    assert changed(first, []) == first


def test_kept_as_json() -> None:
    """What is not limited is not there."""
    for limits in (Limits(), Limits(memory=16 * 1024**2), Limits(1024**3, 7, 0.25)):
        assert Limits.from_json(limits.to_json()) == limits
    assert Limits().to_json() == {}


def test_shown_as_it_is_written() -> None:
    """So that it can be given again."""
    for words in (
        "memory=512M processes=200 cpu=1.5",
        "memory=20G processes= cpu=",
        "memory=16385K processes=1 cpu=0.25",
    ):
        assert str(changed(Limits(), words.split())) == words


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("memory", "'memory' is no limit"),
        ("disk=1G", "'disk=1G' is no limit"),
        ("memory=512", "'512' is no amount of memory"),
        ("memory=-1M", "'-1M' is no amount of memory"),
        ("memory=1e9G", "'1e9G' is no amount of memory"),
        ("memory=\u0661M", "is no amount of memory"),
        ("memory=1M", "memory=1M is too little to start anything"),
        ("processes=0", "'0' is no number of processes"),
        ("processes=many", "'many' is no number of processes"),
        ("cpu=0", "'0' is no number of processors"),
        ("cpu=nan", "'nan' is no number of processors"),
        ("cpu=-1", "'-1' is no number of processors"),
    ],
)
def test_refused(word: str, says: str) -> None:
    """One sentence, and what to write instead."""
    with pytest.raises(UsageError, match="is ") as refused:
        changed(Limits(), [word])
    assert says in refused.value.message
    assert refused.value.hint
