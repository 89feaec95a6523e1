"""What an app is, by what is at the root of its tree."""

from __future__ import annotations

import json

import pytest

from safepoint.core.detect import FILES, AppShape, shape
from safepoint.errors import UsageError

PYTHON = "/opt/our python/bin/python"
VENV = "'/opt/our python/bin/python' -I -m venv --without-pip .venv"
STATIC = "exec '/opt/our python/bin/python' -I -m http.server --bind 127.0.0.1 --directory {} \"$PORT\""


def of(*names: str, **texts: str) -> AppShape:
    """`Procfile`, `toml` and `json` are the texts of the files that are read."""
    read = dict(zip(FILES, (texts.get("toml"), texts.get("Procfile"), texts.get("json")), strict=True))
    present = {name for name, text in read.items() if text is not None}
    return shape({*names, *present}, read, PYTHON)


def package(**scripts: str) -> str:
    return json.dumps({"name": "app", "scripts": scripts})


@pytest.mark.parametrize(
    ("found", "build"),
    [
        (of("app.py", Procfile="web: x"), "nothing"),
        (of("requirements.txt", "pyproject.toml", "package.json", Procfile="web: x", json="{}"), "-r requirements.txt"),
        (of("pyproject.toml", Procfile="web: x"), "install ."),
        (of(Procfile="web: x", json="{}"), "npm install --no-audit --no-fund"),
        (of("package-lock.json", Procfile="web: x", json="{}"), "npm ci --no-audit --no-fund"),
        (of("npm-shrinkwrap.json", Procfile="web: x", json="{}"), "npm ci --no-audit --no-fund"),
        (of("requirements.txt", Procfile="web: x", toml='[build]\ncommand = "make dist"'), "make dist"),
    ],
)
def test_how_it_is_built(found: AppShape, build: str) -> None:
    """Its own command, else the first of Python and Node that is there, else not at all."""
    assert (found.build or ["nothing"])[-1].endswith(build)
    assert (VENV in found.build) == ("pip" in "".join(found.build))


@pytest.mark.parametrize(
    ("found", "processes"),
    [
        (of("index.html", Procfile="web: a\nworker: b", json=package(start="c")), {"web": "a", "worker": "b"}),
        (of("index.html", json=package(start="node .")), {"web": "npm start"}),
        (of("index.html", "public"), {"web": STATIC.format("public")}),
        (of("index.html"), {"web": STATIC.format(".")}),
        (of("index.html", json="{}"), {"web": STATIC.format(".")}),
        (of("index.html", Procfile="release: a"), {"web": STATIC.format(".")}),
    ],
)
def test_what_runs(found: AppShape, processes: dict[str, str]) -> None:
    """The Procfile, else `npm start`, else a static folder."""
    assert found.processes == processes


def test_an_npm_build_comes_after_the_installation() -> None:
    """Where the package has such a script."""
    build = of("package-lock.json", Procfile="web: x", json=package(build="vite build")).build
    assert build == ("npm ci --no-audit --no-fund", "npm run build")


def test_release_is_the_last_command_before_the_release() -> None:
    """It is no process, and has the defaults of a command."""
    found = of(Procfile="release: c\nweb: x", toml='[[before_release]]\ncommand = "a"\nundo = "b"\n[watch]\nfor = "1s"')
    assert [each.command for each in found.settings.before_release] == ["a", "c"]
    assert (found.settings.before_release[1].undo, found.settings.watch) == ("", 1.0)
    assert found.processes == {"web": "x"}


@pytest.mark.parametrize(
    ("texts", "names", "complaint"),
    [
        ({}, ("app.py",), "the app does not say what to run; add a Procfile with a line such as `web: python app.py`"),
        ({"json": package(build="vite build")}, ("index.html",), "the app does not say what to run"),
        ({"json": "{"}, (), "package.json is not valid JSON"),
        ({"json": "[" * 100_000}, (), "package.json is not valid JSON"),
        ({"json": "[]"}, (), "package.json is not a JSON object"),
        ({"json": '{"scripts": {"start": 1}, "name": 7}', "Procfile": "x"}, (), "Procfile line 1"),
        ({"toml": "nonsense = 1", "Procfile": "web: x"}, (), "safepoint.toml line 1"),
    ],
)
def test_what_cannot_be_deployed_is_said(texts: dict[str, str], names: tuple[str, ...], complaint: str) -> None:
    """One sentence, which names the file."""
    with pytest.raises(UsageError) as refused:
        of(*names, **texts)
    assert str(refused.value).startswith(complaint)


def test_an_npm_build_without_a_start_is_not_served_as_a_folder() -> None:
    """Its `public/` is what the build takes in, not what it makes: a listing of that would be no deploy."""
    with pytest.raises(UsageError, match="does not say what to run"):
        of("public", "index.html", json=package(build="vite build"))
