"""What is done to one release reaches no other: nothing is shared, on any file system, whoever the build runs as."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from breaking import FILE_SYSTEMS, disk_of
from conftest import door_of, new_name
from deploying import App, Site, site, wait_until
from ssh.servers import git

from safepoint.processes import isolation

# The last word of each file that the build was given, written where it lies; nothing is made anew.
BUILD = """
import os, pathlib
written = 0
for path in pathlib.Path(".").rglob("*"):
    if path.is_file():
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(b"\\n# by " + str(os.geteuid()).encode())
        written += 1
print("wrote into", written)
"""
FILES = 1_000


@pytest.fixture(params=FILE_SYSTEMS)
def on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """With the home in a file system of that kind."""
    with disk_of(request.param, tmp_path / "disk", tmp_path / "image"), site(tmp_path / "disk") as running:
        yield running


def bytes_of(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """Of every file: what is in it, its mode and its inode. No other name leads to it."""
    found = {}
    for path in directory.rglob("*"):
        if path.is_file() and ".git" not in path.relative_to(directory).parts:
            about = path.stat()
            assert about.st_nlink == 1
            found[str(path.relative_to(directory))] = (path.read_bytes(), about.st_mode, about.st_ino)
    return found


@pytest.mark.parametrize("isolated", [True, False], ids=["user of its own", "root"])
def test_a_build_that_writes_in_place(on_disk: Site, tmp_path: Path, isolated: bool) -> None:
    """Into every file, in three deploys: older releases and what the next one begins with stay as they are."""
    home, name = on_disk.home, new_name()
    if not isolated:
        (home.root / isolation.SWITCH).touch()
    settings = '[build]\ncommand = "python3 build.py"\n[watch]\nfor = "0s"\n[stop]\ngrace = "5s"\n'
    app = App.create(on_disk, name, tmp_path / name, settings)
    app.write({"build.py": BUILD} | {f"many/{n % 10}/{n}.txt": f"{n}\n" * 20 for n in range(FILES)})
    before: dict[Path, object] = {}
    for number in (1, 2, 3):
        commit = app.commit(str(number), {f"many/{number}/{number}.txt": f"changed in {number}\n"})
        said = app.push(door_of(on_disk, "local"))
        pushed = {path: (app.tree / path).read_bytes() for path in git("-C", app.tree, "ls-files").splitlines()}
        assert f"wrote into {len(pushed)}" in said
        release, spare = home.release(name, number), home.spare(name) / commit
        wait_until(spare.exists, "the spare tree is there")

        assert {path: bytes_of(path) for path in before} == before
        assert {path: text for path, (text, _, _) in bytes_of(spare).items()} == pushed
        found = {path: text for path, (text, _, _) in bytes_of(release).items()}
        user = isolation.user_of(home.root, name) if isolated else 0
        assert found == {path: text + f"\n# by {user}".encode() for path, text in pushed.items()}
        before[release] = bytes_of(release)
    git("--git-dir", home.repository(name), "fsck", "--strict")
