"""The journal's records, and how they are written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core import events as e

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "at": st.floats(min_value=0, max_value=1e11),
    "step": st.text(max_size=20),
    "data": st.dictionaries(st.text(), JSON, max_size=3),
    "warnings": st.lists(st.text(), max_size=3).map(tuple),
    "reason": st.text(),
    "by": st.text(),
    "door": st.text(),
    "requested": st.none() | st.floats(min_value=0, max_value=1e11),
    "plan": st.dictionaries(st.text(), JSON, max_size=3),
    "operation": st.integers(min_value=1),
    "verdict": st.sampled_from(e.Verdict),
    "force": st.booleans(),
    "ending": st.sampled_from(e.Ending),
}
CLASSES: list[type[e.Event]] = [
    each for each in vars(e).values() if isinstance(each, type) and issubclass(each, e.Event) and each.type
]


def built(kind: type[e.Event]) -> st.SearchStrategy[e.Event]:
    return st.builds(kind, **{name: FIELDS[name] for name in kind._fields})


def test_each_kind_of_event_has_a_name_of_its_own() -> None:
    """Seventeen kinds, seventeen names, all of them known to the reader."""
    assert {each.type: each for each in CLASSES} == e._TYPES
    assert len(CLASSES) == 17


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.type)
def test_an_event_comes_back_from_json_as_it_was(kind: type[e.Event]) -> None:
    """Through text and back: the same class, equal in every field."""

    @given(built(kind))
    def round_trip(event: e.Event) -> None:
        text = json.dumps(e.to_json(event), ensure_ascii=False)
        back = e.from_json(json.loads(text))
        assert type(back) is type(event)
        assert back == event

    round_trip()


def test_a_record_says_its_type_and_its_words() -> None:
    """The journal can be read by people and by other programs."""
    event = e.CancelRequested(at=3.5, by="alice", reason="wrong branch", verdict=e.Verdict.AFTER_STEP)
    assert e.to_json(event) == {
        "type": "cancel requested",
        "at": 3.5,
        "by": "alice",
        "reason": "wrong branch",
        "verdict": "after step",
        "force": False,
        "door": "",
        "requested": None,
    }


def test_what_is_read_back_has_real_verdicts_and_endings() -> None:
    """`is` works on them, not only `==`."""
    cancel = e.CancelRequested(at=1, by="", reason="", verdict=e.Verdict.NOW)
    again = e.from_json(json.loads(json.dumps(e.to_json(cancel))))
    assert isinstance(again, e.CancelRequested)
    assert again.verdict is e.Verdict.NOW
    ended = e.from_json({"type": "ended", "at": 1.0, "ending": "stuck"})
    assert isinstance(ended, e.Ended)
    assert ended.ending is e.Ending.STUCK


@pytest.mark.parametrize(
    "record",
    [
        {"type": "no such thing", "at": 1.0},
        {"at": 1.0},
        {"type": "ended", "at": 1.0, "ending": "well"},
        {"type": "step done", "at": 1.0},
        {"type": "worker died", "at": 1.0, "surplus": 1},
        {"type": "begun", "at": 1.0},
        {"type": "refused", "at": 1.0},
        {"type": "superseded", "at": 1.0},
    ],
)
def test_a_record_that_nobody_wrote_is_refused(record: dict[str, Any]) -> None:
    """A journal that cannot be understood is never guessed at."""
    with pytest.raises((KeyError, ValueError, TypeError)):
        e.from_json(record)


@pytest.mark.parametrize("verdict", list(e.Verdict))
def test_two_verdicts_are_a_yes(verdict: e.Verdict) -> None:
    """`now` and `after step` are promises; the others change nothing."""
    assert verdict.accepted is (verdict in (e.Verdict.NOW, e.Verdict.AFTER_STEP))
