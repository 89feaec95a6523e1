"""A served home for chaos: its apps and their work trees, the server that may be killed, and the cutting of power."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from chaos import processes
from chaos.rounds import APPS, Deploy
from deploying import a_port, outside, own_environment
from ssh.servers import GIT_ENVIRONMENT, USER, Place, git, openssh, wait_dead

_APP = """
import os, signal, socket
here = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=100)
status, body = open("answer", "rb").read(), open("version", "rb").read()
while True:
    client, _ = here.accept()
    try:
        client.settimeout(5)
        client.recv(65536)
        client.sendall(b"HTTP/1.1 %b\\r\\nConnection: close\\r\\n" % status)
        client.sendall(b"Content-Length: %d\\r\\n\\r\\n%b" % (len(body), body))
    except OSError:
        pass
    client.close()
"""
_SETTINGS = """
[build]
command = "sh build"
[[before_release]]
command = "sh migrate up"
undo = "sh migrate down"
[health]
expect = "2xx"
interval = "50ms"
timeout = "{health}"
[watch]
for = "{watch}"
[stop]
grace = "1s"
"""


@dataclass
class Served:
    place: Place
    python: str = sys.executable
    """That of a planted copy, perhaps."""
    ssh_port: int = 0
    http_port: int = 0
    sshd_port: int = 0
    process: subprocess.Popen[str] | None = None
    apps: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """Of each commit that was made: what it answers."""

    @property
    def root(self) -> Path:
        return self.place.home.root

    @property
    def ledger(self) -> Path:
        """Where migrations write what they did. For any user: pushed code is not run as ours."""
        return outside(f"ledger-{self.place.directory.name}") / "lines"

    # The server.

    def command(self, *words: str) -> list[str]:
        return [self.python, "-I", "-m", "safepoint", "--home", str(self.root), *words]

    def start(self) -> None:
        """Returns when it is ready. On the same ports as before, where there was a before."""
        self.ssh_port, self.http_port = self.ssh_port or a_port(), self.http_port or a_port()
        with (self.place.directory / "serve.err").open("ab") as errors:
            self.process = subprocess.Popen(
                self.command("serve", "--ssh-port", str(self.ssh_port), "--http-port", str(self.http_port)),
                env=own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"ready; push to ssh://deploy@127.0.0.1:(\d+)/APP, see http://APP.localhost:(\d+)/", line)
        assert found, f"serve did not start: {line!r}; see {self.place.directory / 'serve.err'}"
        self.ssh_port, self.http_port = map(int, found.groups())

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def bury(self) -> None:
        """Reap a server that was killed."""
        if self.process is not None:
            with self.process:
                self.process.wait(120)
            self.process = None

    def cut_power(self) -> int:
        """Everything of the home dies, and what is not on the disk is gone. How many processes died."""
        died = 0
        for scope in self.cgroups():
            with suppress(OSError):
                (scope / "cgroup.kill").write_text("1")
        while left := processes.of_home(self.root):
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
            self.bury()
            for each in left:
                died += 1
                wait_dead(each.pid)
        for scope in self.cgroups():
            with suppress(OSError):
                scope.rmdir()
        shutil.rmtree(self.root / "run")
        (self.root / "run").mkdir(mode=0o700)
        return died

    def cgroups(self) -> list[Path]:
        """The home's own, the deepest first."""
        name = f"safepoint-{sha256(os.fsencode(self.root.resolve())).hexdigest()[:8]}"
        found: list[Path] = []
        for mount in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            found += sorted(Path(mount).glob(f"{name}/**/"), key=lambda path: -len(path.parts))
        return list(dict.fromkeys(found))

    # The apps.

    def create(self) -> None:
        self.ledger.touch()
        self.ledger.chmod(0o666)
        for number in range(APPS):
            name = f"app{number}"
            self.run("apps:create", name)
            self.apps.append(name)
            git("init", "-q", "-b", "main", self.tree(name))

    def tree(self, app: str) -> Path:
        return self.place.directory / "trees" / app

    def commit(self, app: str, version: str, deploy: Deploy, watch: str) -> str:
        """The next commit of the app; its id."""
        tree = self.tree(app)
        build = {Deploy.SLOW: "setsid sleep 500 &\nsleep 0.4", Deploy.FAILS_BUILD: "exit 7"}.get(deploy, ":")
        migrate = f'echo "$(cat version) $1" >>{shlex.quote(str(self.ledger))}\n'
        if deploy is Deploy.FAILS_MIGRATION:
            migrate += '[ "$1" = down ]\n'
        files = {
            "app.py": "raise SystemExit(3)\n" if deploy is Deploy.DIES else _APP,
            "answer": "500 No" if deploy is Deploy.UNHEALTHY else "200 OK",
            "version": version,
            "build": f"{build}\necho built >built\n",
            "migrate": migrate,
            "Procfile": f"web: exec {shlex.quote(sys.executable)} -I -S app.py\n",
            "safepoint.toml": _SETTINGS.format(watch=watch, health="400ms" if deploy is Deploy.UNHEALTHY else "60s"),
        }
        for name, text in files.items():
            (tree / name).write_text(text)
        git("-C", tree, "add", "-A")
        git("-C", tree, "commit", "-q", "-m", version)
        commit = git("-C", tree, "rev-parse", "HEAD").strip()
        self.versions[commit] = version
        return commit

    # Clients.

    def url(self, app: str, door: str) -> str:
        if door == "local":
            return str(self.root / "repositories" / f"{app}.git")
        user, port = ("deploy", self.ssh_port) if door == "embedded" else (USER, self.sshd_port)
        return f"ssh://{user}@127.0.0.1:{port}/{app}"

    def push(self, app: str, commit: str, door: str, options: Iterable[str]) -> list[str]:
        words = [word for option in options for word in ("-o", option)]
        return ["git", "-C", str(self.tree(app)), "push", *words, self.url(app, door), f"{commit}:refs/heads/main"]

    def client_environment(self) -> dict[str, str]:
        key = self.place.directory / "alice"
        ssh = [
            *("ssh", "-F", "none", "-i", str(key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
            *("-o", "IdentityAgent=none", "-o", "ConnectTimeout=20"),
        ]
        return GIT_ENVIRONMENT | {"GIT_SSH_COMMAND": shlex.join(ssh)}

    def run(self, *words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
            env=own_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert status is None or done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done


@contextmanager
def served(directory: Path, python: str = sys.executable) -> Iterator[Served]:
    """With its apps, each with nothing deployed, and an sshd. At the end everything of it is dead; the home is left."""
    place = Place(directory)
    place.add_key("alice")
    made = Served(place, python)
    with ExitStack() as stack:
        made.start()
        stack.callback(made.cut_power)
        made.create()
        made.sshd_port = stack.enter_context(openssh(place)).port
        stack.callback(made.cut_power)  # before sshd, which waits for its sessions
        yield made
