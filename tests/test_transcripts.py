"""The runner of the READMEs' transcripts: it has to fail when it should."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from transcripts import first_unmatched, parse, run_transcript


def readme(directory: Path, console: str) -> Path:
    path = directory / "README.md"
    path.write_text(f"# A title\n\n```sh\n$ false\n```\n\n```console\n{console}```\n")
    return path


def run(directory: Path, console: str, timeout: float = 60.0) -> None:
    run_transcript(readme(directory, console), directory, os.environ, timeout)


@pytest.mark.parametrize(
    ("console", "why"),
    [
        ("$ echo one\none\n", "the same output"),
        ("$ echo one; echo two >&2; echo three\none\ntwo\nthree\n", "stderr in its order"),
        ("$ seq 9\n1\n...\n9\n", "lines left out"),
        ("$ seq 2\n1\n...\n2\n", "no line left out"),
        ("$ echo from v7 to v8\nfrom v... to …\n", "text left out"),
        ("$ echo 'Authorizing...'\nAuthorizing...\n", "dots that are there"),
        ("$ printf 'a  \\n\\nb\\n\\n'\na\n\nb\n", "trailing blanks"),
        ("$ printf 'no newline'\nno newline\n", "no newline at the end"),
        ("$ true\n$ false\n[exit 1]\n$ (echo x; exit 3)\nx\n[exit 3]\n", "statuses"),
        ("$ x=5; cd /usr\n$ echo $x $PWD\n5 /usr\n", "one shell for all"),
        ("```\n\ntext\n\n```console\n$ echo two\ntwo\n", "several blocks"),
        ("$ cat <<END\n> a\n> $((1 + 1))\n> END\na\n2\n", "a command of several lines"),
        ("$ (exit 4) &\n$ wait $!\n[exit 4]\n", "a job"),
        ("$ sleep 600 &\n$ kill -INT %1\n$ wait $!\n[exit 130]\n", "Ctrl-C for a job"),
        ("$ cat\n", "no standard input"),
        ("$ (((\n...\n[exit 2]\n$ echo on\non\n", "a syntax error ends its own command only"),
    ],
)
def test_what_is_as_the_transcript_says_passes(tmp_path: Path, console: str, why: str) -> None:
    """Output, statuses and state are compared the way the module's docstring says."""
    run(tmp_path, console)


@pytest.mark.parametrize(
    ("console", "said"),
    [
        ("$ echo one\ntwo\n", "line 8: $ echo one\nnot found: two"),
        ("$ echo one\n", "(the end of the output)"),
        ("$ true\none\n", "not found: one"),
        ("$ seq 3\n1\n...\n4\n", "not found: 4"),
        ("$ seq 3\n1\n3\n", "not found: 3"),
        ("$ echo version 1\nversion ...2\n", "not found: version ...2"),
        ("$ echo two; echo one\none\ntwo\n", "not found: one"),
        ("$ false\n", "expected exit 0, got exit 1"),
        ("$ true\n[exit 1]\n", "expected exit 1, got exit 0"),
        ("$ echo a\na\n$ echo b\nc\n$ echo d\ne\n", "line 10: $ echo b"),
        ("$ exit 0\n$ true\n", "the shell ended in\n$ exit 0"),
        ("", "no console block with a command"),
    ],
)
def test_what_is_not_as_the_transcript_says_fails(tmp_path: Path, console: str, said: str) -> None:
    """The message names the command, the line that was not found, and what came instead."""
    with pytest.raises(AssertionError) as failure:
        run(tmp_path, console)
    assert said in str(failure.value)


def test_a_command_that_does_not_end_fails_in_time(tmp_path: Path) -> None:
    """The message names it and shows what was said before."""
    with pytest.raises(AssertionError, match=r"0\.5 s are over, in\n\$ echo begun; sleep 600\nbegun"):
        run(tmp_path, "$ echo begun; sleep 600\n", timeout=0.5)


def test_nothing_of_a_transcript_is_left_running(tmp_path: Path) -> None:
    """A background job ends with its transcript, and does not hold it up."""
    run(tmp_path, "$ sleep 600 &\n$ echo $! > pid\n")
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # reaped already
        assert stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_block_that_begins_with_output_is_refused() -> None:
    """It would be compared with nothing."""
    with pytest.raises(ValueError, match="line 2"):
        parse("```console\none\n$ echo one\n```\n")


def test_many_ellipses_are_matched_in_no_time() -> None:
    """Each pair of lines is looked at once."""
    assert first_unmatched(["..."] * 50 + ["end"], [str(i) for i in range(200)]) == 50
