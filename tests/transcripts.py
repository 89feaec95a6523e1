"""Runs the console transcripts of a README and compares what they show with what happens.

In a ```console block, `$ ` begins a command and `> ` goes on with it; what follows is its output (stdout and stderr),
and a last line `[exit N]` is its status where that is not 0. In the output a line that is only `...` (or `…`) stands
for any number of lines, and within a line it stands for any text. Trailing blanks, and the shell's notices about its
jobs, do not count. All of a file's commands run in one bash, so variables, the directory and background jobs last.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_STATUS = re.compile(r"\[exit (\d+)\]")
_JOB_NOTICE = re.compile(r"\[\d+\][+-]? ")
_ELLIPSIS = re.compile(r"\.\.\.|…")


@dataclass(frozen=True, slots=True)
class Command:
    line: int
    """In its file, from 1."""
    text: str
    expected: tuple[str, ...]
    status: int


def run_transcript(path: Path, cwd: Path, env: Mapping[str, str], timeout: float = 240.0) -> None:
    """Raises AssertionError for the first command that shows something else, or when `timeout` seconds are over."""
    commands = parse(path.read_text(encoding="utf-8"))
    assert commands, f"{path} has no console block with a command"
    results = _run([command.text for command in commands], cwd, env, timeout)
    with contextlib.closing(results):
        for command, (output, status) in zip(commands, results, strict=True):
            problem = _problem(command, output, status)
            assert not problem, f"{path.name} line {command.line}: $ {command.text}\n{problem}"


def parse(text: str) -> list[Command]:
    """Raises ValueError for output before a block's first command."""
    found: list[tuple[int, list[str], list[str]]] = []
    inside = fresh = False
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            inside = fresh = line.strip() == "```console"
        elif line.strip() == "```":
            inside = False
        elif line.startswith("$ "):
            found.append((number, [line[2:]], []))
            fresh = False
        elif fresh:
            raise ValueError(f"line {number}: a console block has to begin with a command")
        elif re.match(r">( |$)", line) and not found[-1][2]:
            found[-1][1].append(line[2:])
        else:
            found[-1][2].append(line)
    return [_command(number, command, output) for number, command, output in found]


def _command(number: int, command: list[str], output: list[str]) -> Command:
    lines = _tidy(output)
    ending = _STATUS.fullmatch(lines[-1]) if lines else None
    expected = _tidy(lines[:-1]) if ending else lines
    return Command(number, "\n".join(command), expected, int(ending[1]) if ending else 0)


def _tidy(lines: Iterable[str]) -> tuple[str, ...]:
    kept = [line.rstrip() for line in lines if not _JOB_NOTICE.match(line)]
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


def _problem(command: Command, output: str, status: int) -> str:
    """Empty: as expected."""
    got = _tidy(output.split("\n"))
    shown = "\n".join(f"    {line}" for line in got) or "    (nothing)"
    unmatched = first_unmatched(command.expected, got)
    if unmatched is not None:
        missing = command.expected[unmatched] if unmatched < len(command.expected) else "(the end of the output)"
        wanted = "\n".join(f"    {line}" for line in command.expected) or "    (nothing)"
        return f"not found: {missing}\nexpected:\n{wanted}\ngot (exit {status}):\n{shown}"
    if status != command.status:
        return f"expected exit {command.status}, got exit {status}:\n{shown}"
    return ""


def first_unmatched(expected: Sequence[str], got: Sequence[str]) -> int | None:
    """None where `got` matches; else the index of the first expected line that nothing can satisfy."""
    furthest = 0

    @cache
    def matches(i: int, j: int) -> bool:
        nonlocal furthest
        furthest = max(furthest, i)
        if i == len(expected):
            return j == len(got)
        if _ELLIPSIS.fullmatch(expected[i]):
            return matches(i + 1, j) or (j < len(got) and matches(i, j + 1))
        return j < len(got) and _line_matches(expected[i], got[j]) and matches(i + 1, j + 1)

    return None if matches(0, 0) else furthest


def _line_matches(expected: str, got: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, _ELLIPSIS.split(expected))), got) is not None


def _run(
    commands: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float
) -> Generator[tuple[str, int], None, None]:
    """Each command's output and status, as it ends. What is left of the shell's session in the end is killed."""
    mark = f"\x1e{secrets.token_hex(8)}"
    # -m: a job is a process group with the default signals, as in a terminal. Otherwise bash makes it ignore SIGINT,
    # and no transcript could press Ctrl-C. eval: a syntax error is one command's, not the whole script's.
    script = ["set -m"]
    for command in commands:
        script += [f"eval {shlex.quote(command)} </dev/null", rf"printf '\n{mark} %d\n' $?"]
    deadline = time.monotonic() + timeout
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-c", "\n".join(script)],
        cwd=cwd,
        env={name: value for name, value in env.items() if name != "BASH_ENV"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert shell.stdout is not None
    end_of_command = re.compile(rf"\n{mark} (\d+)\n".encode())
    seen = b""
    try:
        for command in commands:
            while not (end := end_of_command.search(seen)):
                chunk = _read(shell.stdout.fileno(), deadline)
                so_far = seen.decode(errors="replace")
                assert chunk is not None, f"{timeout:g} s are over, in\n$ {command}\n{so_far}"
                assert chunk, f"the shell ended in\n$ {command}\n{so_far}"
                seen += chunk
            yield seen[: end.start()].decode(errors="replace"), int(end[1])
            seen = seen[end.end() :]
    finally:
        _end_session(shell)
        shell.stdout.close()


def _read(descriptor: int, deadline: float) -> bytes | None:
    """Empty: everyone has closed it. None: the deadline, by the monotonic clock, is over."""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        ready = selector.select(max(0.0, deadline - time.monotonic()))
    return os.read(descriptor, 65536) if ready else None


def _end_session(shell: subprocess.Popen[bytes]) -> None:
    # The shell first, so that it starts nothing more. Its jobs are groups of their own, but in its session.
    shell.kill()
    shell.wait()
    while members := list(_members(shell.pid)):
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                _kill(pid)


def _kill(pid: int) -> None:
    """Returns once it is seen dead."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


def _members(session: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, _group, sid = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(sid) == session and state != "Z":
                yield int(stat.parent.name)
