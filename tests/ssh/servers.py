"""Both ssh servers, for tests that run the same over each: the embedded one, and a real sshd with a forced command."""

from __future__ import annotations

import os
import pwd
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from safepoint.core.keys import parse_public_key
from safepoint.ssh import authorized_keys
from safepoint.ssh.server import DEFAULT, Limits, SshServer
from safepoint.ssh.sessions import Session, Visit, decide
from safepoint.state.paths import Home
from safepoint.state.store import Store

DEADLINE = 120.0
"""Seconds; generous, since the machine may be busy."""

USER = pwd.getpwuid(os.geteuid()).pw_name


def run_in_a_shell(visit: Visit) -> Session:
    """For tests of the plumbing alone: it runs whatever it is told."""
    return Session("sh", ("sh", "-c", visit.command_line or "true"), dict(visit.environment), visit.home.root)


FORCED_COMMAND = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from safepoint.ssh.shell import main
from safepoint.state.paths import Home
from ssh.servers import run_in_a_shell
sys.exit(main(Home(Path({home!r})), sys.argv[2], run_in_a_shell))
"""


@dataclass
class Place:
    """A home with keys and repositories, and the clients' files beside it."""

    directory: Path
    home: Home = field(init=False)

    def __post_init__(self) -> None:
        self.home = Home(self.directory / "home")
        Store.create(self.home).close()

    def make_key(self, name: str, kind: str = "ed25519") -> Path:
        """A key that the server does not know."""
        file = self.directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file], check=True, timeout=DEADLINE)
        return file

    def add_key(self, name: str, kind: str = "ed25519") -> Path:
        file = self.make_key(name, kind)
        with Store.open(self.home) as store:
            store.add_key(name, *parse_public_key(file.with_name(f"{name}.pub").read_text()))
        return file

    def remove_key(self, name: str) -> None:
        with Store.open(self.home) as store:
            store.remove_key(name)

    def add_app(self, name: str) -> Path:
        """With a plain repository: no hooks, nothing is deployed."""
        with Store.open(self.home) as store:
            store.create_app(name, "main")
        repository = self.home.repository(name)
        git("init", "-q", "--bare", "-b", "main", repository)
        return repository


@dataclass
class Server:
    place: Place
    user: str
    port: int
    log: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    running: SshServer | None = None
    """The embedded one."""

    def options(self, key: Path) -> list[str]:
        return [
            *("-F", "none", "-i", str(key), "-p", str(self.port), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
            *("-o", "IdentityAgent=none"),
        ]

    def command(self, key: Path, *words: str, options: tuple[str, ...] = ()) -> list[str]:
        return ["ssh", *self.options(key), *options, f"{self.user}@127.0.0.1", *words]

    def ssh(
        self, key: Path, *words: str, options: tuple[str, ...] = (), stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        command = self.command(key, *words, options=options)
        return subprocess.run(command, input=stdin, capture_output=True, timeout=DEADLINE)

    def url(self, app: str) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}/{app}"

    def git_environment(self, key: Path) -> dict[str, str]:
        return {**GIT_ENVIRONMENT, "GIT_SSH_COMMAND": shlex.join(["ssh", *self.options(key)])}


GIT_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SSH_", "SAFEPOINT_"))},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    **{f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(*words: str | Path, environment: dict[str, str] = GIT_ENVIRONMENT, status: int = 0) -> str:
    """Run git, expect its exit status, return all that it said."""
    command = ["git", *map(str, words)]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE, text=True
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def make_commit(directory: Path, content: bytes, name: str = "file") -> str:
    """A work tree with one more commit on main; its id."""
    if not directory.exists():
        git("init", "-q", "-b", "main", directory)
    (directory / name).write_bytes(content)
    git("-C", directory, "add", name)
    git("-C", directory, "commit", "-q", "-m", "change")
    return git("-C", directory, "rev-parse", "HEAD").strip()


@contextmanager
def embedded(place: Place, decide: Callable[[Visit], Session] = decide, limits: Limits = DEFAULT) -> Iterator[Server]:
    log: list[tuple[str, dict[str, object]]] = []

    def on_log(event: str, /, **fields: object) -> None:
        log.append((event, fields))

    server = SshServer(place.home, "127.0.0.1", 0, on_log, limits=limits, decide=decide)
    server.start()
    try:
        yield Server(place, "deploy", server.port, log, server)
    finally:
        server.close()


@contextmanager
def openssh(place: Place, decide: Callable[[Visit], Session] = decide) -> Iterator[Server]:
    """A real sshd. The keys that the place has now are in its file of authorized keys, and stay there."""
    directory = place.directory / "sshd"
    directory.mkdir()
    host_key = place.make_key("sshd_host_key")
    keys = directory / "authorized_keys"
    with Store.open(place.home) as store:
        keys.write_text(authorized_keys.lines(store.keys(), _forced_command(place, directory, decide)))
    configuration = f"AuthorizedKeysFile {keys}\n"
    with sshd(directory, host_key, configuration) as port:
        yield Server(place, USER, port)


def _forced_command(place: Place, directory: Path, decide: Callable[[Visit], Session]) -> list[str]:
    if decide is not run_in_a_shell:
        return [sys.executable, "-I", "-m", "safepoint", "--home", str(place.home.root)]
    program = directory / "forced_command.py"
    program.write_text(FORCED_COMMAND.format(path=sys.path, home=str(place.home.root)))
    return [sys.executable, str(program)]


@contextmanager
def sshd(directory: Path, host_key: Path, configuration: str) -> Iterator[int]:
    """Its port. When this ends nothing of it is left."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its chroot; packages make it at boot
    file = directory / "sshd_config"
    file.write_text(
        f"{configuration}HostKey {host_key}\nListenAddress 127.0.0.1\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        "AcceptEnv *\nMaxStartups 100\nLogLevel VERBOSE\n"
    )
    for _ in range(20):  # sshd cannot say which port it got for 0: choose one, and choose again where it was taken
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", file, "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            assert process.stderr is not None
            log = []
            while line := process.stderr.readline():
                log.append(line)
                if b"Server listening on" in line:
                    with _drained(process, directory / "log"):
                        yield port
                    return
            process.wait()
        assert b"in use" in b"".join(log), b"".join(log).decode()
    raise AssertionError("no free port")


@contextmanager
def _drained(process: subprocess.Popen[bytes], log: Path) -> Iterator[None]:
    """Its stderr goes to a file from now on: it is inherited by every session, so it must never be full."""
    assert process.stderr is not None
    with subprocess.Popen(["tee", log], stdin=process.stderr, stdout=subprocess.DEVNULL) as tee:
        process.stderr.close()
        try:
            yield
        finally:
            process.terminate()
            process.wait(DEADLINE)
            # The sessions hold it open too: its end says that the last one is gone.
            tee.wait(DEADLINE)


SERVERS = {"embedded": embedded, "openssh": openssh}


def wait_dead(pid: int) -> None:
    """Wait until a process that is not ours is dead. A zombie is dead."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            assert poller.poll(DEADLINE * 1000), (
                f"process {pid} still lives: {Path(f'/proc/{pid}/cmdline').read_text()}"
            )
        finally:
            os.close(descriptor)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_dead(pid)
