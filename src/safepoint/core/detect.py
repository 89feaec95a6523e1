"""What an app is, by what is at the root of its tree: how it is built, and what runs where it does not say. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Set

from safepoint.core import procfile, settings
from safepoint.core.procfile import RELEASE, WEB
from safepoint.core.settings import BeforeRelease, Settings
from safepoint.errors import UsageError
from safepoint.record import Record

PACKAGE_JSON = "package.json"
FILES = (settings.FILE, procfile.FILE, PACKAGE_JSON)
"""What has to be read to know an app."""


class AppShape(Record):
    settings: Settings
    """With the Procfile's `release:` as the last of the before_release commands."""
    processes: Mapping[str, str]
    build: tuple[str, ...]


def shape(names: Set[str], texts: Mapping[str, str | None], python: str) -> AppShape:
    """`names`: what is at the tree's root; `texts`: FILES; `python`: the interpreter that makes environments.

    Raises UsageError, one sentence, for an app that cannot be deployed as it is.
    """
    declared = texts.get(procfile.FILE)
    processes = procfile.parse(declared) if declared is not None else {}
    config = settings.parse(texts.get(settings.FILE) or "")
    package = _package(texts.get(PACKAGE_JSON)) if PACKAGE_JSON in names else None
    release = processes.pop(RELEASE, None)
    if release is not None:
        command = BeforeRelease(release)
        config = Settings(config.build, (*config.before_release, command), config.health, config.watch, config.grace)
    processes = processes or _default_processes(names, package, python)
    if not processes:
        example = "python app.py" if package is None else "node server.js"
        raise UsageError("the app does not say what to run", f"add a Procfile with a line such as `web: {example}`")
    build = (config.build.command,) if config.build.command else _default_build(names, package, python)
    return AppShape(config, processes, build)


def _default_processes(names: Set[str], package: Mapping[str, object] | None, python: str) -> dict[str, str]:
    if package is not None and "start" in _scripts(package):
        return {WEB: "npm start"}
    if package is not None and "build" in _scripts(package):
        # The site is what will be built (Vite's is in dist/): its sources as they are would look like a success.
        return {}
    folder = "public" if "public" in names else "." if "index.html" in names else None
    if folder is None:
        return {}
    return {WEB: f'exec {shlex.quote(python)} -I -m http.server --bind 127.0.0.1 --directory {folder} "$PORT"'}


def _default_build(names: Set[str], package: Mapping[str, object] | None, python: str) -> tuple[str, ...]:
    interpreter = shlex.quote(python)
    # pip from outside the environment: Debian's Python may come without ensurepip, and the app need not carry pip.
    pip = f"{interpreter} -I -m pip --python .venv/bin/python --disable-pip-version-check --no-input install"
    venv = f"{interpreter} -I -m venv --without-pip .venv"
    if "requirements.txt" in names:
        return (venv, f"{pip} -r requirements.txt")
    if "pyproject.toml" in names:
        return (venv, f"{pip} .")
    if package is not None:
        locked = {"package-lock.json", "npm-shrinkwrap.json"} & names
        install = f"npm {'ci' if locked else 'install'} --no-audit --no-fund"
        return (install, "npm run build") if "build" in _scripts(package) else (install,)
    return ()


def _package(text: str | None) -> Mapping[str, object]:
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        raise UsageError(f"{PACKAGE_JSON} is not valid JSON") from None
    if not isinstance(found, dict):
        raise UsageError(f"{PACKAGE_JSON} is not a JSON object")
    return found


def _scripts(package: Mapping[str, object]) -> Mapping[str, object]:
    scripts = package.get("scripts")
    return scripts if isinstance(scripts, dict) else {}
