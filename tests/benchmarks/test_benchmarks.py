"""The benchmarks run, and say what they measured. How long anything takes is not asked here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarks import report
from benchmarks.piku import recorded
from benchmarks.rows import LOST, ROWS, Row, chosen
from benchmarks.running import Result
from benchmarks.side_by_side import interleaved, ratios, spread

HERE = Path(__file__).parent


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, HERE, *words], capture_output=True, text=True, timeout=300)


def test_a_row_is_measured_and_written_down(tmp_path: Path) -> None:
    """The command measures a real one, prints the table, and writes table, JSON and, with matplotlib, the plot."""
    place = Path(tempfile.mkdtemp(prefix="safepoint-bench-test-"))  # tmp_path lets nobody else in
    place.chmod(0o755)
    done = run("5", "--small", "--out", str(tmp_path / "out"), "--directory", str(place))
    place.rmdir()  # nothing was left there
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == (tmp_path / "out" / "results.md").read_text() + "\n"
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    (result,) = found["results"]
    assert result["row"]["key"] == "5"
    assert len(result["ours"]) == len(result["theirs"]) == 1
    assert result["ratio"]["median"] == result["ours"][0] / result["theirs"][0]
    assert {"date", "machine", "git", "python", "safepoint"} <= found["facts"].keys()
    assert f"| {result['ratio']['median']:.2f} (" in done.stdout
    assert (tmp_path / "out" / "results.svg").exists() == (find_spec("matplotlib") is not None)


def test_a_row_that_does_not_exist_is_refused() -> None:
    """With the names of those that do."""
    done = run("99")
    assert done.returncode == 2
    assert "there is no row 99; there are 1, 2, 3.embedded" in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_are_chosen_by_number_and_by_key() -> None:
    """A number stands for all of its variants."""
    assert [row.key for row in chosen(["3", "7.pidns"])] == ["3.embedded", "3.openssh", "7.pidns"]
    assert chosen([]) == ROWS
    assert len({row.key for row in ROWS}) == len(ROWS)


def test_the_readme_has_each_row() -> None:
    """What is measured, against what, and the goal; what was measured is of the day that it names."""
    readme = HERE.parents[1].joinpath("README.md").read_text()
    header, ruler, *rows = report.table(ROWS, {}).splitlines()
    found = iter(readme[readme.index(header) :].splitlines())
    assert (next(found), next(found)) == (header, ruler)
    for row, line in zip(rows, found, strict=False):
        wanted, shown = (text.split(" | ")[:4] for text in (row, line))
        assert shown == wanted
        assert "not measured yet" not in line
    assert not next(found).startswith("|")


def test_contenders_take_turns() -> None:
    """A B A B, and the round that warms up is not counted."""
    order: list[str] = []

    def contender(name: str) -> Mapping[str, float]:
        order.append(name)
        return {name: float(len(order))}

    found = interleaved([lambda: contender("a"), lambda: contender("b")], 2, lambda _number, _rounds: None)
    assert order == ["a", "b"] * 3
    assert found == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert ratios(found["a"], found["b"]) == [3 / 4, 5 / 6]


def test_quartiles() -> None:
    """Of one value they are that value."""
    assert [(each.low, each.median, each.high) for each in (spread([3.0]), spread([1, 2, 3, 4, 5]))] == [
        (3.0, 3.0, 3.0),
        (2.0, 3.0, 4.0),
    ]


def test_piku_is_scaled_by_the_push_without_a_hook(tmp_path: Path) -> None:
    """A record of another day is a ratio, and says when, of what and on what it was measured."""
    record = {"date": "2026-01-31", "commit": "c0ffee0123", "machine": "one core"}
    ratio = {"low": 1.0, "median": 1.5, "high": 2.0}
    (tmp_path / "piku.json").write_text(json.dumps(record | {"ratios": {"piku": ratio}}))
    assert recorded(tmp_path / "no such file") is None
    known = recorded(tmp_path / "piku.json")
    assert known is not None
    assert known.scaled([100.0, 200.0]) == {"piku": [150.0, 300.0]}
    assert "piku c0ffee01 as measured on 2026-01-31 (one core)" in known.note


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (Result(ROWS[0], [30.0], [10.0]), "3.00 (3.00 to 3.00) ✗ | 30.0 ms | 10.0 ms |"),
        (Result(ROWS[0], [10.0], [10.0]), "1.00 (1.00 to 1.00) | 10.0 ms | 10.0 ms |"),
        (Result(ROWS[0], why_not="cannot run here: no sshd"), "cannot run here: no sshd |  |  |"),
        (Result(Row("12", "x", "x", "none", 0, LOST), [2.0]), "2 ✗ | 2 lost |  |"),
    ],
)
def test_a_line_says_how_it_went(result: Result, shown: str) -> None:
    """A goal that was missed is marked; a row that could not run says why."""
    assert report.table([result.row], {result.row.key: result}).endswith(shown)
