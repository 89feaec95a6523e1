"""The lines by which OpenSSH lets our keys in, each with one forced command. Pure.

They are for a file of authorized_keys, and for sshd's AuthorizedKeysCommand (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from safepoint.core.keys import Key
from safepoint.errors import UserError


def lines(keys: Iterable[Key], command: Sequence[str]) -> str:
    """One line a key. `command` is what runs Safepoint with its home: the forced command is its `shell KEY`.

    Raises UserError where a word of it cannot be written in such a file.
    """
    return "".join(
        f"restrict,command={_quoted(shlex.join([*command, 'shell', key.name]))} {key.line}\n" for key in keys
    )


def select(keys: Iterable[Key], wanted: Sequence[str]) -> list[Key]:
    """The keys that sshd asks for by its tokens `%t %k`, `%k` or `%f`: the type, the base64 text, the fingerprint.

    All of them where it asks for none.
    """
    return [key for key in keys if not wanted or wanted[-1] in (key.line.split()[1], key.fingerprint)]


def _quoted(text: str) -> str:
    # sshd knows one escape in an option, \" for a quote; every other backslash stands for itself.
    if "\n" in text or "\r" in text or "\0" in text:
        raise UserError("a path with a line break cannot be written in authorized_keys", "move Safepoint's home")
    return '"' + text.replace('"', '\\"') + '"'
