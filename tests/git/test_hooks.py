"""The hooks proper, run as git would and as it would not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

from conftest import door_of
from deploying import App
from ssh.servers import DEADLINE, GIT_ENVIRONMENT


def test_a_hook_whose_push_is_dead_already_opens_nothing(make_app: Callable[[], App]) -> None:
    """Its parent is init then, which never ends: an operation would wait for its objects for ever."""
    app = make_app()
    commit = app.commit("one")
    app.push(door_of(app.site, "local"), "main:other")  # its objects are there
    repository = app.site.home.repository(app.name)
    line = f"{'0' * 40} {commit} refs/heads/main\n"
    # Of `sh`, which ends before the hook can begin: it waits for a line that comes when its parent is gone.
    reader, writer = os.pipe()
    said, out = os.pipe()
    parent = subprocess.Popen(
        ["sh", "-c", 'exec 3<&0; { read -r go; exec "$0" 3<&-; } <&3 & exit 0', app.site.home.hooks / "pre-receive"],
        cwd=repository,
        env=GIT_ENVIRONMENT | {"GIT_DIR": "."},
        stdin=reader,
        stdout=out,
        stderr=out,
    )
    assert parent.wait(DEADLINE) == 0
    os.close(reader)
    os.close(out)
    os.write(writer, f"go\n{line}".encode())
    os.close(writer)
    with os.fdopen(said) as output:
        assert "the push has ended" in output.read()
    assert app.site.operations(app.name) == []
