"""Puts the hooks' shims, which only start the hook proper, where every repository's `core.hooksPath` points."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from safepoint import interpreter
from safepoint.errors import UserError
from safepoint.state import durable
from safepoint.state.paths import Home

HOOKS = ("pre-receive", "proc-receive")


def install_hooks(home: Home) -> None:
    """Write the hooks where they are missing or differ, for the Python that runs this. Raises UserError."""
    words = {"@PYTHON@": sys.executable, "@START@": interpreter.START}
    for name in HOOKS:
        path = home.hooks / name
        # Quoted for sh, since the path of a virtual environment may have anything in it.
        text = re.sub("@[A-Z]+@", lambda found: shlex.quote(words[found[0]]), source(name)).encode()
        try:
            if not _is(path, text):
                home.hooks.mkdir(mode=0o700, parents=True, exist_ok=True)
                durable.write(path, text, 0o755)
        except OSError as error:
            raise UserError(f"cannot write the hook {path}: {error.strerror}") from None


def _is(path: Path, text: bytes) -> bool:
    try:
        return path.read_bytes() == text and path.stat().st_mode & 0o777 == 0o755
    except FileNotFoundError:
        return False


def source(name: str) -> str:
    """The text of a shim. A wheel has the shims inside the package, a source tree has them at its top."""
    here = Path(__file__).resolve()
    for directory in (here.with_name("shims"), here.parents[3] / "hooks"):
        if (directory / name).is_file():
            return (directory / name).read_text("utf-8")
    raise UserError(f"the hook {name} is missing from this installation of Safepoint", "install it again")
