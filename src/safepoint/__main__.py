"""The `safepoint` command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from safepoint.interpreter import with_packages


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) == 4 and arguments[0] == "--home" and arguments[2] == "shell":
        # Every push over OpenSSH begins here: it must not pay for the import of click.
        from safepoint.ssh.shell import main as shell
        from safepoint.state.paths import Home

        sys.exit(shell(Home(Path(arguments[1])), arguments[3]))
    with_packages()
    from safepoint.cli.main import run
    from safepoint.ssh.requests import ARGUMENTS_VARIABLE

    # Taken out of the environment: no worker and no other child is to have it.
    status = run([*arguments, *json.loads(os.environ.pop(ARGUMENTS_VARIABLE, "[]"))])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has gone; Python must not complain of it at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


if __name__ == "__main__":
    main()
