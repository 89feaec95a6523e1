"""A worker in a process of its own, for test_contained.py: runs or ends one scope as REQUEST.json says.

Relays the command's output to its own stdout, and writes how it ended to the request's `result` file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from safepoint.core.command import Command
from safepoint.core.failures import Interrupted
from safepoint.processes.contained import ContainedCommands
from safepoint.state.paths import Home


class Latch:
    """Set, and forced, when a text shows up in the output."""

    force = False

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        os.write(self._writer, b"x")

    def is_set(self) -> bool:
        return self._is_set

    def fileno(self) -> int:
        return self._reader


class Broken(Exception):
    """The output could not be kept."""


def run(request: dict[str, Any], commands: ContainedCommands) -> object:
    latch = Latch()
    seen = bytearray()

    def output(chunk: bytes) -> None:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        seen.extend(chunk)
        if request["break_on"] and request["break_on"].encode() in seen:
            raise Broken
        if request["latch_on"] and request["latch_on"].encode() in seen and not latch.is_set():
            latch.set()
        if request["force_on"] and request["force_on"].encode() in seen:
            latch.force = True

    if request["latch_before"]:
        latch.set()
    command = Command(
        request["scope"],
        request["argv"],
        Path(request["directory"]),
        request["environment"],
        request["timeout"],
        request["grace"],
        request["app"],
        [Path(directory) for directory in request["directories"]],
    )
    try:
        return commands.run(command, output, latch)
    except (Interrupted, TimeoutError, Broken) as error:
        return type(error).__name__


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    commands = ContainedCommands(Home(Path(request["home"])))
    result: object = None
    began = time.monotonic()
    if request["end"]:
        commands.end(request["scope"])
    else:
        result = run(request, commands)
    seconds = time.monotonic() - began
    descriptors = list(Path("/proc/self/fd").iterdir())
    told = {"result": result, "descriptors": len(descriptors), "seconds": seconds}
    Path(request["result"]).write_text(json.dumps(told))


main()
