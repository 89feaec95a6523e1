"""Puts Safepoint's hooks into a bare repository that is hosted elsewhere, beside those that are there, and out again.

The hooks are in a directory of their own, which the repository's `core.hooksPath` names, and they run what was there
before where it is: with its own name, so that a hook that looks beside itself (`pre-receive.d`, a library) still finds
it, and a host that writes its hooks anew does not write over ours. Moving the old hooks aside would have neither; and
one setting switches all hooks at once.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

from safepoint import interpreter
from safepoint.core.app import App
from safepoint.core.refs import branch_ref, is_oid
from safepoint.errors import NotFound, UserError
from safepoint.git.after_push import require_owner
from safepoint.git.bringing import bring
from safepoint.git.commands import Finished, cannot_run, complaint, ended
from safepoint.git.hook_shims import source
from safepoint.record import Record, asdict
from safepoint.state import durable
from safepoint.state.paths import Home
from safepoint.trees import remove_tree

DIRECTORY = "safepoint-hooks"
"""In the repository. `core.hooksPath` is relative, so that a repository that is moved keeps its hooks."""
_RECORD = "installed.json"
_OURS = ("pre-receive", "post-receive")
_OTHERS = (
    "update",
    "post-update",
    "proc-receive",
    "reference-transaction",
    "pre-auto-gc",
    "pre-push",
)
"""What else git runs in a bare repository (githooks(5))."""


class Installed(Record):
    home: str
    app: str
    key_variable: str
    before: str
    """The directory of the hooks that were there; relative ones count from the repository."""
    previous: str | None
    """The repository's own setting of core.hooksPath; None: it had none."""


def install(home: Home, app: App, repository: Path, key_variable: str = "") -> str:
    """Idempotent. Returns the commit that the deploy branch has already, or an empty text. Raises UserError."""
    require_owner(home)
    repository = _bare(repository)
    if repository.parent == home.root.resolve() / "repositories":
        raise UserError(f"{repository} is Safepoint's own: pushes to it deploy already")
    found = _installed(repository)
    if found is not None and (found.home, found.app) != (str(home.root), app.name):
        raise UserError(
            f"pushes to {repository} deploy {found.app} of {found.home} already", f"`hooks:remove {repository}` first"
        )
    previous = _setting(repository)
    if found is not None and previous == DIRECTORY:
        before, previous = found.before, found.previous
    else:
        before = _must(repository, "rev-parse", "--git-path", "hooks")
    # What is there can be deployed by command from now on.
    commit = _must(repository, "for-each-ref", "--format=%(objectname)", branch_ref(app.branch)).partition("\n")[0]
    if is_oid(commit):
        bring(repository, commit, home.repository(app.name))
    _write(repository, Installed(str(home.root), app.name, key_variable, before, previous))
    _must(repository, "config", "--local", "core.hooksPath", DIRECTORY)
    if (now := _must(repository, "rev-parse", "--git-path", "hooks")) != DIRECTORY:
        remove(repository)
        raise UserError(f"git takes the hooks of {repository} from {now}, whatever its configuration says")
    return commit


def remove(repository: Path) -> Installed | None:
    """Everything is as it was before. Idempotent; None where nothing was installed. Raises UserError."""
    repository = _bare(repository)
    found = _installed(repository)
    if found is not None and _setting(repository) == DIRECTORY:  # else somebody has changed it since, as they like it
        words = ("--unset", "core.hooksPath") if found.previous is None else ("core.hooksPath", found.previous)
        _must(repository, "config", "--local", *words)
    try:
        remove_tree(repository / DIRECTORY)
        durable.flush_directory(repository)
    except OSError as error:
        raise UserError(f"cannot remove {error.filename}: {error.strerror}") from None
    return found


def _bare(path: Path) -> Path:
    """The repository at `path`, where it is one that this process may change as its owner. Raises UserError."""
    try:
        repository = path.resolve(strict=True)
        owner = repository.stat().st_uid
    except (OSError, RuntimeError):
        raise NotFound(f"there is no repository {path}") from None
    if owner != os.geteuid():
        # Git would read the configuration of whoever runs this, which may name other hooks than its owner's.
        raise UserError(f"{path} belongs to another Unix user", "run this as its owner")
    done = _git(repository, "rev-parse", "--is-bare-repository", "--show-object-format")
    if done.status != 0 and not (repository / ".git").exists():
        raise NotFound(f"{path} is no git repository", f"git says: {done.complaint}" if done.complaint else "")
    answer = done.output.decode(errors="replace").split()
    if answer[:1] != ["true"]:
        raise UserError(f"{path} is not a bare repository", "pushes go to a bare one: `git clone --bare` makes it")
    if answer[1:] != ["sha1"]:
        raise UserError(f"{path} has object ids of SHA-256", "only repositories with SHA-1 can be deployed from")
    return repository


def _installed(repository: Path) -> Installed | None:
    path = repository / DIRECTORY / _RECORD
    try:
        return Installed(**json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path} cannot be read", f"take core.hooksPath out of {repository}/config by hand") from None


def _setting(repository: Path) -> str | None:
    done = _git(repository, "config", "--local", "--get-all", "-z", "core.hooksPath")
    values = os.fsdecode(done.output).split("\0")[:-1]
    if len(values) > 1:
        raise UserError(f"core.hooksPath is there more than once in {repository}/config", "leave one of them")
    return values[0] if values else None


def _write(repository: Path, record: Installed) -> None:
    """All of it before `core.hooksPath` names it, the record first: it says how to go back."""
    directory, before = repository / DIRECTORY, Path(record.before)
    try:
        directory.mkdir(0o755, exist_ok=True)
        durable.write(directory / _RECORD, json.dumps(asdict(record)).encode(), 0o644)
        for name in _OURS:
            durable.write(directory / name, _shim(name, record).encode(), 0o755)
        for name in _OTHERS:
            path = directory / name
            if (repository / before / name).exists():
                durable.write(path, _shim(name, record).encode(), 0o755)
            elif not path.is_symlink():
                # Nothing there costs nothing; and git finds it on the day when it is.
                path.unlink(missing_ok=True)
                path.symlink_to(Path("..") / before / name)
        durable.flush_directory(repository)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or directory}: {error.strerror}") from None


def _shim(name: str, record: Installed) -> str:
    words = {
        "@PYTHON@": sys.executable,
        "@START@": interpreter.START,
        "@BEFORE@": record.before if "/" in record.before else f"./{record.before}",
        "@NAME@": name,
        "@HOME@": record.home,
        "@APP@": record.app,
        "@KEY_VARIABLE@": record.key_variable,
    }
    text = source(f"after-push/{name if name in _OURS else 'other'}")
    return re.sub("@[A-Z_]+@", lambda found: shlex.quote(words[found[0]]), text)


def _must(repository: Path, *words: str) -> str:
    done = _git(repository, *words)
    if done.status != 0:
        raise UserError(f"cannot change or read {repository}: {ended(done)}")
    return os.fsdecode(done.output).removesuffix("\n")


def _git(repository: Path, *words: str) -> Finished:
    """Git as it is for a push into the repository: with the configuration of its Unix user, unlike `run_git`."""
    import subprocess  # see run_git

    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "--git-dir=.", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=environment,
            cwd=repository,
        )
    except OSError as error:
        raise cannot_run(repository, error) from None
    return Finished(done.returncode, done.stdout, complaint(done.stderr))
