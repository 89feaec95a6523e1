"""`safepoint demo`: the main job as a tour, in a temporary home, with the real git and ssh that a user would type.

Nothing is staged: each claim that it makes is checked, and a claim that is not true fails the tour.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safepoint.errors import UserError

_SLOW_BUILD = """\
# The demo's second version: a build that takes a minute, so that there is time to take it back.
[build]
command = "for part in $(seq 60); do echo Compiling part $part of 60...; sleep 1; done"
"""


def tour(*, stay: bool) -> int:
    """Returns 0 if every part of it was true. With `stay` it goes on serving until Ctrl-C."""
    for program in ("git", "ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            raise UserError(f"the demo needs {program}, which is not on this machine", "install git and openssh-client")
    with tempfile.TemporaryDirectory(prefix="safepoint-demo-") as directory, _interruptible():
        demo = Demo(Path(directory))
        try:
            demo.serve()
            demo.first_version()
            demo.second_version_cancelled()
            if stay and demo.true:
                demo.stay()
        except KeyboardInterrupt:
            _say("")
            if not stay:
                demo.true = False
        finally:
            demo.end()
        return 0 if demo.true else 1


class Demo:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._home = directory / "home"
        self._tree = directory / "hello"
        self._server: subprocess.Popen[str] | None = None
        self._ssh_port = self._http_port = 0
        self.true = True

    def serve(self) -> None:
        _heading("A server of your own, in a temporary home")
        key = self._directory / "key"
        self._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(key), show=False)
        self._safepoint("keys:add", "you", str(key.with_suffix(".pub")))
        self._safepoint("apps:create", "hello")
        command = self._command("serve", "--ssh-port", "0", "--http-port", "0")
        _say("$ safepoint serve --ssh-port 0 --http-port 0 &")
        # In a session of its own: Ctrl-C here must not end it before the tour has put it away.
        self._server = subprocess.Popen(
            command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert self._server.stdout is not None
        line = self._server.stdout.readline().strip()
        _say(line)
        found = re.search(r"127\.0\.0\.1:(\d+)/APP.*localhost:(\d+)/", line)
        if found is None:
            raise UserError("the server did not start", "its own message is above")
        self._ssh_port, self._http_port = int(found[1]), int(found[2])

    def first_version(self) -> None:
        _heading("Push a real app: examples/hello-web, one file of Python")
        shutil.copytree(_example("hello-web"), self._tree)
        self._commit("The first version", create=True)
        status = self._run("git", "push", self._url, "main", cwd=self._tree)
        self._check("git push ended with status 0: the release is live", status == 0)
        self._see("v1")

    def second_version_cancelled(self) -> None:
        _heading("A second version, with a slow build. Somebody changes their mind")
        (self._tree / "safepoint.toml").write_text(_SLOW_BUILD)
        self._commit("A second version")
        _say(f"$ git push {self._url} main")
        with subprocess.Popen(
            ("git", "push", self._url, "main"),
            cwd=self._tree, env=self._environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as push:  # fmt: skip
            try:
                status = self._cancel_in_mid_build(push)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(push.pid, signal.SIGKILL)
        self._check("git push ended with status 1, with the reason on its last lines", status == 1)
        head = self._output("git", "ls-remote", self._url, "refs/heads/main").split()[:1]
        first = self._output("git", "rev-parse", "HEAD~1").split()
        self._check("the branch on the server is still the first version", head == first)
        self._see("v1")

    def _cancel_in_mid_build(self, push: subprocess.Popen[str]) -> int:
        assert push.stdout is not None
        cancel: list[str] = []
        cancelled = False
        for line in push.stdout:
            _say(line.rstrip())
            if "operation:cancel" in line:
                cancel = shlex.split(line.partition("|")[2])
            if "Compiling part 3" in line and cancel:
                _say(f"\n$ {shlex.join(cancel)}    # in another terminal, as the banner says")
                command = (cancel[0], *self._ssh_options(), *cancel[1:], "--reason", "'changed my mind'")
                status = subprocess.run(
                    command, env=self._environment(), stdin=subprocess.DEVNULL, check=False
                ).returncode
                cancelled = status == 0
                _say("\nand the pusher's terminal goes on:")
        self._check("the cancel ended with status 0: cancelled, and everything is as before", cancelled)
        return push.wait()

    def stay(self) -> None:
        options = shlex.join(self._ssh_options())
        _heading("It stays up until you press Ctrl-C. In another terminal you can try")
        _say(f"export GIT_SSH_COMMAND={shlex.quote('ssh ' + options)}")
        _say(f"cd {self._tree}")
        _say(f"git push {self._url} main                      # and cancel it yourself, or press Ctrl-C")
        for verb in ("operation:list", "operation:show 2", "operation:cancel 3", "deploy hello", "releases hello"):
            _say(f"$GIT_SSH_COMMAND -p {self._ssh_port} deploy@127.0.0.1 {verb}")
        _say(f"\nthe page: http://hello.localhost:{self._http_port}/")
        assert self._server is not None
        self._server.wait()

    def end(self) -> None:
        if self._server is None:
            return
        self._server.terminate()
        with self._server:
            self._server.wait()
        _say("\nEverything that the demo started has ended" + ("." if self.true else ", but not all of it was true."))

    def _see(self, release: str) -> None:
        url = f"http://127.0.0.1:{self._http_port}/"
        _say(f"\nThe page at http://hello.localhost:{self._http_port}/")
        request = urllib.request.Request(url, headers={"Host": "hello.localhost"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                page = response.read().decode()
        except (urllib.error.URLError, OSError) as error:
            page = str(error)
        text = re.sub(r"<style>.*?</style>|<title>.*?</title>|<[^>]*>", "", page, flags=re.DOTALL)
        for line in filter(None, (line.strip() for line in text.splitlines())):
            _say(f"    {line}")
        self._check(f"it is {release} that answers", f"<b>{release}</b>" in page)

    def _check(self, claim: str, holds: bool) -> None:
        self.true = self.true and holds
        _say(f"{'[ok]' if holds else '[NOT TRUE]'} {claim}")

    def _commit(self, message: str, *, create: bool = False) -> None:
        if create:
            self._run("git", "init", "-q", "-b", "main", cwd=self._tree, show=False)
        self._run("git", "add", "-A", cwd=self._tree, show=False)
        who = ("-c", "user.name=You", "-c", "user.email=you@example.com")
        self._run("git", *who, "commit", "-q", "-m", message, cwd=self._tree, show=False)

    @property
    def _url(self) -> str:
        return f"ssh://deploy@127.0.0.1:{self._ssh_port}/hello"

    def _safepoint(self, *words: str) -> None:
        _say(f"$ safepoint {shlex.join(words)}")
        if subprocess.run(self._command(*words), env=self._environment(), check=False).returncode != 0:
            raise UserError(f"`safepoint {words[0]}` failed", "its own message is above")

    def _command(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-I", "-m", "safepoint", "--home", str(self._home), *words)

    def _run(self, *command: str, cwd: Path | None = None, show: bool = True) -> int:
        if show:
            _say(f"$ {shlex.join(command)}")
        return subprocess.run(
            command, cwd=cwd or self._directory, env=self._environment(), stdin=subprocess.DEVNULL, check=False
        ).returncode

    def _output(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self._tree, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAFEPOINT_", "GIT_"))}
        return kept | {"GIT_SSH_COMMAND": shlex.join(("ssh", *self._ssh_options()))}

    def _ssh_options(self) -> tuple[str, ...]:
        """The demo's key and nothing of the user's own ssh set-up."""
        return (
            "-F", "none", "-i", str(self._directory / "key"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
        )  # fmt: skip


def _example(name: str) -> Path:
    """A wheel has the examples inside the package, a source tree has them at its top."""
    here = Path(__file__).resolve()
    for directory in (here.with_name("examples"), here.parents[2] / "examples"):
        if (directory / name).is_dir():
            return directory / name
    raise UserError(f"the example {name} is missing from this installation of Safepoint", "install it again")


@contextmanager
def _interruptible() -> Iterator[None]:
    """A closed terminal or a SIGTERM ends the tour as Ctrl-C does: with everything put away."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heading(text: str) -> None:
    _say(f"\n== {text} ==\n")


def _say(text: str) -> None:
    with suppress(BrokenPipeError):
        print(text, flush=True)
