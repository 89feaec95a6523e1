"""The names that people give to apps and keys, validated in this one place. Pure.

A name becomes a directory, a host name, a word of a command line and a line of authorized_keys: nothing but these
characters may get that far.
"""

from __future__ import annotations

import re

from safepoint.errors import UsageError

_APP = re.compile(r"[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")


def app_name(text: str) -> str:
    """`text`, where it is the name of an app: a DNS label, since it answers at `NAME.localhost`. Raises UsageError."""
    if not _APP.fullmatch(text):
        raise UsageError(
            f"{shown(text)} cannot be the name of an app",
            "it has to be 1 to 30 of a-z, 0-9 and -, begin with a letter and not end in -",
        )
    return text


def key_name(text: str) -> str:
    """`text`, where it is the name of a key. Raises UsageError."""
    if not _KEY.fullmatch(text):
        raise UsageError(
            f"{shown(text)} cannot be the name of a key",
            "it has to be 1 to 60 letters, digits, and . _ @ -, and begin with a letter or digit",
        )
    return text


def shown(text: str, limit: int = 60) -> str:
    """Hostile text as a part of a sentence: quoted, escaped and cut to `limit` characters."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")
