"""Measures Safepoint side by side with its peers and with what the machine can do at most.

    .venv/bin/python tests/benchmarks [ROW…] [--rounds N] [--out DIR]

Writes results.md, results.json and results.svg. Where the machine does something else too, they are worth little.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

# Python puts a script's own directory first, where `output` and the like would be modules of everybody's.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import cancel, export, history, machine, many, memory, output, push, report, switch, transfer
from benchmarks.rows import ROWS, Row, chosen
from benchmarks.running import CannotRun, Result, Run, load

Measure = Callable[[Run, Sequence[Row]], Iterator[Result]]
GROUPS: tuple[tuple[str, frozenset[int], Measure], ...] = (
    ("push", frozenset({1, 2, 3, 4}), push.measure),
    ("cancel", frozenset({5}), cancel.measure_command),
    ("cancel 200", frozenset({6, 7}), cancel.measure_trees),
    ("memory", frozenset({10}), memory.measure),
    ("output", frozenset({11}), output.measure),
    ("history", frozenset({13}), history.measure),
    ("transfer", frozenset({14}), transfer.measure),
    ("many", frozenset({15}), many.measure),
    ("switch", frozenset({12}), switch.measure),
    # Last: what they write is much, and is left there until the end.
    ("export 5,000", frozenset({9}), export.measure_small),
    ("export 78,000", frozenset({8}), export.measure_large),
)


def main() -> int:
    words = arguments()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # nothing may be left running
    if words.list:
        print(report.table(words.rows, {}))
        return 0
    words.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as kept:
        directory = Path(
            kept.enter_context(tempfile.TemporaryDirectory(prefix="safepoint-bench-", dir=words.directory))
        )
        directory.chmod(0o755)
        facts = machine.described(directory)
        run = Run(directory, kept, words.piku, words.rounds, words.small)
        results: dict[str, Result] = {}
        interrupted = False
        try:
            for result in measured(run, words.rows):
                results[result.row.key] = result
        except KeyboardInterrupt:
            print("Interrupted; this is what there is until now", file=sys.stderr)
            interrupted = True
        written(words, run, results, facts)
    if interrupted:
        return 130
    return 1 if any(result.why_not.startswith(FAILED) for result in results.values()) else 0


FAILED = "failed: "


def measured(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    groups = [(name, mine, measure) for name, numbers, measure in GROUPS if (mine := _of(rows, numbers))]
    for place, (name, mine, measure) in enumerate(groups, 1):
        run.title = f"[{place}/{len(groups)}] {name}"
        run.say(f"rows {', '.join(row.key for row in mine)}")
        began, missing = time.monotonic(), {row.key: row for row in mine}
        why = "it gave no result"
        try:
            for result in measure(run, mine):
                del missing[result.row.key]
                yield result
        except CannotRun as error:
            why = f"cannot run here: {error}"
        except Exception as error:
            traceback.print_exc()
            why = f"{FAILED}{str(error).strip().partition(chr(10))[0][:200] or type(error).__name__}"
        for row in missing.values():
            yield Result(row, why_not=why)
        run.say(f"took {time.monotonic() - began:.0f} s, load {load():.2f}")


def written(words: argparse.Namespace, run: Run, results: dict[str, Result], facts: dict[str, str]) -> None:
    how = {"rounds": words.rounds, "small": words.small}
    text = report.document(words.rows, results, facts, **how)
    print(text)
    (words.out / "results.md").write_text(text)
    (words.out / "results.json").write_text(report.as_json(results, facts, **how))
    if run.recorded:
        (words.out / "piku.json").write_text(report.pretty(run.recorded))
    try:
        report.plot(results.values(), facts, words.out / "results.svg")
    except ImportError:
        print("No plot: it needs matplotlib, `.venv/bin/python -m pip install --group bench`", file=sys.stderr)
    print(f"Written to {words.out}", file=sys.stderr)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="3, or 3.embedded; without any: all")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="of each row, in the place of its own number")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), metavar="DIR")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="where to work, on the disk that is to be measured"
    )
    parser.add_argument("--piku", type=Path, metavar="PATH", help="a checkout of piku, to be measured in the same run")
    parser.add_argument("--small", action="store_true", help="a hundredth of everything: to see that it runs")
    parser.add_argument("--list", action="store_true", help="the rows and the goals; nothing is measured")
    words = parser.parse_args()
    try:
        words.rows = chosen(words.rows)
    except KeyError as error:
        parser.error(f"there is no row {error.args[0]}; there are {', '.join(row.key for row in ROWS)}")
    return words


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of rounds")
    return int(text)


def _of(rows: Sequence[Row], numbers: frozenset[int]) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.number in numbers)


if __name__ == "__main__":
    sys.exit(main())
