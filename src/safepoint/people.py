"""Who somebody is: the name of the key they came with, or the Unix user at the server itself; and by which door."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from safepoint.core.doors import HOME_VARIABLE, KEY_VARIABLE, Door
from safepoint.record import Record


class Visitor(Record):
    name: str
    door: Door
    key: str | None = None
    """None: they are in the server's own shell, or push to a path, and so are the server's Unix user already."""


def visitor(home: str, environment: Mapping[str, str] = os.environ) -> Visitor:
    """Whoever runs this process. `home` is the root of the server's home, for the local door."""
    door = Door.from_environment({**environment, HOME_VARIABLE: home})
    key = environment.get(KEY_VARIABLE)
    return Visitor(who(), door) if key is None else Visitor(key, door, key)


def who() -> str:
    key = os.environ.get(KEY_VARIABLE)
    if key:
        return key
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
