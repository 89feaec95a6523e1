"""The values of an app's configuration: in its environment, in the store, and nowhere else that anybody could look."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import door_of, new_name
from deploying import DOORS, App, Site, own_environment, site, wait_until
from holding import SETTINGS, Gate, gates, make_holdable
from ssh.servers import DEADLINE

OPEN = """
import os, pathlib
pathlib.Path("version").write_text(str(len(os.environ["TOKEN"])))
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, doors=True) as running:
        yield running


def command_lines() -> Iterator[tuple[int, bytes]]:
    """Of every process on the machine, as `ps` shows them to everybody."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                yield int(entry.name), (entry / "cmdline").read_bytes()


def shown_to_everybody(secret: str, *but: int) -> list[bytes]:
    return [line for pid, line in command_lines() if secret.encode() in line and pid not in (os.getpid(), *but)]


@pytest.mark.parametrize("name", ["embedded", "openssh"])
def test_a_setting_over_ssh_is_in_no_command_line(served: Site, tmp_path: Path, name: str) -> None:
    """Of the server: what the client's own says is the client's. What comes by standard input is in none at all."""
    app = App.create(served, new_name(), tmp_path / "app")
    secret, other = secrets.token_hex(20), secrets.token_hex(20)
    command = door_of(served, name).command("config:set", app.name, f"TOKEN={secret}", "OTHER=-")
    with subprocess.Popen(
        command, env=own_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as client:
        # It waits for its standard input: everything that it will ever run runs.
        verb = b"\0safepoint\0config:set\0"
        wait_until(lambda: any(line.endswith(verb) for _, line in command_lines()), "the command runs")
        found = shown_to_everybody(secret, client.pid)
        said, _ = client.communicate(f"{other}\n".encode(), timeout=DEADLINE)
    assert found == []
    assert client.returncode == 0, said
    assert said.decode() == f"Set TOKEN, OTHER for the next release of {app.name}\n"
    assert served.json("config", app.name) == {"TOKEN": secret, "OTHER": other}


def test_one_value_comes_by_standard_input(served: Site, tmp_path: Path) -> None:
    """As it is, but for one line's end; what cannot be a value is refused without being shown."""
    name = App.create(served, new_name(), tmp_path / "app").name
    for text, value in (("a b\n", "a b"), ("", ""), ("two\nlines\n\n", "two\nlines\n"), ("-", "-")):
        served.run("config:set", name, "A=-", text=text)
        assert served.json("config", name) == {"A": value}
    served.run("config:set", name, "A=" + "x" * 65536)
    for words, text, complaint in (
        (("A=-", "B=-"), "x", "standard input can be the value of one setting only"),
        (("A=-",), "x" * 65537, "the value of A is too long"),
        (("A=" + "x" * 65537,), "", "the value of A is too long"),
        (("A=" + "é" * 40_000,), "", "the value of A is too long"),
        (("A=-",), "x\0y", "the value of A has a NUL in it"),
    ):
        said = served.run("config:set", name, *words, text=text, status=2)
        assert said.stderr.startswith(f"safepoint: {complaint}")
        assert "xx" not in said.stderr


def test_a_secret_is_nowhere(served: Site, tmp_path: Path) -> None:
    """Not in what any command says over any door, nor in a log, nor in a command line, whether all goes well or not."""
    secret = secrets.token_hex(20)
    app = make_holdable(
        App.create(served, new_name(), tmp_path / "app"), SETTINGS.replace("sh hold build", "python3 open")
    )
    app.write({"open": OPEN})
    local, said = door_of(served, "local"), []
    said.append(served.run("config:set", app.name, "TOKEN=-", text=secret).stdout)
    for bad in (f"BAD-NAME={secret}", f"PORT={secret}", f"SAFEPOINT_X={secret}", f"={secret}"):
        said.append(served.run("config:set", app.name, bad, status=2).stderr)
    app.commit("one")
    for version, step in (("two", "before_release"), ("three", "health")):
        app.commit(version)
        with Gate(gates(app) / "40.before_release") as gate, app.pushing(local) as push:
            gate.wait_held(push)  # the build has seen it: what it calls its version is the secret's length
            assert shown_to_everybody(secret) == []
            number = str(push.operation())
            if step == "health":
                said.append(served.run("operation:cancel", number, "--dry-run").stdout)
                said.append(served.run("operation:cancel", number, "--no-wait").stdout)
            gate.open()
            said.append(push.finish())
    assert app.site.get(app.name) == (200, "40")
    assert shown_to_everybody(secret) == []
    app.commit("four", {"safepoint.toml": '[build]\ncommand = """test "$TOKEN" = x"""\n'})
    said.append(app.push(local, status=1))
    for name in DOORS:
        door = door_of(served, name)
        for words in (
            *(("operation:list",), ("operation:show", number), ("operation:logs", number), ("follow", number)),
            *(("releases", app.name), ("audit", "--app", app.name), ("apps",), ("keys",)),
        ):
            said.append(door.run(*words, status=None).stdout)
            said.append(door.run(*words, "--json", status=None).stdout)
    said.append(local.run("config:unset", app.name, "TOKEN").stdout)
    assert [text for text in said if secret in text] == []
    kept = {path for path in served.home.root.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()}
    allowed = ("safepoint.db", "safepoint.db-wal", "run/specs/", "run/supervisor.d/")
    assert [path for path in kept if not str(path.relative_to(served.home.root)).startswith(allowed)] == []
    assert [path for path in kept if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    assert stat.S_IMODE(served.home.root.stat().st_mode) & 0o066 == 0
