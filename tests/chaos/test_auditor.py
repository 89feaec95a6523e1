"""The auditor: a home in order is in order, and whatever is put out of order by hand is found."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos.auditor import Auditor
from chaos.play import Player
from chaos.played import Played
from chaos.rounds import Deploy, Push, Round
from chaos.served import Served, served
from chaos.watcher import Watcher
from deploying import a_port, wait_until
from ssh.servers import git

ONE = Round(
    0, 0, (Push(0, Deploy.GOOD, 0, "local", "", no_wait=False, attach=False, followers=1, dies_after=None),), (), ()
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Played]]:
    """With one app that serves, and the round that made it so."""
    directory = tmp_path_factory.mktemp("chaos")
    with served(directory) as made:
        (directory / "round").mkdir()
        yield made, Player(made, ONE, directory / "round", lambda: None).play()


def test_a_quiet_round_is_in_order(home: tuple[Served, Played]) -> None:
    """One push, which goes live and is followed."""
    made, played = home
    found = Auditor(made).audit(played)
    assert found.violations == []
    assert dict(found.endings) == {"succeeded": 1}
    assert [client.kind for client in played.clients] == ["push", "follow"]


@contextmanager
def _a_directory(path: Path) -> Iterator[None]:
    path.mkdir(parents=True)
    yield
    path.rmdir()


@contextmanager
def _a_file(path: Path) -> Iterator[None]:
    path.touch()
    yield
    path.unlink()


@contextmanager
def _a_lock(path: Path) -> Iterator[None]:
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _a_process(root: Path, **environment: str) -> Iterator[None]:
    with subprocess.Popen(["sleep", "1000"], env={"PATH": os.environ["PATH"], "HOME": str(root), **environment}) as it:
        yield
        it.kill()


@contextmanager
def _another_branch(made: Served) -> Iterator[None]:
    repository = made.root / "repositories" / "app0.git"
    before = git("--git-dir", repository, "rev-parse", "main").strip()
    other = git("--git-dir", repository, "commit-tree", "main^{tree}", "-m", "other").strip()
    git("--git-dir", repository, "update-ref", "refs/heads/main", other)
    yield
    git("--git-dir", repository, "update-ref", "refs/heads/main", before)


@contextmanager
def _another_route(made: Served) -> Iterator[None]:
    path = made.root / "run" / "routes.map"
    before = path.read_text()
    path.write_text("app0 1\n")
    yield
    path.write_text(before)


@contextmanager
def _a_cgroup(made: Served) -> Iterator[None]:
    """Where this machine has them."""
    base = next((each.parent for each in made.cgroups() if each.name == "app0.v1.web.1"), None)
    scope = base / "99.build" if base else made.root / "run" / "specs" / "99.build"
    scope.mkdir()
    yield
    scope.rmdir()


DAMAGES: dict[str, Callable[[Served], object]] = {
    "release directories": lambda home: _a_directory(home.root / "apps/app0/releases/v99"),
    "scratch directory": lambda home: _a_directory(home.root / "apps/app0/tmp"),
    "a log of nobody": lambda home: _a_file(home.root / "apps/app0/logs/v99.web.1.log"),
    "a control socket of nobody": lambda home: _a_file(home.root / "run/app0.next.sock"),
    "is locked": lambda home: _a_lock(home.root / "run/app0.pid"),
    "a lock in the repository": lambda home: _a_file(home.root / "repositories/app0.git/refs/heads/main.lock"),
    "there are specs": lambda home: _a_file(home.root / "run/specs/99.build.json"),
    "supervisord has files": lambda home: _a_file(home.root / "run/supervisor.d/app0.v99.conf"),
    "half a file": lambda home: _a_file(home.root / "run/some.cfg.new"),
    "of nobody": lambda home: _a_process(home.root),
    "has processes": lambda home: _a_process(home.root, SAFEPOINT_APP="app0", SAFEPOINT_RELEASE="v1", PORT="1"),
    "the branch is": _another_branch,
    "routes.map has": _another_route,
    "99.build": _a_cgroup,
}


@pytest.mark.parametrize("said", DAMAGES)
def test_what_is_out_of_order_is_found(home: tuple[Served, Played], said: str) -> None:
    """One thing at a time, which nobody owns or which contradicts the journal; and nothing of it afterwards."""
    made, played = home
    with DAMAGES[said](made):  # type: ignore[attr-defined]
        found = Auditor(made, patience=0).audit(played)
        assert any(said in each for each in found.violations), found.violations
    assert Auditor(made).audit(played).violations == []


@contextmanager
def _moved(path: Path) -> Iterator[None]:
    path.rename(path.with_name("moved"))
    yield
    path.with_name("moved").rename(path)


@contextmanager
def _nobody_answers(made: Served) -> Iterator[None]:
    """Nobody answers where it should."""
    port, made.http_port = made.http_port, a_port()
    yield
    made.http_port = port


MOMENTS: dict[str, Callable[[Served], object]] = {
    "the branch was": _another_branch,
    "the route was to 1,": _another_route,
    "there were releases [1, 99]": lambda home: _a_directory(home.root / "apps/app0/releases/v99"),
    "its directory was not there": lambda home: _moved(home.root / "apps/app0/releases/v1"),
    "nobody was in its way": _nobody_answers,
}


@pytest.mark.parametrize("said", MOMENTS)
def test_what_is_wrong_for_a_moment_is_found(home: tuple[Served, Played], said: str) -> None:
    """While nothing is under way the world is as the journal says, at every look."""
    made, before = home
    played = Played(before.round, first_operation=before.first_operation)
    with Watcher(made, played, calm=True) as watcher:
        wait_until(lambda: watcher.looks > 1 and watcher.answers > len(made.apps), "it looks")
        assert played.seen == []
        with MOMENTS[said](made):  # type: ignore[attr-defined]
            wait_until(lambda: any(said in each for each in played.seen), f"it says {said}")
        assert not any("the watcher failed" in each for each in played.seen)
