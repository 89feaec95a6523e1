"""A real Safepoint for tests: a served home, apps to push, the three doors, and the world as an auditor sees it."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import random
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ssh.servers import DEADLINE, GIT_ENVIRONMENT, Place, git, openssh

from safepoint.processes import containment
from safepoint.state.paths import Home
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store

SAFEPOINT = (sys.executable, "-m", "safepoint")

APP = """
import http.server, os, pathlib, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = pathlib.Path("version").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server.serve_forever()
"""

numbers = itertools.count(1)
"""Of apps' names. Not in conftest.py, of which pytest has a copy beside the one that tests import."""

QUICK = '[watch]\nfor = "0s"\n[stop]\ngrace = "5s"\n'
"""A safepoint.toml with which a deploy takes a second."""


@dataclass
class Site:
    """One home that is served."""

    place: Place
    options: tuple[str, ...] = ()
    ssh_port: int = 0
    http_port: int = 0
    process: subprocess.Popen[str] | None = None
    sshd_port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    """What the operator sets for `serve`."""
    under: tuple[str, ...] = ()
    """Words to put before the command that serves."""
    boot: tuple[str, ...] = ()
    """What `serve` is run with where it is to believe in another boot; see rebooting.py."""

    @property
    def home(self) -> Home:
        return self.place.home

    def start(self, *more: str) -> None:
        """Serve, on the same ports as before where there was a before; returns when it is ready."""
        self.ssh_port, self.http_port = self.ssh_port or a_port(), self.http_port or a_port()
        ports = ("--ssh-port", str(self.ssh_port), "--http-port", str(self.http_port))
        self.process = subprocess.Popen(
            [
                *(*self.boot, *self.under, *SAFEPOINT),
                *("--home", str(self.home.root), "serve", *ports, *self.options, *more),
            ],
            env=own_environment() | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.match(
            r"safepoint: ready; push to ssh://deploy@127.0.0.1:(\d+)/APP, see http://APP.localhost:(\d+)/", line
        )
        assert found, f"{line!r}, status {self.process.wait(DEADLINE)}"
        self.ssh_port, self.http_port = map(int, found.groups())

    def end(self, number: int = signal.SIGTERM) -> int:
        """Stop serving; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        with self.process:
            status = self.process.wait(DEADLINE)
        self.process = None
        return status

    def stop(self) -> None:
        """Stop serving, and see that nothing of the home is left running."""
        if self.process is not None:
            assert self.end() == 0
        assert processes(self.home) == {}, processes(self.home)

    def run(
        self, *words: str, status: int | None = 0, by: Mapping[str, str] | None = None, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A command in the server's own shell."""
        done = subprocess.run(
            [*SAFEPOINT, "--home", str(self.home.root), *words],
            env=own_environment() | dict(by or {}),
            input=text,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        if status is not None:
            assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *words: str, status: int | None = 0) -> Any:
        return json.loads(self.run(*words, "--json", status=status).stdout)

    def operations(self, app: str) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self.json("operation:list", "--app", app)
        return found

    def operation(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.json("operation:show", str(number))
        return found

    def get(self, app: str, path: str = "/") -> tuple[int, str]:
        """What the router answers for the app."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", headers={"Host": f"{app}.localhost"}
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def branch(self, app: str, name: str = "main") -> str:
        """The commit of a branch on the server; an empty text where there is none."""
        found = git(
            "--git-dir", self.home.repository(app), "for-each-ref", "--format=%(objectname)", f"refs/heads/{name}"
        )
        return found.strip()

    def wait_ended(self, number: int) -> dict[str, Any]:
        """Follow an operation to its end."""
        self.run("operation:follow", str(number), status=None)
        return self.operation(number)


_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_some = range(30_000 + 340 * _process, 30_000 + 340 * (_process + 1))
_ports = itertools.chain.from_iterable(itertools.repeat(random.SystemRandom().sample(_some, len(_some)), 1_000))


def a_port() -> int:
    """A free port that stays free when its server is killed and started again.

    Between those that Safepoint gives to apps and those from which Linux takes any for whoever asks for none (ip(7)):
    one of the latter may be somebody's outgoing connection a moment later. Each process of a test run has its own part
    of them, and gives none twice in a while: between the look and the server's start it would be anybody's.
    """
    for port in _ports:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def outside(name: str) -> Path:
    """A directory for what pushed code and a test tell each other: it is not of the home, and every user may write."""
    directory = _outside() / name
    if not directory.exists():
        directory.mkdir()
        directory.chmod(0o777)
    return directory


@cache
def _outside() -> Path:
    # Not tmp_path: only its owner can enter that.
    directory = Path(tempfile.mkdtemp(prefix="safepoint-outside-"))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o755)
    return directory


def own_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAFEPOINT_", "GIT_"))}
    return kept | {name: value for name, value in os.environ.items() if name == "SAFEPOINT_CONTAINMENT"}


@dataclass(frozen=True)
class Door:
    """One way to push and to run operator verbs."""

    name: str
    site: Site
    key: Path

    def url(self, app: str) -> str:
        if self.name == "local":
            return str(self.site.home.repository(app))
        return f"ssh://{self._user}@127.0.0.1:{self._port}/{app}"

    @property
    def person(self) -> str:
        """As whom operations through this door are known."""
        return _LOCAL_USER if self.name == "local" else self.key.name

    def cancel_command(self, number: int) -> str:
        """What the banner has to say."""
        if self.name == "local":
            return f"safepoint --home {self.site.home.root} operation:cancel {number}"
        return f"ssh -p {self._port} {self._user}@127.0.0.1 operation:cancel {number}"

    def git_environment(self) -> dict[str, str]:
        return GIT_ENVIRONMENT | {"GIT_SSH_COMMAND": shlex.join(["ssh", *self._ssh_options()])}

    def command(self, *words: str) -> list[str]:
        """An operator verb, to be run through this door."""
        if self.name == "local":
            return [*SAFEPOINT, "--home", str(self.site.home.root), *words]
        return ["ssh", *self._ssh_options(), "-p", str(self._port), f"{self._user}@127.0.0.1", shlex.join(words)]

    def run(self, *words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
            env=own_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        if status is not None:
            assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done

    @contextmanager
    def running(self, *words: str) -> Iterator[Terminal]:
        """An operator verb that is under way."""
        with terminal(self.command(*words), own_environment()) as found:
            yield found

    @property
    def _user(self) -> str:
        return "deploy" if self.name == "embedded" else _LOCAL_USER

    @property
    def _port(self) -> int:
        return self.site.ssh_port if self.name == "embedded" else self.site.sshd_port

    def _ssh_options(self) -> list[str]:
        return [
            *("-F", "none", "-i", str(self.key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
            *("-o", "IdentityAgent=none"),
        ]


_LOCAL_USER = "root" if os.geteuid() == 0 else subprocess.check_output(["id", "-un"], text=True).strip()

DOORS = ("embedded", "openssh", "local")


@dataclass
class App:
    """An app on the site, and somebody's work tree of it."""

    site: Site
    name: str
    tree: Path

    @classmethod
    def create(cls, site: Site, name: str, tree: Path, settings: str = QUICK) -> App:
        """With a small web app that answers with its version, not pushed yet."""
        site.run("apps:create", name)
        git("init", "-q", "-b", "main", tree)
        app = cls(site, name, tree)
        app.write(
            {"app.py": APP, "Procfile": f"web: exec {shlex.quote(sys.executable)} app.py\n", "safepoint.toml": settings}
        )
        return app

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, version: str, files: Mapping[str, str] | None = None) -> str:
        """A commit whose app answers with `version`; its id."""
        self.write({"version": version, **(files or {})})
        git("-C", self.tree, "add", "-A")
        git("-C", self.tree, "commit", "-q", "--allow-empty", "-m", version)
        return git("-C", self.tree, "rev-parse", "HEAD").strip()

    def push(self, door: Door, *refs: str, status: int | None = 0, environment: Mapping[str, str] | None = None) -> str:
        """Push, to its end; all that it said."""
        with self.pushing(door, *refs, environment=environment) as push:
            said = push.finish()
            if status is not None:
                assert push.process.returncode == status, said
        return said

    @contextmanager
    def pushing(self, door: Door, *refs: str, environment: Mapping[str, str] | None = None) -> Iterator[Terminal]:
        """A push that is under way, in a process group of its own, as at a terminal."""
        command = ["git", "-C", str(self.tree), "push", door.url(self.name), *(refs or ("main",))]
        with terminal(command, door.git_environment() | dict(environment or {})) as found:
            yield found


class Terminal:
    """A command that is under way, and all that it has said."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = ""

    def read_until(self, text: str) -> str:
        """Read on until it has said `text`; all that it has said."""
        while text not in self.said:
            self._read(f"it never said {text!r}")
        return self.said

    def operation(self) -> int:
        """The ID that a push's banner gives."""
        said = self.read_until(" (operation ")
        while (found := re.search(r"\(operation (\d+):", said)) is None:
            said = self._read("no ID")
        return int(found[1])

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the whole foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self) -> str:
        with suppress(EOFError):
            while True:
                self._read("")
        self.process.wait(DEADLINE)
        return self.said

    def _read(self, missing: str) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        assert ready, f"nothing came for {DEADLINE:.0f} s; {missing}; so far:\n{self.said}"
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            if missing:
                raise AssertionError(f"it ended; {missing}; so far:\n{self.said}")
            raise EOFError
        self.said += data.decode(errors="replace")
        return self.said


@contextmanager
def terminal(command: list[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run it in a process group of its own, as a shell does; what is left of the group at the end is killed."""
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with process:
        try:
            yield Terminal(process)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def processes(home: Home) -> dict[int, str]:
    """Every live process that belongs to the home: pid to command line."""
    needle = os.fsencode(home.root)
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            command = (entry / "cmdline").read_bytes()
            # Pushed code may change its command line, but not what it was started with.
            if state not in "ZX" and (needle in command or needle in (entry / "environ").read_bytes()):
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def app_processes(app: str) -> dict[int, str]:
    """Every live process of the app's code, by the environment that it was started with."""
    needle = f"SAFEPOINT_APP={app}\0".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and needle in (entry / "environ").read_bytes():
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )
    return found


@dataclass(frozen=True)
class World:
    """Everything of an app that a cancelled deploy has to leave as it was. Compared as a whole."""

    answer: tuple[int, str]
    branch: str
    releases: tuple[tuple[int, str], ...]
    directories: tuple[str, ...]
    processes: tuple[int, ...]
    route: str
    leftovers: tuple[str, ...]
    locked: bool


def world(app: App) -> World:
    """Looks for itself, and asks Safepoint as little as possible."""
    home, name = app.site.home, app.name
    releases = home.app(name) / "releases"
    routes = home.run / "routes.map"
    lines = routes.read_text().splitlines() if routes.exists() else []
    with Store.open(home) as store:
        locked = any(operation.ending is None for operation in store.operations(name, limit=1))
        known = tuple((release.number, release.state) for release in store.releases(name))
    if not locked:
        wait_until(lambda: _is_free(home.pidfile(name)), "the last worker has let go of the lock")
    return World(
        answer=app.site.get(name),
        branch=app.site.branch(name),
        releases=known,
        directories=tuple(sorted(each.name for each in releases.iterdir())) if releases.exists() else (),
        processes=tuple(sorted(app_processes(name).keys() & processes(home).keys())),
        route=next((line for line in lines if line.split()[:1] == [name]), ""),
        leftovers=tuple(sorted(_leftovers(app))),
        locked=locked,
    )


def _is_free(pidfile: Path) -> bool:
    lock = Lock.take(pidfile)
    if lock is not None:
        lock.close()
    return lock is not None


def _leftovers(app: App) -> Iterator[str]:
    """What only an operation under way may have; and what belongs to a release that runs."""
    home, name = app.site.home, app.name
    if home.control_socket(name).exists():
        yield "control socket"
    if home.scratch(name).exists():
        yield "scratch directory"
    for pattern in ("objects/tmp_objdir-*", "objects/incoming-*", "refs/heads/*.lock"):
        for path in home.repository(name).glob(pattern):
            yield f"in the repository: {path.name}"
    for part in ("specs", "supervisor.d"):
        directory = home.run / part
        for path in directory.iterdir() if directory.exists() else ():
            if path.name.startswith(f"{name}.") or path.name.split(".")[0].isdigit():
                yield f"{part}: {path.name}"
    own = containment.name(home.root, "any").partition("/")[0]
    for mount in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        for path in Path(mount).glob(f"{own}/{name}.*"):
            yield f"cgroup: {path.name}"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """For what gives no event to wait for."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"it never came to pass that {what}"
        time.sleep(0.02)


@contextmanager
def site(
    directory: Path,
    *options: str,
    doors: bool = False,
    prepare: Callable[[Site], None] = lambda _site: None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Site]:
    """A served home with alice's key; with `doors`, a real sshd too. At the end nothing of it may be left.

    `prepare` is called before sshd, which reads the keys once.
    """
    place = Place(directory)
    place.add_key("alice")
    place.add_key("bob")
    running = Site(place, options, environment=dict(environment or {}))
    try:
        running.start()
        prepare(running)
        if doors:
            with openssh(place) as server:
                running.sshd_port = server.port
                yield running
        else:
            yield running
    finally:
        if running.process is not None:
            status = running.end()
            assert status == 0, f"serve ended with status {status}"
        left = processes(place.home)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"still running: {left}"
