"""The command line: exit statuses, where the home is given, what scripts get, and what a stranger may type."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from deploying import own_environment
from ssh.servers import Place

from safepoint.cli.main import run, safepoint

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home that nobody serves, with an app and a key."""
    place = Place(tmp_path)
    place.add_app("web")
    place.add_key("alice")
    return place


@pytest.fixture
def cli(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A command in this process, with streams as strict as a terminal's: its exit status, and what it printed."""
    monkeypatch.setenv("SAFEPOINT_HOME", str(place.home.root))
    out, err = tmp_path / "out", tmp_path / "err"

    def call(*words: str) -> tuple[int, str, str]:
        with (
            out.open("w", encoding="utf-8") as stdout,
            err.open("w", encoding="utf-8", errors="backslashreplace") as stderr,
            monkeypatch.context() as patch,
        ):
            for name, stream in (("stdin", io.StringIO()), ("stdout", stdout), ("stderr", stderr)):
                patch.setattr(sys, name, stream)
            status = run(list(words))
        return status, out.read_text(), err.read_text()

    return call


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("nonsense",), 2, "No such command 'nonsense'"),
        (("apps:create",), 2, "Missing argument 'NAME'"),
        (("apps:create", "Web!"), 2, "'Web!' cannot be the name of an app"),
        (("apps:create", "web"), 1, "there is already an app named web"),
        (("apps:create", "blog", "--branch", "-x"), 2, "'-x' is no name for a deploy branch"),
        (("apps", "more"), 2, "Got unexpected extra argument"),
        (("apps", "--wrong"), 2, "--wrong"),
        (("apps:destroy", "blog", "--yes"), 1, "there is no app named blog"),
        (("keys:add", "bob", "/no/such/file"), 2, "cannot read /no/such/file: No such file or directory"),
        (("keys:remove", "bob"), 1, "there is no key named bob"),
        (("config:set", "web"), 2, "Missing argument"),
        (("config:set", "web", "NAME"), 2, "a setting is written NAME=VALUE"),
        (("config:set", "web", "PORT=80"), 2, "PORT is set by Safepoint itself"),
        (("deploy", "web"), 1, "web has nothing on main yet"),
        (("releases:rollback", "web"), 1, "web has no earlier release"),
        (("operation:list", "--limit", "0"), 2, "0 is not in the range"),
        (("operation:list", "--app", "blog"), 1, "there is no app named blog"),
        (("operation:show", "one"), 2, "'one' is no operation ID"),
        (("operation:show", "7"), 6, "there is no operation 7"),
        (("operation:logs", "7"), 6, "there is no operation 7"),
        (("operation:follow", "7"), 6, "there is no operation 7"),
        (("operation:cancel", "7"), 6, "there is no operation 7"),
        (("operation:cancel", "7", "--dry-run"), 6, "there is no operation 7"),
        (("cancel", "9" * 40), 6, "there is no operation 999"),
        (("recover", "7"), 6, "there is no operation 7"),
    ],
)
def test_what_is_wrong_is_said_with_its_status(cli: Cli, words: tuple[str, ...], status: int, complaint: str) -> None:
    """2 for a wrong use, 6 for no such operation, 1 for all else."""
    found, out, err = cli(*words)
    assert (found, out) == (status, "")
    assert complaint in err


def test_the_home_is_given_before_the_verb_or_after_it(cli: Cli, place: Place, tmp_path: Path) -> None:
    """Both win over SAFEPOINT_HOME. A place that is no home is named, and not made into one."""
    other = tmp_path / "other"
    for words in (("--home", str(other), "apps"), ("apps", "--home", str(other)), ("apps", f"--home={other}")):
        status, _, err = cli(*words)
        assert (status, err.splitlines()[0]) == (1, f"safepoint: {other} is not a Safepoint home")
    assert not other.exists()
    assert cli("--home", str(other), "apps:create", "blog")[0] == 0
    assert "blog" in cli("apps", "--home", str(other))[1]
    assert "blog" not in cli("apps")[1]


HOSTILE = (
    "", " ", "\udcff", "a" * 10_000, "../../../etc/passwd", "-", "--", "-1", "1e9", "0x10", "\N{FULLWIDTH DIGIT NINE}",
    "$(id)", "\x1b[31mred", "web\nweb", "\N{SNOWMAN}=\N{SNOWMAN}", "A=\udcff", "v1", "v-1", "web", "alice",
    "/", "main^{/x}", "%s%n{0}", "--json", "--help", "--home", "'",
)  # fmt: skip
"""What a person or a script may type where a word belongs."""

OTHERWISE = ("demo", "serve", "shell")
"""What goes on for ever, or is another door."""


def test_no_words_bring_a_traceback(cli: Cli) -> None:
    """Whatever is typed after whatever verb: it works, or a sentence says what is wrong."""
    verbs = sorted(set(safepoint.all()) - set(OTHERWISE))
    for verb, words in itertools.product(verbs, [(a,) for a in HOSTILE] + [("web", a) for a in HOSTILE]):
        status, out, err = cli(verb, *words)
        assert status in (0, 1, 2, 5, 6, 130), (verb, words)
        assert "Traceback" not in out + err, (verb, words)
        assert "internal error" not in err, (verb, words, err)
        assert status in (0, 130) or err or verb == "doctor", (verb, words)  # what it finds is what it was asked for
        assert "\x1b" not in err, (verb, words)


def test_scripts_get_json(cli: Cli) -> None:
    """Every listing, with the same keys each time."""
    cli("config:set", "web", "B=2", "A=\N{SNOWMAN}\n")
    (app,) = json.loads(cli("apps", "--json")[1])
    assert app.keys() == {"name", "branch", "created", "user", "release", "commit"}
    assert (app["name"], app["branch"], app["release"], app["commit"]) == ("web", "main", None, None)
    (key,) = json.loads(cli("keys", "--json")[1])
    assert key.keys() == {"name", "type", "fingerprint", "added", "grants"}
    assert key["fingerprint"].startswith("SHA256:")
    assert json.loads(cli("config", "web", "--json")[1]) == {"A": "\N{SNOWMAN}\n", "B": "2"}
    assert json.loads(cli("releases", "web", "--json")[1]) == []
    assert json.loads(cli("operation:list", "--json")[1]) == []


def test_limits_are_kept_and_shown(cli: Cli, place: Place) -> None:
    """As they are written, and a wrong one changes nothing. They go with the app."""
    assert cli("limits", "web") == (0, "web: memory= processes= cpu=\n", "")
    cli("limits", "web", "memory=512M", "cpu=1.5")
    assert cli("limits", "web", "processes=200", "cpu=")[1] == "web: memory=512M processes=200 cpu=\n"
    assert cli("limits", "web", "memory=1G", "disk=1G")[0] == 2
    assert cli("limits", "web")[1] == "web: memory=512M processes=200 cpu=\n"
    assert place.home.limits("web").stat().st_mode & 0o777 == 0o600
    assert "limits processes=200 cpu=" in cli("audit")[1]
    cli("apps:destroy", "web", "--yes")
    cli("apps:create", "web")
    assert cli("limits", "web")[1] == "web: memory= processes= cpu=\n"


def test_an_alias_is_its_verb(cli: Cli) -> None:
    """`cancel`, `follow` and `logs` are short for the operation's."""
    for alias in ("cancel", "follow", "logs"):
        short, long = (cli(name, "--help")[1] for name in (alias, f"operation:{alias}"))
        assert short == long


def test_every_command_says_what_it_is_for(cli: Cli) -> None:
    """In the list of all, and by itself."""
    status, listing, _ = cli("--help")
    assert status == 0
    for name, command in safepoint.all().items():
        assert command.help
        assert name in listing
        assert cli(name, "--help")[0] == 0
    assert cli("--version")[1].startswith("safepoint, version ")


def test_a_reader_that_leaves_early(place: Place) -> None:
    """`| head -1` ends the command without a complaint."""
    command = [sys.executable, "-m", "safepoint", "--help"]
    script = 'set -o pipefail; "$@" | head -c 1 >/dev/null; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command], env=own_environment(), capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout in ("0\n", "1\n")
