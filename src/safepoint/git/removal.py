"""Removes a directory that strangers had a hand in."""

from __future__ import annotations

import os
from pathlib import Path


def remove(directory: Path) -> None:
    """Remove a directory and all below it, or a file, or nothing. Follows no link. Raises OSError.

    By rm, since shutil.rmtree recurses (until Python 3.13) and a pushed ref of a thousand levels ends it.
    """
    import subprocess  # see run_git

    words = ["rm", "-rf", "--", str(directory)]
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False, env=environment)
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise OSError(0, (reason or ["rm failed"])[0].rpartition(": ")[2], str(directory))
