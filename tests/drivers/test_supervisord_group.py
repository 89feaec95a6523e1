"""The files of a group, and what supervisord reads from them."""

from __future__ import annotations

import configparser
import shlex
import signal
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from safepoint.core.release import Process, ProcessGroup
from safepoint.drivers import supervisord_group as groups
from safepoint.drivers.supervisord_plugin import ending
from safepoint.state.paths import Home

ARGUMENTS = st.lists(
    st.text(st.one_of(st.sampled_from(" ;#%'\"\\()s$"), st.characters(exclude_categories=["C", "Z"])), max_size=20),
    min_size=1,
    max_size=5,
)


def as_read(value: str) -> list[str]:
    """What supervisord makes of a value: see its UnhosedConfigParser, expand and get_execv_args."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(f"[program:x]\ncommand={value}\n")
    found = parser.get("program:x", "command").replace("%(here)s", "wrong")
    return shlex.split(found % {"here": "wrong"})


@given(ARGUMENTS)
@example(["%(here)s ;#", ";", "#", " ;; # "])
def test_any_argument_list_survives_the_configuration(arguments: list[str]) -> None:
    """Comments, expansion and quoting of the format leave every argument as it is."""
    assert as_read(groups.quoted(arguments)) == arguments


def group(**changes: object) -> ProcessGroup:
    fields = {
        "app": "shop",
        "release": 3,
        "directory": "/srv/shop",
        "environment": {"TOKEN": "hunter2"},
        "processes": (Process("web.1", "serve", 5000), Process("work.1", "work", 5001)),
        "grace": 2.5,
    }
    return ProcessGroup(**fields | changes)  # type: ignore[arg-type]


def test_a_group_has_a_program_for_each_process() -> None:
    """supervisord's sections: a group, its programs, the grace rounded up, logs where they are looked for."""
    text = groups.configuration(group(), {"web.1": ("a", "b c"), "work.1": ("d",)}, "../apps/shop/logs")
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    assert parser.sections() == ["group:shop.v3", "program:shop.v3.web.1", "program:shop.v3.work.1"]
    assert parser["group:shop.v3"]["programs"] == "shop.v3.web.1,shop.v3.work.1"
    web = parser["program:shop.v3.web.1"]
    assert (web["command"], web["stopwaitsecs"]) == ("a 'b c'", "3")
    assert web["stdout_logfile"] == "../apps/shop/logs/v3.web.1.log"
    assert "hunter2" not in text


def test_names_of_groups_can_be_read_back() -> None:
    """A group's name says its app and release; other names are nobody's."""
    assert groups.of_group(groups.group_name("shop-v1", 12)) == ("shop-v1", 12)
    assert [groups.of_group(name) for name in ("shop", "shop.v", ".v1", "shop.v1.conf", "shop.v1\n")] == [None] * 5


def test_a_definition_counts_when_it_is_complete_and_the_same(tmp_path: Path) -> None:
    """Half written, damaged or different definitions are not held; what can be known of their processes is."""
    home = Home(tmp_path)
    home.create()
    groups.directory(home).mkdir()
    files = groups.GroupFiles(home, "shop", 3)
    assert (files.processes(), files.grace(), files.holds(group())) == ([], groups.DEFAULT_GRACE, False)
    files.define(group())
    assert (files.processes(), files.grace(), files.holds(group())) == (["web.1", "work.1"], 2.5, False)
    files.configure("")
    assert files.holds(group())
    assert not files.holds(group(environment={"TOKEN": "other"}))
    assert not files.holds(group(processes=()))
    (groups.directory(home) / "shop.v3.json").write_text("{")
    assert (files.processes(), files.holds(group())) == ([], False)
    for _ in range(2):
        files.remove()
        assert list(groups.directory(home).iterdir()) == []


def test_an_ending_is_told_in_words() -> None:
    """A wait status is a clause for people, also for signals without a name."""
    assert ending(3 << 8) == "exited with status 3"
    assert ending(signal.SIGTERM | 0x80) == "was killed by SIGTERM"
    assert ending(40) == "was killed by signal 40"
