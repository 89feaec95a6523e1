"""The peer piku: set up from a checkout for one run, or as it was measured before. None of its code is in here.

https://github.com/piku/piku. It is on no registry of packages, so a run without `--piku PATH` takes its numbers from
piku.json: each is a ratio to the same push without a hook over OpenSSH, measured in the same run, and is multiplied
with what such a push takes in this one.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.running import CannotRun, need_command
from benchmarks.side_by_side import Series, Spread
from deploying import wait_until
from ssh.servers import DEADLINE

RECORD = Path(__file__).with_name("piku.json")
EMPEROR_SECONDS = 3.0
"""How often uWSGI's emperor looks, unless it is told otherwise, which `piku setup` does not."""


@dataclass(frozen=True, slots=True)
class Recorded:
    ratios: Mapping[str, float]
    note: str

    def scaled(self, no_hook: Sequence[float]) -> Series:
        """What it would have taken in the rounds in which a push without a hook over OpenSSH took `no_hook`."""
        return {name: [each * ratio for each in no_hook] for name, ratio in self.ratios.items()}


def recorded(file: Path = RECORD) -> Recorded | None:
    """None where there is no record."""
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    ratios = {name: spread["median"] for name, spread in found["ratios"].items()}
    return Recorded(
        ratios,
        f"piku {found['commit'][:8]} as measured on {found['date']} ({found['machine']}), scaled by the push without"
        " a hook over OpenSSH",
    )


class Piku:
    def __init__(self, checkout: Path, home: Path) -> None:
        self.home = home
        self.root = home / "piku"
        self.script = home / "piku.py"
        self.checkout = checkout
        self.environment = {
            "HOME": str(home),
            "PIKU_ROOT": str(self.root),
            "USER": "root",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    @property
    def commit(self) -> str:
        done = subprocess.run(["git", "-C", self.checkout, "rev-parse", "HEAD"], capture_output=True, text=True)
        return done.stdout.strip() or "of an unknown commit"

    @property
    def note(self) -> str:
        return (
            f"piku {self.commit[:8]} measured in this run, without nginx: the app itself is asked. Its emperor "
            f"looks every {EMPEROR_SECONDS:g} s, and the pushes begin at random moments of that"
        )

    def key_line(self, public_key: str) -> str:
        """As `piku setup:ssh` writes it, with its home besides."""
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment.items())
        command = f"FINGERPRINT=x NAME=default {variables} {self.script} $SSH_ORIGINAL_COMMAND"
        return f'command="{command}",no-agent-forwarding,no-user-rc,no-X11-forwarding,no-port-forwarding {public_key}'

    def give_port(self, app: str) -> int:
        """A fixed one, as piku's documentation has it: else it takes another one at each deploy."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        settings = self.root / "envs" / app / "ENV"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"PORT={port}\n")
        return port

    def record(self, measured: dict[str, Spread]) -> dict[str, Any]:
        """For piku.json."""
        return {
            "about": "Ratios to the same push without a hook over OpenSSH in one run of tests/benchmarks --piku",
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "commit": self.commit,
            "machine": machine.summary(),
            "uwsgi": subprocess.run(["uwsgi", "--version"], capture_output=True, text=True).stdout.strip(),
            "ratios": {name: asdict(each) for name, each in measured.items()},
        }


@contextmanager
def piku(checkout: Path, home: Path) -> Iterator[Piku]:
    """Set up in a home of its own, with its uWSGI emperor running."""
    need_command("uwsgi", "uwsgi-core")
    if not (checkout / "piku.py").is_file():
        raise CannotRun(f"{checkout} has no piku.py")
    home.mkdir()
    found = Piku(checkout.resolve(), home)
    shutil.copy(checkout / "piku.py", found.script)
    environment = {**os.environ, **found.environment}
    subprocess.run([sys.executable, found.script, "setup"], env=environment, check=True, capture_output=True)
    with (home / "emperor.log").open("wb") as log:
        emperor = subprocess.Popen(
            ["uwsgi", "--ini", found.root / "uwsgi" / "uwsgi.ini"],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until((found.root / "uwsgi" / "uwsgi.sock").exists, "piku's emperor runs")
        yield found
    finally:
        emperor.send_signal(signal.SIGINT)  # its SIGTERM would be a reload
        emperor.wait(DEADLINE)
