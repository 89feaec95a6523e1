"""Removing the directories that strangers had a hand in: pushed code, and pushed refs."""

from __future__ import annotations

import os
from pathlib import Path


def remove_tree(directory: Path) -> None:
    """Remove `directory` and all below it, whatever modes it was given. Idempotent; follows no link. Raises OSError.

    By rm(1): shutil.rmtree recurses (until Python 3.13), and a tree that is a thousand directories deep stops it.
    """
    if not directory.exists() and not directory.is_symlink():
        return
    problem = _run("rm", "-rf", "--", str(directory))
    # A directory without its own write bit. chmod could be led out by another who writes here meanwhile; rm cannot.
    if problem is not None and directory.lstat().st_uid == os.geteuid():
        _run("chmod", "-R", "u+rwX", "--", str(directory))
        problem = _run("rm", "-rf", "--", str(directory))
    if problem is not None:
        raise OSError(0, problem.rpartition(": ")[2], str(directory))


def _run(*argv: str) -> str | None:
    """What was in the way: the last line that it said."""
    import subprocess  # a hook that removes nothing does not pay for it

    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return (lines or [f"{argv[0]} failed"])[-1][-300:] if done.returncode else None
