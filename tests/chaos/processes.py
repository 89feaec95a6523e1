"""Who is who among the processes of a home, by /proc alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.rounds import Target


@dataclass(frozen=True, slots=True)
class Seen:
    pid: int
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str

    @property
    def name(self) -> str:
        return os.path.basename(self.arguments[0]) if self.arguments else ""  # noqa: PTH119

    def variable(self, name: str) -> str:
        return next((each.partition("=")[2] for each in self.environment if each.startswith(f"{name}=")), "")


def everyone() -> Iterator[Seen]:
    """Every live process. One whose first thread has ended lives as long as another one does."""
    own = os.getpid()
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit() or int(name) == own:
            continue
        with suppress(OSError):
            if dead(int(name)):
                continue
            directory = ""
            with suppress(OSError):
                directory = os.readlink(f"/proc/{name}/cwd")  # noqa: PTH115
            yield Seen(int(name), _words(name, "cmdline"), _words(name, "environ"), directory)


def dead(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state in "XZ" and len(os.listdir(f"/proc/{pid}/task")) == 1  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError):
        return True


def _words(pid: str, file: str) -> tuple[str, ...]:
    text = Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace")
    return tuple(text.rstrip("\0").split("\0")) if text else ()


def of_home(root: Path) -> list[Seen]:
    """Whatever belongs to the home."""
    return [each for each in everyone() if belongs(each, root)]


def belongs(seen: Seen, root: Path) -> bool:
    """The home is named in what it was started with, or it works in there."""
    needle = str(root)
    return (
        any(needle in word for word in (*seen.arguments, *seen.environment))
        or seen.directory == needle
        or seen.directory.startswith(f"{needle}/")
    )


def is_target(seen: Seen, target: Target, root: Path, app: str, operations: set[int]) -> bool:
    """Whether it is the `target` of an app, where the target is any app's; `operations` are the app's."""
    words = seen.arguments
    repository = str(root / "repositories" / f"{app}.git")
    match target:
        case Target.WORKER | Target.RECOVERY:
            worker = "safepoint.worker" in words and str(root) in words
            if not worker or not words[-4].isdigit() or int(words[-4]) not in operations:
                return False
            return words[-1] == "1" or target is Target.WORKER
        case Target.HOOK:
            return "safepoint.git.hooks" in words and seen.directory == repository
        case Target.RECEIVE_PACK:
            return any("receive-pack" in word for word in words[:2]) and seen.directory == repository
        case Target.SESSION:
            return "shell" in words and str(root) in words
        case Target.SUPERVISORD:
            return "supervisor.supervisord" in words and seen.directory == str(root / "run")
        case Target.HAPROXY:
            return seen.name == "haproxy" and seen.directory == str(root / "run")
        case Target.APP:
            return seen.variable("SAFEPOINT_APP") == app and "app.py" in words and belongs(seen, root)
        case Target.COMMAND:
            return seen.variable("SAFEPOINT_APP") == app and "app.py" not in words and belongs(seen, root)
        case Target.GIT:
            return seen.name == "git" and f"--git-dir={repository}" in words
    return False
