"""Builds and before_release commands: what is run by what is found, with which environment, and how it can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import door_of, new_name
from deploying import APP, QUICK, App, Door, Site, site, world

BACKEND = '''
"""A build backend of nothing but the standard library: making the package needs no network."""
import base64, hashlib, pathlib, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info, name = "tiny-1.dist-info", "tiny-1-py3-none-any.whl"
    files = {
        "tiny.py": pathlib.Path("tiny.py").read_text(),
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{each},,\\n" for each in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w") as wheel:
        for each, text in files.items():
            wheel.writestr(each, text)
    return name
'''
PACKAGE = {
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "backend.py": BACKEND,
    "tiny.py": 'TEXT = b"tiny is installed"\n',
}
"""A package that an app can install."""


def answering(expression: str, imports: str) -> dict[str, str]:
    """A web app run by the Python of its own environment, whose answer is an expression."""
    return {
        "app.py": f"import {imports}\n" + APP.replace('pathlib.Path("version").read_bytes()', expression),
        "Procfile": "web: exec python app.py\n",
    }


@pytest.fixture
def local(shared_site: Site) -> Door:
    return door_of(shared_site, "local")


def test_python_with_requirements(app: App, local: Door) -> None:
    """They are installed into the release's own environment: a package of the tree, and one from PyPI."""
    files = {f"pkg/{name}": text for name, text in PACKAGE.items()} | {"requirements.txt": "./pkg\nitsdangerous\n"}
    answer = 'tiny.TEXT + b", " + itsdangerous.base64_decode("ZXZpbA")'
    app.commit("one", files | answering(answer, "itsdangerous, tiny"))
    said = app.push(local)
    assert "remote: safepoint | Building..." in said
    assert "Successfully installed " in said
    assert app.site.get(app.name) == (200, "tiny is installed, evil")


def test_python_with_pyproject(app: App, local: Door) -> None:
    """The app itself is installed."""
    answer = 'tiny.TEXT + b" in " + tiny.__file__.encode()'
    app.commit("one", PACKAGE | answering(answer, "os, sys; sys.path.remove(os.getcwd()); import tiny"))
    app.push(local)
    status, text = app.site.get(app.name)
    assert (status, text.startswith("tiny is installed in ")) == (200, True)
    assert text.partition(" in ")[2].startswith(f"{app.site.home.release(app.name, 1)}/.venv/lib/")


NODE = {
    "package.json": json.dumps(
        {"name": "one", "version": "1.0.0", "scripts": {"build": "node build.js", "start": "exec node server.js"}}
    ),
    "package-lock.json": json.dumps(
        {"name": "one", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "one", "version": "1.0.0"}}}
    ),
    "build.js": 'require("fs").writeFileSync("built", "built by npm")',
    "server.js": 'require("http").createServer((_, to) => to.end(require("fs").readFileSync("built")))'
    '.listen(process.env.PORT, "127.0.0.1")',
}


def test_node_without_procfile(app: App, local: Door) -> None:
    """`npm ci` by the lock file, `npm run build` where there is one, `npm start`."""
    (app.tree / "Procfile").unlink()
    app.commit("one", NODE)
    said = app.push(local)
    assert "npm error" not in said
    assert app.site.get(app.name) == (200, "built by npm")


def test_static_folders(app: App, local: Door) -> None:
    """An index.html is served as it is, and `public/` is, and then nothing but that."""
    (app.tree / "Procfile").unlink()
    app.commit("one", {"index.html": "plain"})
    assert "Building" not in app.push(local)
    assert app.site.get(app.name) == (200, "plain")
    app.commit("two", {"public/index.html": "public"})
    app.push(local)
    assert app.site.get(app.name) == (200, "public")
    assert app.site.get(app.name, "/app.py")[0] == 404


def test_an_own_build_with_a_cache(app: App, local: Door) -> None:
    """[build] command wins over what is found; CACHE_DIR is kept from build to build, failed ones too."""
    build = '[build]\ncommand = "echo run >> $CACHE_DIR/runs && cp $CACHE_DIR/runs version && test ! -e fail"\n'
    app.commit("one", {"requirements.txt": "no such requirement", "safepoint.toml": QUICK + build})
    app.push(local)
    assert app.site.get(app.name) == (200, "run\n")
    app.commit("two", {"fail": ""})
    app.push(local, status=1)
    (app.tree / "fail").unlink()
    app.commit("three")
    app.push(local)
    assert app.site.get(app.name) == (200, "run\nrun\nrun\n")


DUMP = "python3 -c 'import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], \\\"w\\\"))'"


def test_the_environment_of_pushed_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the app's configuration and what Safepoint says of the release. Nothing of the server's own gets in."""
    monkeypatch.setenv("DATABASE_PASSWORD", "secret of the server")
    monkeypatch.setenv("SSH_AUTH_SOCK", "secret of the server")
    settings = f'{QUICK}[build]\ncommand = "{DUMP} build"\n[[before_release]]\ncommand = "{DUMP} before"\n'
    with site(tmp_path) as own:
        app = App.create(own, new_name(), tmp_path / "work", settings)
        own.run("config:set", app.name, "TOKEN=secret of the app", "PATH_INFO=x=y z")
        files = answering("json.dumps(dict(os.environ)).encode()", "json, os")
        files["Procfile"] = "web: exec python3 app.py\n"
        for number, door in enumerate(("embedded", "local"), 1):
            commit = app.commit(door, files)
            app.push(door_of(own, door), environment={"GIT_TRACE2": "0", "MY_TOKEN": "secret of the pusher"})
            release = own.home.release(app.name, number)
            kinds = {name: json.loads((release / name).read_text()) for name in ("build", "before")}
            kinds["web"] = json.loads(own.get(app.name)[1])
            for kind, environment in kinds.items():
                assert environment["TOKEN"] == "secret of the app", kind
                assert environment["PATH_INFO"] == "x=y z", kind
                told = {name: value for name, value in environment.items() if name.startswith("SAFEPOINT_")}
                told.pop("SAFEPOINT_SCOPE", None)  # by which what is left of it is found
                assert told == {
                    "SAFEPOINT_APP": app.name, "SAFEPOINT_RELEASE": f"v{number}", "SAFEPOINT_COMMIT": commit,
                }  # fmt: skip
                assert environment["PWD"] == environment["HOME"] == str(release), kind
                assert ("PORT" in environment) == (kind == "web")
                assert not any(name.startswith(("GIT_", "SSH_")) for name in environment), environment
                assert not {"secret of the server", "secret of the pusher"} & set(environment.values()), environment


def test_builds_and_commands_that_fail_or_take_too_long(app: App, local: Door, outside: Path) -> None:
    """Each ends the deploy as failed, with everything as before, and says which command it was."""
    undone = outside / "undone"
    app.commit("one")
    app.push(local)
    app.site.run("config:set", app.name, f"UNDONE={undone}")
    sleep = "(setsid sleep 600 &) ; trap '' TERM; sleep 600 & wait"
    grace = '[stop]\ngrace = "100ms"\n'
    undoable = '[[before_release]]\ncommand = "true"\nundo = "touch $UNDONE"\n'
    cases = {
        f'{grace}[build]\ncommand = "exit 3"\n': ("build", "`exit 3` exited with status 3"),
        f'{grace}[build]\ncommand = "kill -9 $$"\n': ("build", "`kill -9 $$` was killed by signal 9"),
        f'{grace}[build]\ncommand = "{sleep}"\ntimeout = "200ms"\n': (
            "build", f"`{sleep}` was ended after its timeout of 0.2 s",
        ),
        f'{grace}{undoable}[[before_release]]\ncommand = "{sleep}"\ntimeout = "1s"\n': (
            "before_release.2", f"`{sleep}` was ended after its timeout of 1 s",
        ),
    }  # fmt: skip
    before = world(app)
    for settings, (step, reason) in cases.items():
        app.commit("two", {"safepoint.toml": settings})
        said = app.push(local, status=1)
        number = app.site.operations(app.name)[0]["id"]
        closing = f"operation {number} failed in {step}: {reason}; {app.name} still runs v1"
        assert f"remote: safepoint | {closing}" in said
        assert f" ! [remote rejected] main -> main ({closing})" in said
        assert world(app) == before
    assert undone.exists()
    assert f"remote: safepoint | warning: not undone: `{sleep}` (it declares no undo)" in said


def test_the_order_of_what_runs_before_a_release(app: App, local: Door, outside: Path) -> None:
    """As they are declared, then `release:` of the Procfile, each in what was built; it is no process of its own."""
    log = outside / "log"
    app.site.run("config:set", app.name, f"LOG={log}")
    commands = "".join(f'[[before_release]]\ncommand = "echo {each} >> $LOG"\n' for each in ("first", "second"))
    settings = QUICK + '[build]\ncommand = "echo built > made"\n' + commands
    procfile = f"release: cat made >> $LOG\n{(app.tree / 'Procfile').read_text()}"
    app.commit("one", {"safepoint.toml": settings, "Procfile": procfile})
    said = app.push(local)
    assert log.read_text() == "first\nsecond\nbuilt\n"
    assert "remote: safepoint | Running `cat made >> $LOG`..." in said
    assert "remote: safepoint | Starting v1: web..." in said
    steps = [each["name"] for each in app.site.operations(app.name)[0]["steps"]]
    assert steps[2:6] == ["build", "before_release.1", "before_release.2", "before_release.3"]
