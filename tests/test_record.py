"""Records against what `dataclasses` makes of the same fields."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.record import Record, asdict, replace


class Point(Record):
    x: int
    y: object = 0
    note: str = ""
    kind: ClassVar[str] = "point"

    @property
    def text(self) -> str:
        return f"{self.kind} at {self.x}"


class Deep(Point):
    z: object = None


class Named(Record, kw_only=True):
    at: float
    data: Mapping[str, Any] = {}


class NamedDeep(Named, kw_only=True):
    step: str


class One(Record):
    only: str


class Empty(Record):
    pass


def as_dataclass(cls: type[Record], **options: bool) -> Any:
    """What `dataclasses` makes of the same annotations."""
    bases = tuple(as_dataclass(base, **options) for base in cls.__bases__ if base is not Record)
    body = {"__annotations__": cls.__annotations__} | {
        name: getattr(cls, name, None) for name in cls.__annotations__ if name == "kind"
    }
    body |= {name: value for name, value in cls._defaults.items() if name in cls.__annotations__ and name != "data"}
    if "data" in cls.__annotations__:
        body["data"] = dataclasses.field(default_factory=dict)
    made = type(cls.__name__, bases, body | {"__module__": __name__, "__qualname__": cls.__qualname__})
    return dataclasses.dataclass(frozen=True, slots=True, **options)(made)


PAIRS = [
    (Point, as_dataclass(Point)),
    (Deep, as_dataclass(Deep)),
    (Named, as_dataclass(Named, kw_only=True)),
    (NamedDeep, as_dataclass(NamedDeep, kw_only=True)),
    (One, as_dataclass(One)),
    (Empty, as_dataclass(Empty)),
]
VALUES = st.integers(0, 3) | st.text("ab", max_size=2) | st.just(None)
ARGUMENTS = st.tuples(
    st.lists(VALUES, max_size=5),
    st.dictionaries(st.sampled_from(["x", "y", "z", "note", "at", "data", "step", "only", "odd"]), VALUES, max_size=4),
)


def outcome(make: Any, arguments: tuple[list[Any], dict[str, Any]]) -> Any:
    """What comes of a call: the object, or that the call is wrong."""
    try:
        return make(*arguments[0], **arguments[1])
    except TypeError:
        return None


@pytest.mark.parametrize(("record", "data"), PAIRS)
@given(first=ARGUMENTS, second=ARGUMENTS)
def test_a_record_is_like_the_dataclass(record: Any, data: Any, first: Any, second: Any) -> None:
    """The same calls are right, and lead to the same fields, text, equality, hash and dictionary."""
    ours, theirs = outcome(record, first), outcome(data, first)
    assert (ours is None) == (theirs is None)
    if ours is None:
        return
    assert asdict(ours) == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs)
    other, their_other = outcome(record, second), outcome(data, second)
    assert (ours == other) == (theirs == their_other)
    assert outcome(hash, ([ours], {})) == outcome(hash, ([theirs], {}))
    changed = outcome(lambda **changes: replace(ours, **changes), ([], second[1]))
    expected = outcome(lambda **changes: dataclasses.replace(theirs, **changes), ([], second[1]))
    assert (None if changed is None else asdict(changed)) == (
        None if expected is None else dataclasses.asdict(expected)
    )


@pytest.mark.parametrize(("record", "data"), PAIRS)
def test_a_class_is_like_the_dataclass(record: Any, data: Any) -> None:
    """For `match`, and for memory: there are slots and no dictionary."""
    assert record.__match_args__ == data.__match_args__
    assert record._fields == tuple(field.name for field in dataclasses.fields(data))
    assert not hasattr(record, "__dict__") or "__dict__" not in dir(record)


def test_fields_cannot_be_assigned() -> None:
    """Neither a field nor anything else, and none can be deleted."""
    point = Point(1)
    for name in ("x", "kind", "other"):
        with pytest.raises(AttributeError, match=name):
            setattr(point, name, 2)
        with pytest.raises(AttributeError, match=name):
            delattr(point, name)
    assert (point, point.text) == (Point(1, 0, ""), "point at 1")


def test_records_of_other_classes_are_not_equal() -> None:
    """Not even where all the fields are, or one class is the other's base."""
    assert Point(1) != Deep(1)
    assert One("x") != ("x",)
    assert Empty() == Empty()


def test_a_record_can_be_copied_and_pickled() -> None:
    """Although its fields cannot be assigned."""
    deep = Deep(1, [Point(2)], z=One("x"))
    for made in (copy.copy(deep), copy.deepcopy(deep), pickle.loads(pickle.dumps(deep))):
        assert made == deep
        assert made is not deep
    assert copy.deepcopy(deep).y is not deep.y


def test_asdict_goes_into_what_is_in_the_fields() -> None:
    """Into records, and those in tuples, lists and dictionaries, which are copied."""
    inner = {"key": [One("a")]}
    found = asdict(Deep(1, (Point(2), inner), z=Empty()))
    assert found == {"x": 1, "y": ({"x": 2, "y": 0, "note": ""}, {"key": [{"only": "a"}]}), "note": "", "z": {}}
    assert found["y"][1] is not inner


def test_a_match_takes_positions_and_names() -> None:
    """As `core` does with events and decisions."""
    match Point(1, 2):
        case Point(x, y, note=""):
            assert (x, y) == (1, 2)
        case _:
            raise AssertionError


def test_a_wrong_call_says_what_is_right() -> None:
    """Like any call of a function."""
    with pytest.raises(TypeError, match=r"Point\(\) has the fields x, y, note, of which 3 .* 1 without a name, odd"):
        Point(1, odd=2)  # type: ignore[call-arg]
