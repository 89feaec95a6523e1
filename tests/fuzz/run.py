"""Searches for bytes that a parser does not bear: `.venv/bin/python tests/fuzz/run.py TARGET [SECONDS]`.

Needs atheris (`.venv/bin/pip install atheris`), which no test needs. What it finds it writes to `crash-...` in the
current directory: once mended, it goes into corpus/TARGET/. New inputs that reach new code stay below .fuzz/.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

# Before anything of Safepoint is imported: what is imported under it tells the fuzzer which code was reached.
import atheris

HERE = Path(__file__).resolve().parent
LONGEST_INPUT, SLOWEST_INPUT, MEMORY = 70_000, 10, 1024
"""Bytes, seconds, MiB."""


def main(name: str, seconds: str = "60") -> None:
    sys.path.insert(0, str(HERE.parent))
    with atheris.instrument_imports(include=["safepoint", "tomllib", "shlex"]):
        targets = importlib.import_module("fuzz.targets")
    found = HERE.parents[1] / ".fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    limits = (f"-max_len={LONGEST_INPUT}", f"-timeout={SLOWEST_INPUT}", f"-rss_limit_mb={MEMORY}")
    atheris.Setup(
        [sys.argv[0], *limits, f"-max_total_time={seconds}", str(found), str(HERE / "corpus" / name)],
        targets.TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
