"""Where everything of one server is: the layout of its home directory."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safepoint.errors import UserError
from safepoint.record import Record
from safepoint.state.durable import flush_directory


class Home(Record):
    root: Path

    @property
    def database(self) -> Path:
        return self.root / "safepoint.db"

    @property
    def log(self) -> Path:
        return self.root / "safepoint.log"

    @property
    def host_key(self) -> Path:
        return self.root / "host_key"

    @property
    def serve_lock(self) -> Path:
        return self.root / "serve.pid"

    @property
    def hooks(self) -> Path:
        """What `core.hooksPath` of every repository points to."""
        return self.root / "hooks"

    @property
    def run(self) -> Path:
        """Sockets, pidfiles and generated configuration. May be empty after a reboot."""
        return self.root / "run"

    def repository(self, app: str) -> Path:
        return self.root / "repositories" / f"{app}.git"

    def app(self, app: str) -> Path:
        return self.root / "apps" / app

    def release(self, app: str, number: int) -> Path:
        return self.app(app) / "releases" / f"v{number}"

    def cache(self, app: str) -> Path:
        """Kept from build to build; never part of a release."""
        return self.app(app) / "cache"

    def spare(self, app: str) -> Path:
        """What the next export begins with (drivers/spare)."""
        return self.app(app) / "spare"

    def spare_lock(self, app: str) -> Path:
        """Held by whoever makes it. Goes with the app."""
        return self.app(app) / "spare.lock"

    def data(self, app: str) -> Path:
        """Kept from release to release, for the app to write in; goes with the app."""
        return self.app(app) / "data"

    def limits(self, app: str) -> Path:
        return self.app(app) / "limits"

    def scratch(self, app: str) -> Path:
        """TMPDIR of the app's builds; empty between operations."""
        return self.app(app) / "tmp"

    def process_logs(self, app: str) -> Path:
        return self.app(app) / "logs"

    def output(self, operation: int) -> Path:
        return self.root / "operations" / f"{operation}.log"

    def pidfile(self, slot: str) -> Path:
        """The lock of a slot (core/slots) of an app; its flock is the truth, its text is for people."""
        return self.run / f"{slot}.pid"

    def control_socket(self, slot: str) -> Path:
        return self.run / f"{slot}.sock"

    @property
    def serve_socket(self) -> Path:
        return self.run / "serve.socket"

    def create(self) -> None:
        """Make the directories that every command counts on. Only their owner can enter."""
        try:
            if not self.root.is_dir():
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                flush_directory(self.root.parent)
            for part in ("run", "hooks", "repositories", "apps", "operations"):
                (self.root / part).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot use {self.root} as Safepoint's home: {error.strerror}") from None

    def check_private(self) -> None:
        """That others can neither list nor change what is in it. Raises UserError, which says what to do.

        They may pass through: what they may have is below it, and all the rest is closed itself.
        """
        for path, closed in ((self.root, 0o066), (self.database, 0o077)):
            if path.stat().st_mode & closed:
                raise UserError(f"others can get at {path}", f"chmod go= {shlex.quote(str(path))}")


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name for `path` that fits a Unix socket address (107 bytes, unix(7)), whatever its length; valid inside."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
