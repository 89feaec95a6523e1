"""A served home to measure on: apps, deploys without a push, and commands whose whole process is timed."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.many import APP, SETTINGS
from deploying import App, Door, Site, own_environment, site, wait_until
from ssh.servers import DEADLINE, GIT_ENVIRONMENT, git

from safepoint.core.operation import Operation
from safepoint.git import repositories
from safepoint.state.store import Store

FILES = {"app.py": APP, "Procfile": f"web: exec '{sys.executable}' -S -E app.py\n", "safepoint.toml": SETTINGS}
"""An app that is as small as it gets: what is measured is Safepoint."""
WAITING_BUILD = SETTINGS + '[build]\ncommand = "exec sleep 3600"\n'


class Bed:
    def __init__(self, served: Site, directory: Path) -> None:
        self.site = served
        self.home = served.home
        self.directory = directory
        self.embedded = Door("embedded", served, served.place.directory / "alice")
        self.openssh = Door("openssh", served, served.place.directory / "alice")

    def app(self, name: str, files: Mapping[str, str] = FILES) -> App:
        """With somebody's work tree of it, not pushed yet."""
        self.register(name)
        tree = self.directory / f"{name}.tree"
        git("init", "-q", "-b", "main", tree)
        found = App(self.site, name, tree)
        found.write(files)
        return found

    def register(self, name: str) -> None:
        """What `apps:create` does, without a command."""
        with Store.open(self.home) as store:
            store.create_app(name, "main")
        repositories.create(self.home, name, "main")

    def bring(self, app: App, commit: str) -> str:
        """Have a commit's objects in the repository, on a branch that is not deployed."""
        git("-C", app.tree, "push", "-q", self.home.repository(app.name), f"{commit}:refs/heads/brought-{commit[:8]}")
        return commit

    def deploy(
        self, app: str, commit: str, *, ending: str = "succeeded", by: Mapping[str, str] | None = None
    ) -> Operation:
        """To its end."""
        self.site.run("deploy", app, commit, status=None, by=by)
        found = self.newest(app)
        assert found.state == ending, (found.state, self.output(found.id)[-2000:])
        return found

    def begin(self, app: str, commit: str, step: str, *, by: Mapping[str, str] | None = None) -> int:
        """Have a deploy stand in a step that waits; its ID."""
        self.site.run("deploy", app, commit, "--no-wait", by=by)
        number = self.newest(app).id
        self.wait_step(number, step)
        return number

    def wait_step(self, number: int, step: str) -> None:
        def there() -> bool:
            found = self.operation(number)
            assert found.ending is None, self.output(number)[-2000:]
            return found.running is not None and found.running.name == step

        wait_until(there, f"operation {number} is in {step}")

    def wait_ended(self, number: int) -> Operation:
        wait_until(lambda: self.operation(number).ending is not None, f"operation {number} has ended")
        return self.operation(number)

    def wait_output(self, number: int, text: str) -> None:
        wait_until(lambda: text in self.output(number), f"operation {number} says {text!r}")

    def operation(self, number: int) -> Operation:
        with Store.open(self.home) as store:
            return store.operation(number)

    def newest(self, app: str) -> Operation:
        with Store.open(self.home) as store:
            return store.operations(app, 1)[0]

    def output(self, number: int) -> str:
        path = self.home.output(number)
        return path.read_text(errors="replace") if path.exists() else ""

    def command(self, *words: str) -> list[str]:
        """As a person types it on the server."""
        return [str(Path(sys.executable).with_name("safepoint")), "--home", str(self.home.root), *words]

    def answers(self, app: str, text: str) -> float:
        """When the router first answers for the app with `text`; see `first_answer`."""
        return first_answer(self.site.http_port, f"{app}.localhost", text)


@contextmanager
def bed(directory: Path, *, doors: bool = False) -> Iterator[Bed]:
    with site(directory, doors=doors) as served:
        yield Bed(served, directory)


def timed(command: Sequence[str], environment: Mapping[str, str] | None = None, status: int = 0) -> float:
    """Seconds from before the process is there to after it is gone."""
    env = own_environment() if environment is None else dict(environment)
    began = time.perf_counter()
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE * 5)
    took = time.perf_counter() - began
    assert done.returncode == status, (command, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return took


def timed_push(tree: Path, url: str, environment: Mapping[str, str], *refs: str) -> float:
    return timed(["git", "-C", str(tree), "push", "-q", url, *(refs or ("main",))], environment)


def commit(tree: Path, files: Mapping[str, str], message: str) -> str:
    """One more on the work tree's branch; its id."""
    for name, text in files.items():
        (tree / name).write_text(text)
    git("-C", tree, "add", "-A")
    git("-C", tree, "commit", "-q", "--allow-empty", "-m", message)
    return git("-C", tree, "rev-parse", "HEAD").strip()


def first_answer(port: int, host: str, text: str) -> float:
    """When, by time.perf_counter, a server on this machine first answered with `text` in the body."""
    deadline = time.perf_counter() + DEADLINE
    while time.perf_counter() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/", headers={"Host": host})
            if text in connection.getresponse().read().decode(errors="replace"):
                return time.perf_counter()
        except (OSError, http.client.HTTPException):
            pass  # nobody there yet, or not any more
        finally:
            connection.close()
        time.sleep(0.005)
    raise AssertionError(f"{host} on port {port} never answered with {text!r}")


def settle(directory: Path) -> None:
    """Have everything on the disk that was written to it, so that one contender does not pay for the other."""
    subprocess.run(["sync", "--file-system", directory], check=True)


PLAIN_GIT = GIT_ENVIRONMENT


def resident(pid: int, what: str = "Rss") -> float:
    """MiB of a process (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{what}:")).split()[1]) / 1024


def children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def living(tag: str) -> list[int]:
    """Every live process with `tag` in its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and tag.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
