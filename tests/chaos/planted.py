"""Bugs to plant into a copy of Safepoint, each of which the chaos run has to find; and the making of such a copy."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import safepoint


@dataclass(frozen=True, slots=True)
class Bug:
    file: str
    """Below src/safepoint."""
    old: str
    new: str


BUGS = {
    "what a dead worker did is not undone": Bug(
        "engine/executor.py",
        'warnings = () if "unprepared" in data else',
        'died = self._journal.operation.failure.startswith("the deploy process died")\n'
        '            warnings = () if "unprepared" in data or died else',
    ),
    "the lock goes before the tree is dead": Bug(
        "processes/contained.py",
        "        finally:\n                try:\n                    tree.kill()\n                finally:",
        "        finally:\n                try:\n                    pass\n                finally:",
    ),
    "the switch is not undone": Bug(
        "engine/steps.py",
        '    if data["port"] is None and data["previous_port"] is None:\n        return ()\n',
        "    return ()\n",
    ),
    "the branch moves before the commit record": Bug(
        "engine/executor.py",
        "                self._journal.append(e.Committed(at=time.time()))",
        "                self._ctx.repository.move(self._ctx.plan.branch, self._ctx.plan.commit)\n"
        "                self._journal.append(e.Committed(at=time.time()))",
    ),
    "a commit that was cut short does not go on": Bug(
        "core/operation.py",
        "return _set(op, running.name, StepState.PENDING) if running is not None else op",
        "return _set(op, running.name, StepState.DONE) if running is not None else op",
    ),
    "the release's directory is left": Bug(
        "engine/steps.py",
        "def undo_export(ctx: Context, _data: Data) -> Warnings:\n    _remove(ctx.places.release)\n",
        "def undo_export(ctx: Context, _data: Data) -> Warnings:\n",
    ),
    "recovery forgets the one that waits": Bug(
        "launch.py",
        "    if open_in(store, app, slot) is None:\n        return False\n",
        "    if open_in(store, app, slot) is None or slot != app:\n        return False\n",
    ),
    "a cancel is accepted and not journalled": Bug(
        "worker.py",
        "            given = journal.request_cancel(",
        "            from safepoint.core.operation import verdict\n\n"
        "            given = (lambda **_: verdict(journal.operation))(",
    ),
    "quarantines are not swept": Bug(
        "git/leftovers.py",
        "    found = list(_quarantines(repository)) + ",
        "    found = ",
    ),
    "a push ends with 0 whatever becomes of it": Bug(
        "git/hooks.py",
        'return "" if ended.ending is Ending.SUCCEEDED else wording.closing(ended)',
        'return ""',
    ),
    "the control socket is left": Bug(
        "worker.py",
        "        self._output.settle()\n        self._home.control_socket(self._slot).unlink(missing_ok=True)\n",
        "        self._output.settle()\n",
    ),
    "cancels are not audited": Bug(
        "core/audit.py",
        "            case e.CancelRequested():",
        "            case e.CancelRequested() if event.force:",
    ),
    "a dead router is not started again": Bug(
        "serve.py",
        '        self._daemons = {os.pidfd_open(supervisord): "supervisord", os.pidfd_open(haproxy): "haproxy"}',
        '        self._daemons = {os.pidfd_open(supervisord): "supervisord"}',
    ),
    "the old release is not stopped": Bug(
        "engine/steps.py",
        "    ctx.runtime.stop(ctx.plan.app, release.number)\n    if drained:",
        "    if drained:",
    ),
    # These, but for one, were Safepoint's own: the first runs of chaos, and reading for them, found them.
    "a switch is undone to a port that is nobody's any more": Bug(
        "engine/steps.py",
        "ctx.router.switch(ctx.plan.app, _previous_port(ctx))",
        'ctx.router.switch(ctx.plan.app, data["previous_port"])',
    ),
    "an opening that dies has told nobody": Bug(
        "launch.py",
        "        listener = None if lock is None else listen(home, running_slot(plan.app))",
        "        listener = None",
    ),
    # In place of a hook that takes init for its push: where the push is dead, so is the pipe of the hook's first word.
    "an operation waits for a push that is dead": Bug(
        "engine/steps.py",
        "    also = [ctx.received.fileno(), *([] if ctx.receiver is None else [ctx.receiver])]\n"
        "    if ctx.receiver is not None:\n",
        "    also = [ctx.received.fileno()]\n    if not ctx.received.is_set():\n",
    ),
    "what died under a deploy is not started again": Bug(
        "serve.py",
        "            if not (self._clear(slot) and (slot != app or self._tidy(app))):",
        "            if not self._clear(slot):",
    ),
}


def copy(directory: Path) -> str:
    """A Python whose Safepoint is a copy; its path."""
    source = Path(safepoint.__file__).parents[2]
    shutil.copytree(source / "src", directory / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(source / "hooks", directory / "hooks")
    return str(_environment(directory))


def plant(bug: Bug, directory: Path) -> str:
    """The same, with the bug in it."""
    python = copy(directory)
    file = directory / "src" / "safepoint" / bug.file
    text = file.read_text()
    assert text.count(bug.old) == 1, f"{bug.file} has changed: plant another bug"
    file.write_text(text.replace(bug.old, bug.new))
    return python


def _environment(directory: Path) -> Path:
    """A virtual environment that sees the copy first, and then the packages that we see."""
    venv = directory / "venv"
    (venv / "bin").mkdir(parents=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = venv / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (packages / "planted.pth").write_text(f"{directory / 'src'}\n{sysconfig.get_path('purelib')}\n")
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    (venv / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    python = venv / "bin" / "python"
    python.symlink_to(base)
    return python
