"""The forced command of OpenSSH, `safepoint shell KEY`: what is asked for is in SSH_ORIGINAL_COMMAND (sshd(8)).

Every push starts it anew, so it must not import click, structlog or paramiko.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from contextlib import suppress

from safepoint import logs
from safepoint.core.doors import Door
from safepoint.errors import UserError
from safepoint.ssh.inherited import run_inherited
from safepoint.ssh.sessions import Session, Visit, decide, error_lines
from safepoint.state.paths import Home

_STDERR = 2


def main(home: Home, key_name: str, decide: Callable[[Visit], Session] = decide) -> int:
    """Serve one request of the person with this key, on our own stdio; returns the exit status."""
    try:
        environment = os.environ
        door = Door.of_connection(_user(environment), environment.get("SSH_CONNECTION", ""))
        visit = Visit(home, key_name, environment.get("SSH_ORIGINAL_COMMAND"), door, environment)
        return run_inherited(decide(visit))
    except UserError as error:
        return _refuse(error)
    except Exception:  # fail closed: no traceback goes to a client
        return _refuse(UserError(logs.defect(home, "the ssh session failed", key=key_name)))


def _user(environment: Mapping[str, str]) -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return environment.get("USER", "")


def _refuse(error: UserError) -> int:
    with suppress(OSError):  # the client may be gone
        os.write(_STDERR, error_lines(error))
    return error.exit_code
