"""What dead pushes leave in a repository is removed; what living ones use is not."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forging import ENVIRONMENT, git, work_tree

from safepoint.git.leftovers import LOCK_AGE, sweep
from safepoint.git.repositories import GitRepository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "app.git"
    git(tmp_path, "init", "--quiet", "--bare", "--template=", path)
    return path


def quarantine(repository: Path, name: str, age: float = 0.0) -> Path:
    path = repository / "objects" / name
    (path / "pack").mkdir(parents=True)
    (path / "pack" / "tmp_pack_x").write_bytes(b"x")
    (path / "pack" / "tmp_pack_x").chmod(0o444)
    made = time.time() - age
    os.utime(path, (made, made))
    return path


@contextmanager
def receiving(repository: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A git-receive-pack that waits for its client; it has sent its first line, so it is in its directory."""
    process = subprocess.Popen(
        ["git", "receive-pack", str(repository)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.read(4)
        yield process
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def test_the_dead_is_removed(repository: Path) -> None:
    """Quarantines of git before and since 2.35, and nothing that is not one."""
    dead = [quarantine(repository, name, age=1) for name in ("tmp_objdir-incoming-AbC", "incoming-dEf")]
    kept = [quarantine(repository, name, age=1) for name in ("pack-x", "tmp_objdir-other-x", "00")]
    sweep(repository)
    assert not any(path.exists() for path in dead)
    assert all(path.exists() for path in kept)


def test_a_living_push_keeps_its_own(repository: Path) -> None:
    """What is younger than a git at work may be that git's; what is older is not, and goes while the git still runs."""
    older = quarantine(repository, "tmp_objdir-incoming-older", age=60)
    with receiving(repository):
        own = quarantine(repository, "tmp_objdir-incoming-own")
        sweep(repository)
        assert own.exists()
        assert not older.exists()


def test_a_push_into_another_repository_keeps_nothing(repository: Path, tmp_path: Path) -> None:
    """Only gits at work in this repository count."""
    other = tmp_path / "other.git"
    git(tmp_path, "init", "--quiet", "--bare", "--template=", other)
    with receiving(other):
        dead = quarantine(repository, "tmp_objdir-incoming-x", age=0.5)
        sweep(repository)
        assert not dead.exists()


def test_locks_and_half_packs_go_when_they_are_old(repository: Path) -> None:
    """A lock that has been there for hours keeps a branch from ever being pushed again."""
    names = [
        "HEAD.lock",
        "packed-refs.lock",
        "refs/heads/x/y.lock",
        "objects/pack/tmp_pack_1",
        "objects/pack/.tmp-2.pack",
    ]
    (repository / "refs/heads/x").mkdir()
    (repository / "objects/pack").mkdir(exist_ok=True)
    for name in names:
        (repository / name).touch()
    sweep(repository)
    assert all((repository / name).exists() for name in names)
    long_ago = time.time() - LOCK_AGE - 10
    for name in names:
        os.utime(repository / name, (long_ago, long_ago))
    sweep(repository)
    assert not any((repository / name).exists() for name in names)


def test_a_link_is_not_followed(repository: Path, tmp_path: Path) -> None:
    """Only the link goes."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    link = repository / "objects" / "tmp_objdir-incoming-x"
    link.symlink_to(tmp_path / "precious")
    long_ago = time.time() - 10
    os.utime(link, (long_ago, long_ago), follow_symlinks=False)
    sweep(repository)
    assert not link.is_symlink()
    assert (tmp_path / "precious" / "file").exists()


def test_a_push_that_was_killed(repository: Path, tmp_path: Path) -> None:
    """The real thing: receive-pack is killed while its hook runs, and what it leaves is swept."""
    hook = repository / "hooks" / "pre-receive"
    hook.parent.mkdir()
    started = tmp_path / "started"
    os.mkfifo(started)
    # The hook ends when the test closes the pipe.
    hook.write_text(f"#!/bin/sh\nexec 3<>{started}.in\necho $PPID >{started}\nread x <&3\n")
    hook.chmod(0o755)
    os.mkfifo(f"{started}.in")
    work_tree(tmp_path / "work", {"a": b"1"})
    push = subprocess.Popen(
        ["git", "-C", str(tmp_path / "work"), "push", "--quiet", str(repository), "main"],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    receiver = int(started.read_text())
    left = list((repository / "objects").glob("*incoming-*"))
    assert len(left) == 1
    sweep(repository)
    assert left[0].exists()
    pidfd = os.pidfd_open(receiver)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)
    Path(f"{started}.in").write_text("\n")
    assert push.wait(60) != 0
    GitRepository(repository).sweep()
    assert not left[0].exists()
    assert git(repository, "for-each-ref") == ""


def test_nothing_to_sweep(repository: Path) -> None:
    """A clean repository stays as it is."""
    before = sorted(repository.rglob("*"))
    GitRepository(repository).sweep()
    assert sorted(repository.rglob("*")) == before
