"""What somebody asks for over ssh: the one request type behind both servers. Pure.

No shell ever sees the command line. It is split here, and everything that is not known is refused.
"""

from __future__ import annotations

import re
import shlex

from safepoint.core.names import app_name, shown
from safepoint.errors import NotPermitted, UsageError
from safepoint.record import Record

MAX_COMMAND = 8 * 1024
"""Bytes."""
MAX_WORDS = 100

GIT_VERBS = ("git-receive-pack", "git-upload-pack")
NOUNS = ("apps", "config", "keys", "operation", "releases")
"""A list of what is allowed: a noun that is added to the CLI stays on the server until somebody lists it here."""
WORDS = (*NOUNS, "audit", "cancel", "deploy", "follow", "limits", "logs", "recover")
SERVER_ONLY = ("authorized-keys", "demo", "doctor", "hooks", "serve", "shell")
"""Known, and refused with a better sentence than a word that nobody knows."""

ARGUMENTS_VARIABLE = "SAFEPOINT_ARGUMENTS"
"""How an operator's verb gets its arguments, a list in JSON: `config:set` has secrets among them."""

_VERB = re.compile(r"([a-z]+):[a-z]+(?:-[a-z]+)*")
_REPOSITORY = re.compile(r"(?:/|~/)?([^/]+?)(?:\.git)?/?")


class Request(Record):
    key: str
    """The name of the key that it came with."""
    verb: str
    """One of GIT_VERBS, or an operator's verb as the CLI knows it."""
    app: str = ""
    """The app whose repository a git verb is about."""
    arguments: tuple[str, ...] = ()
    """Those of an operator's verb, for the CLI to judge."""


def parse(key: str, command_line: str | None) -> Request:
    """`command_line` is None where somebody wants a shell. Raises UsageError and NotPermitted: one sentence."""
    if command_line is None or not command_line.strip():
        raise NotPermitted(
            f"Hi {key}! You have authenticated, and there is no shell here",
            "try `ssh ... operation:list`, or `git push`",
            exit_code=1,
        )
    words = _words(command_line)
    if words[0] == "git" and len(words) > 1:
        words = [f"git-{words[1]}", *words[2:]]
    verb, arguments = words[0], tuple(words[1:])
    if verb in GIT_VERBS:
        return Request(key, verb, app=_app(verb, arguments))
    _permitted(verb)
    for word in arguments:
        if word == "--home" or word.startswith("--home="):
            raise NotPermitted("--home cannot be given over ssh")
    return Request(key, verb, arguments=arguments)


def _words(line: str) -> list[str]:
    try:
        size = len(line.encode())
    except UnicodeEncodeError:  # undecodable bytes come as surrogates
        raise UsageError("that command is not UTF-8") from None
    if size > MAX_COMMAND:
        raise UsageError(f"that command has {size} bytes; the most is {MAX_COMMAND}")
    if "\0" in line:
        raise UsageError("that command has a NUL in it")
    try:
        words = shlex.split(line)
    except ValueError:
        raise UsageError("that command has a quote that is not closed") from None
    if len(words) > MAX_WORDS:
        raise UsageError(f"that command has {len(words)} words; the most is {MAX_WORDS}")
    return words or [""]


def _app(verb: str, arguments: tuple[str, ...]) -> str:
    path = " ".join(arguments)
    match = _REPOSITORY.fullmatch(path)
    if len(arguments) != 1 or match is None:
        raise UsageError(f"{verb} takes the name of one app, and {shown(path)} is none")
    return app_name(match[1])


def _permitted(verb: str) -> None:
    match = _VERB.fullmatch(verb)
    noun = match[1] if match else verb
    if verb in WORDS or (match and noun in NOUNS):
        return
    if noun in SERVER_ONLY:
        raise NotPermitted(f"{verb} is not for ssh", "run it on the server itself")
    raise UsageError(
        f"there is no command {shown(verb, 40)} here",
        "there are git push and fetch, operation:list, follow, logs and cancel, apps, releases, config, and deploy",
    )
