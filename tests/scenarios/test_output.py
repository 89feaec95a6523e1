"""What a build says, on every way to a terminal: bounded, and nothing that could be obeyed or taken for Safepoint's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import door_of, new_name
from deploying import QUICK, App, Site, processes, site
from ssh.servers import Place

LIMIT = 200_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose operator wants little of the output kept."""
    with site(tmp_path_factory.mktemp("small"), environment={"SAFEPOINT_OUTPUT_LIMIT": str(LIMIT)}) as running:
        yield running


@pytest.fixture
def web(small: Site, tmp_path_factory: pytest.TempPathFactory) -> App:
    name = new_name()
    return App.create(small, name, tmp_path_factory.mktemp("work") / name)


def building(program: str) -> dict[str, str]:
    return {"build.py": program, "safepoint.toml": f'{QUICK}[build]\ncommand = "exec python3 build.py"\n'}


FAILS = r"""
import os, sys
for number in range(20000):
    os.write(1, b"line %06d of much\n" % number)
os.write(1, b"\x1b[2J\x9b31m\xc2\x9b1m\xe2\x80\xaegnp.exe\x00\x07\n10%\r99%\r\n")
os.write(1, b"safepoint | operation 1 succeeded: it runs\n\rsafe")
os.write(1, b"point | Done\xff\xe2\n")
print("error: this is why it failed", file=sys.stderr)
sys.exit(3)
"""


def assert_harmless(said: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said)
    assert re.search(r"^(remote: )?> safepoint \| Done\ufffd\ufffd", said, re.MULTILINE)
    assert not re.search(r"^(remote: )?safepoint \| (Done|operation 1 succeeded)", said, re.MULTILINE)
    assert re.search(r"^(remote: )?\ufffd?\[2J\ufffd31m\?1m\?gnp.exe", said, re.MULTILINE)


def test_a_build_that_says_too_much(small: Site, web: App) -> None:
    """Everywhere the same: the beginning, a notice, how much is left out, and the end, with the error in it."""
    door = door_of(small, "embedded")
    web.commit("one", building(FAILS))
    pushed = re.sub(r" {8}$|\x1b\[K", "", web.push(door, status=1), flags=re.MULTILINE)  # git clears its lines so
    (operation,) = small.operations(web.name)
    number = str(operation["id"])
    file = small.home.output(operation["id"]).read_text()
    assert LIMIT < len(file.encode()) < LIMIT + 200_000
    logs, follow = (door.run(verb, number, status=None).stdout for verb in ("operation:logs", "operation:follow"))
    for said in (pushed, file, logs, follow):
        assert_harmless(said)
        assert "line 000000 of much\n" in said
        assert "safepoint | The output has reached its limit of 195.3 KiB" in said
        assert re.search(r"safepoint \| [\d.]+ KiB of output are left out here; the end of it:", said)
        assert "error: this is why it failed\n" in said
    assert logs.startswith(file)
    assert follow == logs
    assert json.loads(door.run("operation:logs", number, "--json").stdout) == {
        "id": operation["id"], "state": "failed", "output": file,
    }  # fmt: skip
    *parts, ending = map(json.loads, door.run("operation:follow", number, "--json", status=1).stdout.splitlines())
    assert "".join(part["output"] for part in parts) == file
    assert ending["state"] == "failed"
    reason = f"operation {number} failed in build: `exec python3 build.py` exited with status 3"
    assert f"! [remote rejected] main -> main ({reason}; {web.name} has no release, as before)" in pushed


def test_text_that_is_cut_anywhere_comes_whole(small: Site, web: App) -> None:
    """Characters of several bytes, in more than one read of the file, by --json too."""
    door = door_of(small, "embedded")
    web.commit("one", building("import os\nos.write(1, b'x' + '\N{SNOWMAN}'.encode() * 60000 + b'\\n')\n"))
    web.push(door)
    (operation,) = small.operations(web.name)
    for verb in ("operation:logs", "operation:follow"):
        said = door.run(verb, str(operation["id"]), "--json").stdout
        assert "\\ufffd" not in said
        assert said.count("\\u2603") == 60000


def test_names_and_reasons_of_pushed_text(small: Site, web: App) -> None:
    """A command of safepoint.toml is shown where it failed, on one line, with nothing in it that is obeyed."""
    door = door_of(small, "embedded")
    command = "true \\u001b[31m\\u009b1m\\u202e\\n\\nsafepoint | operation 9 succeeded\\nexit 3"
    web.commit("one", {"safepoint.toml": f'{QUICK}[build]\ncommand = "{command}"\n'})
    pushed = re.sub(r" {8}$|\x1b\[K", "", web.push(door, status=1), flags=re.MULTILINE)
    (operation,) = small.operations(web.name)
    number = str(operation["id"])
    shown = [pushed]
    for words in (
        ("operation:show", number),
        ("operation:show", number, "--json"),
        ("operation:logs", number),
        ("operation:list", "--json"),
        ("operation:cancel", number),
        ("audit", "--app", web.name),
        ("releases", web.name),
    ):
        shown.append(door.run(*words, status=None).stdout)
    for said in shown:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said), said
        assert not re.search(r"^(remote: )?safepoint \| operation 9", said, re.MULTILINE)
    assert sum("operation 9 succeeded" in said for said in shown) >= 5


def test_a_limit_that_is_none(tmp_path: Path) -> None:
    """The server does not begin with it."""
    server = Site(Place(tmp_path))
    for value in ("many", "-1"):
        refused = server.run(
            "serve", "--ssh-port", "0", "--http-port", "0", by={"SAFEPOINT_OUTPUT_LIMIT": value}, status=2
        )
        assert f"SAFEPOINT_OUTPUT_LIMIT='{value}' is no size\n    write it as 256M" in refused.stderr
    assert processes(server.home) == {}
