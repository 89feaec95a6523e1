"""Which part of Safepoint may import which: the picture in ARCHITECTURE.md, held by a test."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import safepoint

ALLOWED: dict[str, set[str]] = {
    # errors <- core <- engine
    "errors": set(),
    "interpreter": set(),
    "record": set(),
    "hints": set(),
    "digest": set(),
    "machine": {"errors"},
    "core": {"errors"},
    "engine": {"errors", "core", "machine", "trees"},
    # The edge: each knows the core, and satisfies the engine's ports by shape.
    "state": {"errors", "core", "machine"},
    "processes": {"errors", "core", "state.paths"},
    "control": {"errors", "core", "state", "processes"},
    "drivers": {"errors", "interpreter", "core", "state.paths", "processes", "trees"},
    # What several of the doors need.
    "faults": set(),
    "signals": set(),
    "trees": set(),
    "logs": {"errors", "interpreter", "state.paths"},
    "people": {"core"},
    "server_settings": {"errors", "core", "state", "processes"},
    "permission": {"errors", "core", "state", "people"},
    "launch": {"errors", "interpreter", "core", "state", "control", "processes", "faults"},
    "planning": {"errors", "core", "state", "git"},
    # The doors: they reach a running operation through control, state and launch, never through the engine.
    "git": {
        "errors", "core", "state", "control", "processes", "trees",
        "interpreter", "logs", "machine", "people", "permission", "launch", "planning",
    },
    "ssh": {"errors", "interpreter", "core", "state", "logs", "signals", "people", "permission"},
    "cli": {
        "errors", "core", "state", "control", "processes", "git", "ssh", "interpreter",
        "logs", "machine", "people", "permission", "launch", "planning", "removal", "serve", "demo", "doctor",
    },
    "__main__": {"interpreter", "cli", "ssh", "state.paths"},
    "demo": {"errors"},  # it uses the commands, as anybody does
    "start": {"__main__", "git", "worker"},
    # Where drivers are put together with what uses them, and nowhere else.
    "worker": {
        "errors", "core", "engine", "state", "control", "processes", "drivers", "git",
        "logs", "faults", "launch", "server_settings", "turn",
    },
    "serve": {
        "errors", "core", "engine", "state", "control", "drivers", "git", "ssh",
        "logs", "launch", "server_settings", "signals",
    },
    "turn": {"errors", "core", "engine.latch", "state", "git", "launch", "planning"},
    "removal": {"errors", "core", "state", "drivers", "git", "trees"},
    "doctor": {"errors", "core", "state", "processes", "drivers", "server_settings"},
}  # fmt: skip
"""A part to the parts that it may import, besides its own. A part is a folder or a module, of whatever is below."""

LANGUAGE = {"record", "hints", "digest"}
"""What is like a part of the language: everybody may import it."""

EXCEPTIONS: dict[str, set[str]] = {
    # The tree of a commit is read by git itself, in the one way in which git is run here.
    "drivers.checkout": {"git.commands"},
}
"""What one module may import beyond its part, with the reason."""

COMPOSERS = {"worker", "serve", "removal", "doctor"}
"""Who may import drivers."""

PURE = {
    "__future__", "base64", "binascii", "collections.abc", "enum", "fnmatch", "heapq",
    "itertools", "json", "re", "shlex", "struct", "tomllib",
}  # fmt: skip
"""The standard library as far as the core uses it: nothing that reads, writes, waits or asks what time it is."""
PURE_PARTS: dict[str, set[str]] = {
    "core.command pathlib": {"Path"},  # a type; nothing is done with it
    "core.refs os": {"fsdecode"},  # PEP 383, which os alone spells
    "core.pushed_text codecs": {"getincrementaldecoder"},  # of what is already in memory
}
"""A core module and a library that also does I/O, to the names of it that do none."""
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}

ROOT = Path(safepoint.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
    if path != ROOT / "__init__.py"
}


def imports(tree: ast.Module) -> Iterator[str]:
    """The full names that are imported anywhere in a module, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and name_of(node.func) in ("import_module", "__import__"):
            yield ".dynamic"


def name_of(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def own(name: str) -> str | None:
    """The module of ours that a full name leads to; None where it is somebody else's, or the package itself."""
    parts = name.split(".")
    if parts[0] != "safepoint":
        return None
    for end in range(len(parts), 1, -1):
        if (module := ".".join(parts[1:end])) in MODULES:
            return module
    return None if len(parts) <= 2 and parts[-1].startswith("__") else ".".join(parts[1:])


def within(module: str, parts: set[str]) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in parts)


def wrong_imports(module: str, tree: ast.Module) -> list[str]:
    part = module.split(".", maxsplit=1)[0]
    allowed = ALLOWED[part] | LANGUAGE | {part} | EXCEPTIONS.get(module, set())
    names = list(imports(tree))
    indirect = [name for name in names if name.startswith(".")]
    found = [target for name in names if (target := own(name)) is not None and not within(target, allowed)]
    if part not in COMPOSERS | {"drivers"}:
        found += [name for name in names if within(own(name) or "", {"drivers"})]
    return sorted({*indirect, *found})


def impure(module: str, tree: ast.Module) -> list[str]:
    """What a module of the core uses that does I/O, or is not of the standard library."""
    found = []
    for name in imports(tree):
        if own(name) is not None or within(name, PURE):
            continue
        library, _, used = name.partition(".")
        pure_names = PURE_PARTS.get(f"{module} {library}", set())
        uses = {used} if used else attributes(tree, library)
        found += [f"{library}.{use}" for use in sorted(uses - pure_names) or [""] if use or not pure_names]
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return found + [call.id for call in calls if isinstance(call, ast.Name) and call.id in IMPURE_CALLS]


def attributes(tree: ast.Module, library: str) -> set[str]:
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == library}


def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def test_every_part_is_in_the_table() -> None:
    """A new folder or root module has to say what it may import."""
    assert {module.split(".")[0] for module in MODULES} - set(ALLOWED) == set()
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_part_may(module: str) -> None:
    """By name, at its top or inside a function; nothing relative and nothing dynamic, which could not be checked."""
    assert wrong_imports(module, parsed(module)) == []


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("core.")])
def test_the_core_is_pure(module: str) -> None:
    """It does no I/O, asks for no time, and needs nobody's package."""
    assert impure(module, parsed(module)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even inside functions, where Python would let them."""
    graph = {
        module: {target for name in imports(parsed(module)) if (target := own(name)) in MODULES and target != module}
        for module in MODULES
    }
    while leaves := {module for module, targets in graph.items() if not targets & graph.keys()}:
        graph = {module: targets for module, targets in graph.items() if module not in leaves}
    assert graph == {}


def test_no_exception_outlives_its_reason() -> None:
    """Each exception of the tables is needed by the module that has it."""
    for module, extra in EXCEPTIONS.items():
        used = {own(name) or "" for name in imports(parsed(module))}
        assert all(any(within(name, {part}) for name in used) for part in extra), module
    for entry in PURE_PARTS:
        module, _, library = entry.partition(" ")
        assert any(name.split(".")[0] == library for name in imports(parsed(module))), entry
    used_by_core = {name for module in MODULES if module.startswith("core.") for name in imports(parsed(module))}
    assert {library for library in PURE if not any(within(name, {library}) for name in used_by_core)} == set()
    assert {library for library in PURE if library.split(".")[0] not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize(
    ("module", "line", "finds"),
    [
        ("core.plan", "from safepoint.engine import steps", "engine.steps"),
        ("core.plan", "import safepoint.state.store", "state.store"),
        ("core.plan", "def f():\n    from safepoint.state.store import Store", "state.store"),
        ("core.plan", "from . import events", "..events"),
        ("core.plan", "import importlib\nimportlib.import_module('safepoint.state')", ".dynamic"),
        ("engine.steps", "from safepoint.drivers.haproxy import Haproxy", "drivers.haproxy"),
        ("engine.steps", "from safepoint.state.paths import Home", "state.paths"),
        ("state.store", "from safepoint import logs", "logs"),
        ("drivers.haproxy", "from safepoint.state.store import Store", "state.store"),
        ("drivers.haproxy", "from safepoint.engine.ports import StepError", "engine.ports"),
        ("cli.main", "from safepoint.engine.executor import Executor", "engine.executor"),
        ("cli.main", "from safepoint import worker", "worker"),
        ("git.hooks", "from safepoint.engine.executor import Executor", "engine.executor"),
        ("ssh.server", "from safepoint.engine import executor", "engine.executor"),
        ("ssh.server", "import safepoint.drivers.haproxy", "safepoint.drivers.haproxy"),
        ("core.plan", "from safepoint.corrections import fix", "corrections.fix"),
    ],
)
def test_a_wrong_import_would_be_found(module: str, line: str, finds: str) -> None:
    """In each of the ways in which it can be written."""
    assert finds in wrong_imports(module, ast.parse(line))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("core.plan", "import time"),
        ("core.plan", "from time import time"),
        ("core.plan", "from pathlib import Path"),
        ("core.command", "from pathlib import PosixPath"),
        ("core.plan", "import os.path"),
        ("core.refs", "import os\nos.unlink('x')"),
        ("core.plan", "import subprocess, socket"),
        ("core.plan", "import msgspec"),
        ("core.plan", "from collections import OrderedDict"),
        ("core.plan", "print('x')"),
    ],
)
def test_impurity_would_be_found(module: str, line: str) -> None:
    """Whatever does I/O, or might."""
    assert impure(module, ast.parse(line)) != []
