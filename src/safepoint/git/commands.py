"""How git is run: its environment and settings, and what it complains about. Every git that Safepoint starts for
itself goes through here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safepoint.errors import NotFound, UserError
from safepoint.record import Record

_CONFIG = {
    # Repositories are found by Safepoint, never by walking up from a directory, which is what this setting guards.
    # Without it root could not look into a repository that belongs to the deploying user. It counts from the
    # environment and the command line (git >= 2.38), not from the repository's own configuration.
    "safe.directory": "*",
    # Git reads ~/.config/git/attributes even where GIT_CONFIG_GLOBAL is set.
    "core.attributesFile": os.devnull,
}

_SETTINGS = (
    "core.hooksPath=/dev/null",  # a ref that we move is not a push
    "core.fsmonitor=false",
)


def git_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment as a git may have it: no GIT_* from outside, nobody's configuration, nobody to ask.

    The system's and the user's configuration stay out, so that a push does the same on every server; what a repository
    needs is in its own.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        # A pushed refs/replace/ID would otherwise put another tree in the place of the one that was admitted.
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_CONFIG_COUNT": str(len(_CONFIG)),
    }
    for number, (key, value) in enumerate(_CONFIG.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return environment | dict(extra or {})


def git_argv(repository: Path, *arguments: str, settings: tuple[str, ...] = ()) -> list[str]:
    """A git command on exactly this repository: nothing is discovered. `settings` are `key=value`."""
    options = [word for setting in (*_SETTINGS, *settings) for word in ("-c", setting)]
    return ["git", f"--git-dir={repository}", *options, *arguments]


class Finished(Record):
    status: int
    """Negative: the signal that killed it."""
    output: bytes
    complaint: str
    """One clause of its standard error, empty where it said nothing."""


def run_git(
    repository: Path,
    *arguments: str,
    stdin: bytes = b"",
    settings: tuple[str, ...] = (),
    extra: Mapping[str, str] | None = None,
) -> Finished:
    """Run git to its end; for commands that take milliseconds. Raises NotFound, UserError where git cannot be run."""
    import subprocess  # a hook that has nothing to run does not pay for the import

    try:
        done = subprocess.run(
            git_argv(repository, *arguments, settings=settings),
            input=stdin,
            capture_output=True,
            check=False,
            env=git_environment(extra),
            # The sweep knows by its directory which processes work in a repository.
            cwd=repository,
        )
    except OSError as error:
        raise cannot_run(repository, error) from None
    return Finished(done.returncode, done.stdout, complaint(done.stderr))


def cannot_run(repository: Path, error: OSError) -> UserError:
    if not repository.is_dir():
        return NotFound(f"there is no repository {repository}")
    return UserError(f"cannot run git: {error.strerror}", "install git 2.29 or newer, and have it on PATH")


def complaint(stderr: bytes, limit: int = 200) -> str:
    """One clause of what git said: the first error, else the last line. Printable, since it may quote pushed names."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error:", "fatal:"))]
    line = (errors or lines[-1:] or [""])[0]
    line = re.sub(r"\A(?:(?:error|fatal|warning):\s*)+", "", line)
    line = "".join(each if each.isprintable() else "?" for each in line)
    # The end says why, the beginning what; in between there may be a very long name.
    return line if len(line) <= limit else f"{line[: limit // 2]}...{line[-limit // 2 :]}"


def ended(done: Finished) -> str:
    """Why a git that failed did, as a clause."""
    if done.complaint:
        return done.complaint
    return f"it was killed by signal {-done.status}" if done.status < 0 else f"it exited with status {done.status}"
