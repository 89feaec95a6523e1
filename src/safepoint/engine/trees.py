"""Removing the directories that pushed code has written."""

from __future__ import annotations

import subprocess
from pathlib import Path


def remove_tree(directory: Path) -> None:
    """Remove `directory` and all below it, whatever modes it was given. Idempotent; follows no link. Raises OSError.

    By rm(1): shutil.rmtree recurses, and a tree that is a thousand directories deep stops it.
    """
    if not directory.exists() and not directory.is_symlink():
        return
    if _rm(directory) is None:
        return
    # A directory without its own write bit; root does not get here.
    subprocess.run(("chmod", "-R", "u+rwX", "--", directory), stderr=subprocess.DEVNULL, check=False)
    if (problem := _rm(directory)) is not None:
        raise OSError(f"cannot remove {directory}: {problem}")


def _rm(directory: Path) -> str | None:
    """What was in the way."""
    done = subprocess.run(("rm", "-rf", "--", directory), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    return done.stderr.decode(errors="replace").strip()[-300:] if done.returncode else None
