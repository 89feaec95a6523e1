"""Each example's README, followed to the letter on a real server."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from deploying import Door, Site, app_processes, processes
from transcripts import run_transcript

EXAMPLES = Path(__file__).parents[2] / "examples"
TRANSCRIPTS = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))


def test_every_example_has_a_transcript() -> None:
    """One that nobody follows would rot."""
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()) == TRANSCRIPTS


@pytest.mark.parametrize("example", TRANSCRIPTS)
def test_the_readme_is_true(example: str, shared_site: Site, tmp_path: Path) -> None:
    """Every command of it does what it shows; and when its app is destroyed, nothing of the app still runs."""
    copy = tmp_path / example
    shutil.copytree(EXAMPLES / example, copy)
    readme = copy / "README.md"
    names = re.findall(r"^\$ safepoint apps:create (\S+)", readme.read_text(encoding="utf-8"), re.MULTILINE)
    alice = Door("embedded", shared_site, shared_site.place.directory / "alice")
    environment = alice.git_environment()
    environment |= {
        "SAFEPOINT_HOME": str(shared_site.home.root),
        "SSH_PORT": str(shared_site.ssh_port),
        "HTTP_PORT": str(shared_site.http_port),
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
    }
    try:
        run_transcript(readme, copy, environment)
    finally:
        for name in names:
            shared_site.run("apps:destroy", name, "--yes", status=None)
    assert names
    # Other servers of this machine may have an app of that name.
    assert [app_processes(name).keys() & processes(shared_site.home).keys() for name in names] == [set() for _ in names]
