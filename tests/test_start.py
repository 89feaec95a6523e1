"""What our own processes have imported when they begin: each push waits for all of it, several times over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safepoint import interpreter

HEAVY = {
    "argparse", "asyncio", "bz2", "click", "concurrent", "cryptography", "dataclasses", "dulwich", "email", "hashlib",
    "http", "importlib.util", "inspect", "logging", "lzma", "multiprocessing", "paramiko", "random", "runpy", "secrets",
    "shutil", "site", "ssl", "structlog", "tempfile", "tomllib", "traceback", "typing", "xmlrpc",
}  # fmt: skip
LISTS = "import sys; sys.path.append({root!r}); import {module}; print(*sys.modules, sep='\\n')"


@pytest.mark.parametrize(
    "module",
    ["safepoint.git.hooks", "safepoint.git.after_push", "safepoint.ssh.shell", "safepoint.worker"],
)
def test_nothing_heavy_is_imported(module: str) -> None:
    """Of the standard library neither what compiles or compresses, and nothing of anybody else's."""
    root = str(Path(interpreter.START).parents[1])
    code = LISTS.format(root=root, module=module)
    command = [sys.executable, "-I", "-S", "-c", code]
    found = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert module in found
    assert HEAVY & found == set()
    roots = {name.partition(".")[0] for name in found}
    assert roots - sys.stdlib_module_names - {"safepoint", "__main__"} == set()


def test_somebody_elses_package_is_found_when_it_is_needed() -> None:
    """By a process that has begun without the directories in which it is, virtual environments' among them."""
    code = (
        f"import sys; sys.path.append({str(Path(interpreter.START).parents[1])!r})\n"
        "from safepoint.interpreter import with_packages\nwith_packages()\nimport structlog, sys\nprint(sys.prefix)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == sys.prefix


@pytest.mark.parametrize("what", ["os", "safepoint.launch", ""])
def test_only_what_is_known_can_be_started(what: str) -> None:
    """One sentence, and a status that refuses the push."""
    done = subprocess.run(interpreter.command(what), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"safepoint: {what!a} is nothing that could be started\n"


def test_the_command_line_starts_this_way_too() -> None:
    """As it does for who comes by ssh; its packages are found."""
    done = subprocess.run(interpreter.command("safepoint", "--version"), check=True, capture_output=True, text=True)
    assert done.stdout.startswith("safepoint")


def test_a_command_imports_its_own_verbs_only() -> None:
    """Whoever cancels does not wait for what `doctor` needs."""
    code = "import sys; from safepoint.cli.main import run; run(['cancel', '--help']); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    found = {name for name in done.stdout.split() if name.startswith("safepoint.cli.")}
    assert found == {f"safepoint.cli.{name}" for name in ("common", "main", "operations", "views")}
