"""Immutable records with named fields: what frozen dataclasses with slots are, but quicker to import.

`dataclasses` writes the source of each class's methods and compiles it, in every process that imports the class: for
ours that was some two fifths of the CPU time that a hook's imports took. Here the methods are written once, for all.
Type checkers know the rest from `dataclass_transform` (typing).
"""

from __future__ import annotations

from _operator import attrgetter  # `operator` without its own Python code

__all__ = ["Record", "asdict", "replace"]

TYPE_CHECKING = False  # typing's name for it, without typing, which every hook would pay for
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import asdict, replace  # their signatures, with which checkers know the fields
    from typing import Any, ClassVar, dataclass_transform
else:

    def dataclass_transform(**_):
        return lambda cls: cls

    def replace(record, /, **changes):
        """The same with other values in some fields."""
        return type(record)(**_items(record) | changes)

    def asdict(record):
        """Its fields by name, and so for records in them, and in their tuples, lists and dictionaries."""
        return _plain(record)


class _Class(type):
    """Makes the fields out of the annotations: all that are no ClassVar, after those of the base."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], *, kw_only: bool = False) -> _Class:
        annotations: dict[str, str] = body.get("__annotations__", {})
        own = tuple(field for field, kind in annotations.items() if not kind.startswith("ClassVar"))
        base = next((base for base in bases if isinstance(base, _Class)), None)
        fields: tuple[str, ...] = (*base._fields, *own) if base else own
        positional: tuple[str, ...] = base.__match_args__ if base else ()
        made = {
            "__slots__": own,
            "__match_args__": positional if kw_only else (*positional, *own),
            "_fields": fields,
            "_defaults": (base._defaults if base else {}) | {field: body[field] for field in own if field in body},
            "_values": staticmethod(_getter(fields)),
        }
        return super().__new__(cls, name, bases, {name: body[name] for name in body if name not in own} | made)

    if TYPE_CHECKING:
        __match_args__: tuple[str, ...]
        _fields: tuple[str, ...]
        _defaults: dict[str, Any]
        _values: Callable[[Any], tuple[Any, ...]]


def _getter(fields: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(fields) > 1:
        return attrgetter(*fields)
    return lambda record: tuple(getattr(record, name) for name in fields)  # attrgetter's would be no tuple


@dataclass_transform(frozen_default=True)
class Record(metaclass=_Class):
    """Equal to another of its own class with equal fields. A default is one value for all: nobody may change it."""

    if TYPE_CHECKING:
        __match_args__: ClassVar[tuple[str, ...]]
        _fields: ClassVar[tuple[str, ...]]
        _defaults: ClassVar[dict[str, Any]]
        _values: ClassVar[staticmethod[[Any], tuple[Any, ...]]]

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.__match_args__, values, strict=False)) | named
        complete = self._defaults | given
        fields = self._fields
        if len(given) != len(values) + len(named) or len(complete) != len(fields):
            raise _misfit(self, values, named)
        try:
            for name in fields:
                _set(self, name, complete[name])
        except KeyError:
            raise _misfit(self, values, named) from None

    def __setattr__(self, name: str, _value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return self._values(self) == self._values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values(self))

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in _items(self).items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), _items(self))  # copy and pickle would assign to the fields


_set = object.__setattr__


def _made(cls: type[Record], fields: dict[str, Any]) -> Record:
    return cls(**fields)


def _items(record: Record) -> dict[str, Any]:
    return dict(zip(record._fields, record._values(record), strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {name: _plain(each) for name, each in _items(value).items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _misfit(record: Record, values: tuple[Any, ...], named: dict[str, Any]) -> TypeError:
    return TypeError(
        f"{type(record).__qualname__}() has the fields {', '.join(record._fields)}, of which "
        f"{len(record.__match_args__)} may be given without a name; it was given {len(values)} without a name"
        f"{''.join(f', {name}' for name in named)}"
    )
