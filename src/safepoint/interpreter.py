"""How our own processes are started, and how they come by packages that are not in the standard library."""

from __future__ import annotations

import sys

START = __file__.removesuffix("interpreter.py") + "start.py"


def command(what: str, *arguments: str) -> tuple[str, ...]:
    """What to run; `what` is one of `start`.

    -I: nothing is imported that the user's settings name, or from the working directory.
    """
    return (sys.executable, "-I", "-S", START, what, *arguments)


def with_packages() -> None:
    """Before an import of what is somebody else's: such a process has begun without `site`, which finds it."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()
