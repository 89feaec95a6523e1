"""What a round came to, and who took part in it."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from chaos.rounds import Round


@dataclass
class Client:
    """A push, a follower, a canceller: its process, and what it said."""

    kind: str
    token: str
    """The reason that it gave, by which the journal knows it again."""
    process: subprocess.Popen[bytes]
    output: Path
    push: int
    disturbed: bool = False
    """Somebody on whom its answer depends was killed: its exit status may say less than the journal."""
    leaves: bool = False
    """It was killed itself."""
    operation: int = 0

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")


@dataclass
class Played:
    """What a round came to."""

    round: Round
    clients: list[Client] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    reboots: int = 0
    restarts: int = 0
    harsh: bool = False
    """What an undo needs (router, runtime, server) was struck: an operation may be stuck until somebody helps."""
    began: float = 0.0
    log: int = 0
    """The size of the server's log before the round."""
    first_operation: int = 0
    """The last one before the round."""
    seen: list[str] = field(default_factory=list)
    """What was wrong while it was played."""
