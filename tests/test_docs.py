"""The README is complete, and says nothing that is not so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from safepoint.cli.main import safepoint
from safepoint.core import settings
from safepoint.core.settings import BeforeRelease, Build, Settings
from safepoint.engine.steps import KEPT_RELEASES
from safepoint.engine.vigil import SETTLE_SECONDS
from safepoint.errors import UsageError
from safepoint.record import replace
from safepoint.ssh.requests import SERVER_ONLY

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
TOML = re.findall(r"^```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[0]

SPELLED = r"(?<![\w:./-]){}(?![\w:-])"
"""A command's name as a word of its own."""


@pytest.mark.parametrize("name", sorted(safepoint.all()))
def test_every_command_is_in_the_readme(name: str) -> None:
    """In its table of commands; those that are not for ssh have a star there."""
    table = re.findall(r"^\| (`.*?) \|", README.partition("### Commands")[2], re.MULTILINE)
    (row,) = (row for row in table if re.search("`" + SPELLED.format(re.escape(name)), row))
    assert row.endswith("*") == (name.partition(":")[0] in SERVER_ONLY), row


def test_the_readme_names_no_command_that_does_not_exist() -> None:
    """Neither as `noun:verb` nor after `safepoint`, over ssh or in a shell."""
    named = set(re.findall(r"(?<![\w:./@-])[a-z]+:[a-z]+(?![\w:-])", README))
    named |= set(re.findall(r"^\$? ?safepoint ([a-z:]+)", README, re.MULTILINE))
    named |= set(re.findall(r"`safepoint ([a-z:-]+)", README))
    assert named
    assert named <= safepoint.all().keys(), named - safepoint.all().keys()


def keys_of(text: str) -> list[str]:
    """What may be in a table, as the refusal of a wrong key says it."""
    with pytest.raises(UsageError, match="; it has ") as refused:
        settings.parse(text)
    return refused.value.message.partition("; it has ")[2].split(", ")


def test_every_key_of_safepoint_toml_is_in_the_readme() -> None:
    """And no other: it is what the parser knows."""
    shown = tomllib.loads(TOML)
    assert list(shown) == keys_of("nonsense = 1")
    for table, found in shown.items():
        array = isinstance(found, list)
        heading = f"[[{table}]]" if array else f"[{table}]"
        assert list(found[0] if array else found) == keys_of(f"{heading}\nnonsense = 1\n"), table


def test_the_times_in_the_readme_are_the_defaults() -> None:
    """All of its settings are, but for the commands."""
    shown, default = settings.parse(TOML), Settings()
    (before,) = shown.before_release
    assert before == BeforeRelease(before.command, before.undo)
    assert replace(shown, build=Build(timeout=shown.build.timeout), before_release=()) == default
    assert f"stayed up for {SETTLE_SECONDS:g} seconds" in README
    assert f"keeps {KEPT_RELEASES} " in README
