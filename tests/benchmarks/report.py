"""What a run has found, for people (a table and a plot) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.rows import LOST, MIB, SECONDS, Row
from benchmarks.running import Result
from benchmarks.side_by_side import spread

HEADER = (
    "| # | what | against | goal | ratio (quartiles) | ours | theirs |\n| --- | --- | --- | --- | --- | --- | --- |"
)
_DIGITS = {SECONDS: 2, MIB: 1}


def table(rows: Iterable[Row], results: Mapping[str, Result]) -> str:
    """Markdown. A row without a result stands there with what is known of it."""
    return "\n".join([HEADER, *(_line(row, results.get(row.key)) for row in rows)])


def document(
    rows: Sequence[Row], results: Mapping[str, Result], facts: Mapping[str, str], *, rounds: int | None, small: bool
) -> str:
    parts = ["# Safepoint, side by side\n"]
    if small:
        parts.append("**Of a small run, that shows that everything works. Its numbers mean nothing.**\n")
    how = "each row's own number of" if rounds is None else str(rounds)
    parts.append(
        f"Medians and quartiles of {how} interleaved rounds; the ratio is taken round by round. A goal that was missed "
        "is marked with ✗.\n"
    )
    parts.append(table(rows, results))
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in results[row.key].notes if row.key in results else ():
            notes.setdefault(note, []).append(row.key)
    if notes:
        parts.append("\n" + "\n".join(f"- {', '.join(keys)}: {note}" for note, keys in notes.items()))
    parts.append("\n| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items()))
    return "\n".join(parts) + "\n"


def as_json(results: Mapping[str, Result], facts: Mapping[str, str], *, rounds: int | None, small: bool) -> str:
    found = [
        {
            "row": asdict(each.row),
            "ratio": asdict(ratio) if (ratio := each.ratio) else None,
            "met": each.met,
            "ours": list(each.ours),
            "theirs": list(each.theirs),
            "notes": list(each.notes),
            "why_not": each.why_not or None,
            "load": each.load,
        }
        for each in results.values()
    ]
    return pretty({"facts": dict(facts), "rounds": rounds, "small": small, "results": found})


def pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def plot(results: Iterable[Result], facts: Mapping[str, str], file: Path) -> None:
    """Each ratio as a part of its goal, on a logarithmic scale, with its quartiles. Raises ImportError."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text
    mpl.rcParams["svg.hashsalt"] = "safepoint"  # the same results are the same file
    from matplotlib import pyplot as plt

    shown = [(each, ratio) for each in results if (ratio := each.ratio) and each.row.goal]
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.32 * len(shown)), layout="constrained")
    for place, (each, ratio) in enumerate(shown):
        goal, color = each.row.goal, "tab:blue" if each.met else "tab:orange"
        axes.plot([ratio.low / goal, ratio.high / goal], [place, place], color=color, linewidth=5, alpha=0.35)
        axes.plot(ratio.median / goal, place, "o", color=color)
        axes.annotate(
            f"{ratio.median:.2f} of {goal:g}",
            (ratio.median / goal, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(shown)), [f"{each.row.short}  ({each.row.key})" for each, _ in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.8)
    axes.set_xlabel("ratio as a part of its goal: left of the line it is met", fontsize=8)
    axes.set_title(f"Safepoint {facts.get('safepoint', '')}, {facts.get('date', '')}", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _line(row: Row, result: Result | None) -> str:
    goal = f"{row.goal:g}" if row.unit == LOST else f"≤ {row.goal:g}"
    cells = [row.key, row.what, row.against, goal, *_cells(row, result)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cells(row: Row, result: Result | None) -> tuple[str, str, str]:
    if result is None:
        return "not measured yet", "", ""
    ratio = result.ratio
    if ratio is None:
        return result.why_not, "", ""
    mark = "" if result.met else " ✗"
    if row.unit == LOST:
        return f"{ratio.median:g}{mark}", f"{sum(result.ours):g} lost", ""
    text = f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f}){mark}"
    return text, _median(result.ours, row.unit), _median(result.theirs, row.unit)


def _median(values: Sequence[float], unit: str) -> str:
    found = spread(values).median
    digits = _DIGITS.get(unit, 1 if found < 100 else 0)
    return f"{found:.{digits}f} {unit}"
