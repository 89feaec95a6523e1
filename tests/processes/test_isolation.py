"""What an isolated command can see and do, as root and as nobody; and what is decided before it is run."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.trials import (
    AS_NOBODY,
    DEADLINE,
    Bench,
    bench,
    isolating,
    python_for_nobody,
    read_until,
    worker_for_nobody,
)

from safepoint.core.failures import StepError
from safepoint.processes import containment, isolation
from safepoint.processes.containment import Kind
from safepoint.state.paths import Home

ROOT = os.geteuid() == 0
HERE = ROOT and any(not case.prefix for case in isolating())
"""Whether root can isolate apps on this machine: in some containers it cannot."""


@pytest.fixture(params=isolating(), ids=str)
def app(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as made:
        for directory in (_release(made), _release(made, "other"), made.home / "repositories"):
            directory.mkdir(parents=True)
            (directory / "file").write_text("secret")
        if made.case.prefix:
            subprocess.run(("chown", "-R", "65534:65534", made.home), check=True)
        yield made


def _release(app: Bench, name: str = "web") -> Path:
    return Home(app.home).release(name, 1)


def run(app: Bench, script: str, **options: object) -> str:
    """What a command of the app `web` says."""
    release = _release(app)
    options = {"app": "web", "directory": str(release), "directories": (str(release),), **options}
    outcome = app.run("sh", "-c", script, **options)
    return outcome.output


def test_the_home_is_hidden(app: Bench) -> None:
    """Of the home there is the app's own directory, under its own name, and nothing else; there it can write."""
    said = run(app, f"pwd; ls {app.home} {app.home}/apps; cat file; echo new >file; cat file; : >{app.home}/file")
    assert said.startswith(f"{_release(app)}\n{app.home}:\napps\n\n{app.home}/apps:\nweb\nsecretnew\n")
    assert "file: Read-only file system" in said or "file: Permission denied" in said
    assert (_release(app) / "file").read_text() == "new\n"
    assert not (app.home / "file").exists()


def test_the_home_cannot_be_uncovered(app: Bench) -> None:
    """Not by becoming root in a namespace of its own, where the machine allows that: what hides it is locked there."""
    trick = f"umount {app.home}; umount -l {app.home}; ls {app.home}; cat {_release(app, 'other')}/file"
    said = run(app, f"unshare -Urm sh -c '{trick}'; ls {app.home}")
    assert "secret" not in said
    assert "repositories" not in said


def test_its_user(app: Bench) -> None:
    """As root it is a user of the app's own, in no other group; else who we are. Nothing makes it more than that."""
    user = isolation.user_of(app.home, "web") if ROOT and not app.case.prefix else 65534 if ROOT else os.geteuid()
    said = run(app, "id -u; grep -E '^(CapEff|CapPrm|NoNewPrivs|Uid|Groups)' /proc/self/status; stat -c %u file")
    lines = {name: rest.split() for name, _, rest in (line.partition(":") for line in said.splitlines())}
    assert said.splitlines()[0] == said.splitlines()[-1] == str(user)
    assert lines["Uid"] == [str(user)] * 4
    assert lines["NoNewPrivs"] == ["1"]
    assert int(lines["CapEff"][0], 16) == int(lines["CapPrm"][0], 16) == 0
    assert not ROOT or set(lines["Groups"]) <= {str(user)}


def test_no_process_but_its_own(app: Bench) -> None:
    """The worker is not in /proc, and what is there says nothing of the launcher's."""
    with subprocess.Popen(("sleep", "3600")) as sleep:
        try:
            said = run(app, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; cat /proc/[0-9]*/environ | tr '\\0' ' '")
            assert "contained_worker" not in said
            assert "SECRET_OF_THE_WORKER" not in said
            assert "sleep" not in said
            assert "No such" in run(app, f"ls -d /proc/{sleep.pid}") or app.case.kind == "pidns"
        finally:
            sleep.kill()


def test_output_can_be_opened_again(app: Bench) -> None:
    """Servers are often told to write their log to /dev/stdout."""
    assert run(app, "echo out >/dev/stdout; echo err >/dev/stderr") == "out\nerr\n"


def test_it_ends_like_any_other(app: Bench) -> None:
    """Status, signal and a tree that is left behind: isolation changes nothing of that."""
    release = str(_release(app))
    options = {"app": "web", "directory": release, "directories": (release,)}
    assert app.run("sh", "-c", "setsid sleep 3600 & exit 7", **options).result == 7
    assert app.run("sh", "-c", "kill -KILL $$", **options).result == -9
    assert app.run("no-such-command", **options).result == 127
    assert app.run("sh", "-c", "echo ready; sleep 3600", latch_on="ready", **options).result == "Interrupted"
    assert app.living() == []


def test_it_dies_with_its_worker(app: Bench) -> None:
    """The wish to be told is forgotten when the user changes, so it has to be made again."""
    release = str(_release(app))
    options = {"app": "web", "directory": release, "directories": (release,)}
    with app.start("sh", "-c", "echo ready; exec sleep 3600", **options) as worker:
        read_until(worker, b"ready")
        worker.kill()
        worker.wait(DEADLINE)
        deadline = time.monotonic() + DEADLINE
        while app.living():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    app.end()


def test_what_cannot_be_isolated_is_not_run(app: Bench) -> None:
    """A directory that has gone: nothing runs, and least of all with everything in sight."""
    (_release(app) / "file").unlink()
    _release(app).rmdir()
    release = str(_release(app))
    with app.start("sh", "-c", "echo ran", app="web", directory=release, directories=(release,)) as worker:
        output, _ = worker.communicate(timeout=DEADLINE)
    assert b"ran" not in output


def test_python_is_to_be_had(app: Bench) -> None:
    """Safepoint's own, wherever it is, makes environments and runs in them."""
    python = app.case.python
    said = run(app, f'{python} -I -m venv --without-pip .venv && .venv/bin/python -c "import ssl; print(42)"')
    assert said == "42\n"


# --- what is decided


def test_users_of_apps(tmp_path: Path) -> None:
    """A number that is nobody's, by home and name; another way to the same home changes nothing."""
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    users = {isolation.user_of(tmp_path / home, app) for home in ("a", "b") for app in ("web", "web2")}
    assert len(users) == 4
    assert all(0x70000000 <= user < 0x7FFFFFF0 for user in users)
    assert isolation.user_of(tmp_path / "link", "web") == isolation.user_of(tmp_path / "a", "web")


def test_what_is_hidden_and_shown(tmp_path: Path) -> None:
    """From the topmost closed directory on, all is hidden; Python and the app's directories are put back into it."""
    home, python, mine = tmp_path / "h" / "home", tmp_path / "p" / "python", tmp_path / "h" / "home" / "apps" / "web"
    for each in (home, python, mine):
        each.mkdir(parents=True)
    (tmp_path / "h").chmod(0o711)
    (tmp_path / "p").chmod(0o700)
    closed = tmp_path
    while closed.stat().st_mode & 0o001 or any(not up.stat().st_mode & 0o001 for up in closed.parents):
        if closed == closed.parent:
            break
        closed = closed.parent
    top = None if closed == closed.parent else closed
    found = list(isolation.mounts(home, 1, [python], [mine]))
    hidden = [place for place, source in found if source is None]
    assert hidden == ([str(top)] if top else [str(tmp_path / "p"), str(home)])
    assert [source for _, source in found if source] == [str(python), str(mine)]
    # Ourselves may pass everywhere: only the home is hidden.
    assert list(isolation.mounts(home, None, [python], [mine])) == [(str(home), None), (str(mine), str(mine))]


def test_a_home_below_python_stays_hidden(tmp_path: Path) -> None:
    """What is put back does not bring the home with it."""
    python = tmp_path / "python"
    home = python / "home"
    home.mkdir(parents=True)
    tmp_path.chmod(0o700)
    found = list(isolation.mounts(home, 1, [python], []))
    assert found.index((str(python), str(python))) < found.index((str(home), None))


@pytest.mark.parametrize("user", [1, None])
def test_python_below_the_home_is_shown(tmp_path: Path, user: int | None) -> None:
    """As where somebody has made a virtual environment there; after the home was hidden."""
    python = tmp_path / "venv"
    python.mkdir()
    found = list(isolation.mounts(tmp_path, user, [python], [tmp_path / "x"]))
    shown = (str(python), str(python))
    assert found.count(shown) == 1
    assert all(found.index(step) < found.index(shown) for step in found if step[1] is None)


def test_a_home_by_another_name(tmp_path: Path) -> None:
    """Below what is hidden a link leads nowhere, so the directories are there by both names."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    home = tmp_path / "link"
    places = {place for place, source in isolation.mounts(home, None, [], [home / "x"]) if source}
    assert places == {str(home / "x"), str(tmp_path / "real" / "x")}


def test_what_is_given_to_an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is in the directory, and nothing that a link in it leads to; nothing outside of the app's own place."""
    if not HERE:
        return  # nobody else gives files away
    home = Home(tmp_path / "home")
    release = home.release("web", 1)
    release.mkdir(parents=True)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (release / "link").symlink_to(tmp_path / "precious")
    (release / "file").symlink_to(tmp_path / "precious" / "file")
    (release / "sub").mkdir()
    (release / "sub" / "file").touch()
    user = isolation.user_of(home.root, "web")
    for _ in range(2):
        made = isolation.spec(home.root, "web", Kind.SUBREAPER, [release])
        assert made is not None
        assert made["user"] == user
        owners = {path: path.lstat().st_uid for path in release.rglob("*")}
        assert set(owners.values()) == {release.stat().st_uid} == {user}
        assert len(owners) == 4
        assert (tmp_path / "precious").stat().st_uid == (tmp_path / "precious" / "file").stat().st_uid == 0
    # What root has made there meanwhile is the app's, too, when it is isolated again.
    (home.root / isolation.SWITCH).touch()
    assert isolation.spec(home.root, "web", Kind.SUBREAPER, [release]) is None
    (release / "new").touch()
    (home.root / isolation.SWITCH).unlink()
    isolation.spec(home.root, "web", Kind.SUBREAPER, [release])
    assert (release / "new").stat().st_uid == user
    # A machine that does not allow it any more does not make it root.
    with monkeypatch.context() as patch:
        patch.setattr(isolation, "_works", lambda home: False)
        with pytest.raises(StepError, match=r"web cannot be isolated any more; `touch .*not-isolated` has it run"):
            isolation.spec(home.root, "web", Kind.SUBREAPER, [release])
    for wrong in (tmp_path / "precious", home.root, home.release("other", 1)):
        with pytest.raises(ValueError, match="is not the app's"):
            isolation.spec(home.root, "web", Kind.SUBREAPER, [wrong])


def test_switched_off(tmp_path: Path) -> None:
    """By the operator's wish, which `doctor` then has to say."""
    (tmp_path / isolation.SWITCH).touch()
    assert isolation.spec(tmp_path, "web", Kind.PIDNS, []) is None
    assert isolation.user(tmp_path, "web") is None
    ((fine, sentence),) = isolation.describe(tmp_path)
    assert not fine
    assert sentence.startswith(f"Apps are not isolated, as long as there is {tmp_path}/not-isolated. Pushed code runs ")


def test_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is isolated is said, and what is not, in whole sentences."""
    found = isolation.describe(tmp_path)
    assert all(sentence.endswith(".") for _, sentence in found)
    if HERE:
        assert [fine for fine, _ in found] == [True, True]
        assert found[0][1].startswith("Each app is a Unix user of its own, without new privileges")
    monkeypatch.setattr(isolation, "_works", lambda home: False)
    ((fine, sentence),) = isolation.describe(tmp_path)
    assert not fine
    assert sentence.startswith("Apps are not isolated: ")


def test_described_to_another_user_than_root() -> None:
    """It says that apps can do what the server's user can."""
    python = python_for_nobody() if ROOT else None
    if python is None:
        return
    program = (
        f"import sys; sys.path.insert(0, {str(worker_for_nobody().parents[2] / 'src')!r})\n"
        "import json; from pathlib import Path; from safepoint.processes import isolation\n"
        "print(json.dumps(isolation.describe(Path('/tmp'))))"
    )
    done = subprocess.run((*AS_NOBODY, python, "-c", program), capture_output=True, text=True, env={}, cwd="/")
    assert done.returncode == 0, done.stderr
    assert any(not fine and "Pushed code runs as nobody, and may do" in said for fine, said in json.loads(done.stdout))


def test_containment_of_another_user(tmp_path: Path) -> None:
    """Root's first choice is a cgroup; another user's is what isolates."""
    kinds = [kind for kind in Kind if containment.possible(kind, tmp_path)]
    assert containment.best(tmp_path) == (kinds[0] if ROOT or Kind.PIDNS not in kinds else Kind.PIDNS)
