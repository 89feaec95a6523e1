"""`python -m chaos`, in tests/: rounds of real pushes and kills, each audited. The seed that it prints replays it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from chaos.auditor import PATIENCE
from chaos.boots import Boots
from chaos.night import Night
from chaos.planted import BUGS, plant


def main(arguments: list[str] | None = None) -> int:
    """0: nothing was found; with `--planted`, every bug was."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--first", type=int, default=0, help="the number of the first round, to replay one")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end with the round that is under way then")
    parser.add_argument("--keep-going", action="store_true", help="after a violation, with a fresh home")
    parser.add_argument("--planted", action="store_true", help="find each of the planted bugs, in at most --rounds")
    parser.add_argument("--only", metavar="NAME", action="append", help="of the planted bugs; may be repeated")
    parser.add_argument("--directory", type=Path, default=None, help="for the home; it is left there")
    parser.add_argument("--python", default=sys.executable, help="that runs Safepoint")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds until a leftover is one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, flush=True, file=sys.stderr if options.json else sys.stdout)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what it has started is ended all the same
    seed = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    say(f"chaos: seed {seed}, {options.rounds} rounds")
    base = Path(options.directory or tempfile.mkdtemp(prefix="chaos-"))
    base.mkdir(parents=True, exist_ok=True)
    night = Night(base, Boots(base / "boot_id"), options.python, options.patience, say)
    if options.only and (unknown := set(options.only) - set(BUGS)):
        parser.error(f"no planted bugs: {sorted(unknown)}")
    if options.planted or options.only:
        names = options.only or list(BUGS)
        return find_planted(night, names, seed, options.first, options.rounds)
    report = night.run(seed, options.first, options.rounds, keep_going=options.keep_going, minutes=options.minutes)
    print(json.dumps(report.to_json(), indent=2) if options.json else "\n".join(report.lines()))
    return bool(report.violations)


def find_planted(night: Night, names: list[str], seed: int, first: int, rounds: int) -> int:
    """Each of them has a copy of Safepoint and a home of its own, and the same rounds."""
    say, table = night.say, dict[str, str]()
    night.patience, night.deadline = min(night.patience, 5.0), min(night.deadline, 60.0)
    for name in names:
        night.python = plant(BUGS[name], Path(tempfile.mkdtemp(prefix="planted-", dir=night.directory)))
        night.say = lambda _line: None
        report = night.run(seed, first, rounds)
        found = [text for each in report.violations for text in each["violations"]][:1]
        table[name] = f"{report.rounds} rounds" if found else "MISSED"
        say(f"{name}: found after {report.rounds} rounds: {found[0]}" if found else f"{name}: {table[name]}")
    say("\n".join(f"  {name:<56}{said}" for name, said in table.items()))
    missed = sum(said == "MISSED" for said in table.values())
    say(f"planted: {len(table)}, found: {len(table) - missed}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
