"""safepoint.toml, as strangers write it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core import settings
from safepoint.core.settings import BeforeRelease, Build, Health, Settings
from safepoint.errors import UsageError

EVERYTHING = """\
[build]
command = "make"
timeout = "20m"

[[before_release]]
command = "./migrate up"
undo = "./migrate down"
timeout = "90s"
on_cancel = "finish"

[[before_release]]
command = "  ./index  "

[health]
path = "/up?deep=1"
expect = "2xx"
interval = "500ms"
timeout = "1.5h"

[watch]
for = "0s"

[stop]
grace = "1m"
"""


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        settings.parse(text)
    message = str(caught.value)
    assert message.isprintable(), message
    return message


def test_every_key_is_read() -> None:
    """Times become seconds, commands lose the space around them."""
    assert settings.parse(EVERYTHING) == Settings(
        build=Build("make", 1200.0),
        before_release=(BeforeRelease("./migrate up", "./migrate down", 90.0, "finish"), BeforeRelease("./index")),
        health=Health("/up?deep=1", "2xx", 0.5, 5400.0),
        watch=0.0,
        grace=60.0,
    )


def test_what_is_not_said_has_defaults() -> None:
    """An empty file and empty tables say nothing."""
    assert settings.parse("") == Settings()
    assert settings.parse("[build]\n[health]\n[watch]\n[stop]\n") == Settings()
    assert settings.parse("before_release = []") == Settings()


def test_the_same_can_be_written_in_other_ways() -> None:
    """Dotted and inline, as TOML allows."""
    dotted = 'build.command = "make"\nbefore_release = [{command = "a"}, {command = "b", undo = "c"}]\nwatch={for="1s"}'
    assert settings.parse(dotted) == Settings(
        build=Build("make"), before_release=(BeforeRelease("a"), BeforeRelease("b", "c")), watch=1.0
    )


def test_settings_come_back_from_json_as_they_were() -> None:
    """They are part of the plan, and so of the journal."""
    parsed = settings.parse(EVERYTHING)
    assert Settings.from_json(json.loads(json.dumps(parsed.to_json()))) == parsed


TIME = 'has to be a time such as "500ms", "10s", "3m" or "1h"'
COMMAND = "has to be text: a shell command"
TABLES = "has to be a list of tables, each begun by [[before_release]]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Each key, with the line that sets it.
        ("[build]\ncommand = 1", f"line 2: command {COMMAND}"),
        ('[build]\n\ncommand = "a\\u0000b"', f"line 3: command {COMMAND}"),
        ("[build]\ntimeout = 10", f"line 2: timeout {TIME}"),
        ('[health]\ntimeout="1s"\n[build]\ntimeout = "soon"', f"line 4: timeout {TIME}"),
        ('[build]\ntimeout = "0s"', f"line 2: timeout {TIME}"),
        ('[health]\npath = "up"', "line 2: path has to be a URL path that begins with / and has no spaces"),
        ('[health]\npath = "/a b"', "line 2: path has to be a URL path that begins with / and has no spaces"),
        ('[health]\npath = "/\\r\\nX: y"', "line 2: path has to be a URL path that begins with / and has no spaces"),
        ("[health]\npath = []", "line 2: path has to be a URL path that begins with / and has no spaces"),
        ("[health]\nexpect = 200", 'line 2: expect has to be "any" or "2xx"'),
        ("[health]\nexpect = {}", 'line 2: expect has to be "any" or "2xx"'),
        ('[health]\ninterval = "1ms"', f"line 2: interval {TIME}"),
        ('[health]\n"timeout" = "25h"', f"line 2: timeout {TIME}"),
        ('[watch]\nfor = "-1s"', f"line 2: for {TIME}"),
        ("[watch]\nfor = inf", f"line 2: for {TIME}"),
        ("[watch]\nfor = nan", f"line 2: for {TIME}"),
        ("[watch]\nfor = true", f"line 2: for {TIME}"),
        ("[watch]\nfor = 1979-05-27", f"line 2: for {TIME}"),
        ('[stop]\n\n  grace="1 s"', f"line 3: grace {TIME}"),
        ('[stop]\ngrace = "\u0663s"', f"line 2: grace {TIME}"),
        ('[stop]\ngrace = "1s\\n"', f"line 2: grace {TIME}"),
        ('[stop]\ngrace = "9999999999h"', f"line 2: grace {TIME}"),
        ("[stop]\ngrace = 1e999", f"line 2: grace {TIME}"),
        # The right one of several.
        ('[[before_release]]\ncommand="a"\n[[before_release]]\ncommand=2', f"line 4: command {COMMAND}"),
        ('[[before_release]]\ncommand="a"\nundo=2', f"line 3: undo {COMMAND}"),
        ('[[before_release]]\ncommand="a"\ntimeout="x"', f"line 3: timeout {TIME}"),
        (
            '[[before_release]]\ncommand="a"\n\n[[ before_release ]]\nundo="b"\n',
            "line 4: before_release number 2 has no command",
        ),
        ('[[before_release]]\ncommand="  "', "line 1: before_release number 1 has no command"),
        ('before_release = [{command = "a"}, {}]', "line 1: before_release number 2 has no command"),
        (
            '[[before_release]]\ncommand="a"\non_cancel="never"',
            'line 3: on_cancel has to be "interrupt" or "finish"',
        ),
        # Tables that are none.
        ("\nbuild = 1", "line 2: build has to be a table, begun by [build]"),
        ("[[health]]", "line 1: health has to be a table, begun by [health]"),
        ("before_release = 3", f"line 1: before_release {TABLES}"),
        ('before_release = ["a"]', f"line 1: before_release {TABLES}"),
        ("\n[before_release]\ncommand='a'", f"line 2: before_release {TABLES}"),
        # Keys that nobody knows.
        (
            "\n[buidl]\ncommand='a'",
            "line 2: buidl is not a key of the file; it has build, before_release, health, watch, stop",
        ),
        ("[build]\ncomand='a'", "line 2: comand is not a key of [build]; it has command, timeout"),
        ("[build.env]\na=1", "line 1: env is not a key of [build]; it has command, timeout"),
        ("build.timeuot = '1s'", "line 1: timeuot is not a key of [build]; it has command, timeout"),
        ("build = {\"x\" = 1}", "line 1: x is not a key of [build]; it has command, timeout"),
        (
            "[[before_release]]\ncommand='a'\n[before_release.env]",
            "line 3: env is not a key of [before_release]; it has command, undo, timeout, on_cancel",
        ),
        ("[health]\nport=1", "line 2: port is not a key of [health]; it has path, expect, interval, timeout"),
        ("[watch]\nfro=1", "line 2: fro is not a key of [watch]; it has for"),
        ("[stop]\nafter=1", "line 2: after is not a key of [stop]; it has grace"),
        # Lines are what TOML counts: neither U+2028 nor a script's text deceives.
        ("# \u2028 \x85\n[build]\ntimeout=1", f"line 3: timeout {TIME}"),
        ('[build]\r\ntimeout=1\r\n', f"line 2: timeout {TIME}"),
        ('[build]\ncommand="""\ntimeout=5\n[health]\n"""\ntimeout=1', f"line 6: timeout {TIME}"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    """One sentence: where, what, and what it has to be."""
    assert complaint(text) == f"safepoint.toml {message}"


@pytest.mark.parametrize(
    "key",
    ['"\\u001b[2J"', '"a b"', '""', '"' + "k" * 500 + '"', '"a\\nb"', '"\\u202e"', "'\"'", '"[build]"', '"é\\u0301"'],
)
@pytest.mark.parametrize("table", ["", "[build]\n", "[[before_release]]\n"])
def test_a_hostile_key_is_shown_escaped_and_cut(table: str, key: str) -> None:
    """It cannot drive a terminal, fill a screen or break the sentence into lines."""
    message = complaint(f"{table}{key} = 1\n")
    assert "is not a key of" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[build", "is not valid TOML: "),
        ("a = 1\na = 2", "is not valid TOML: "),
        ("a = \x1b", "is not valid TOML: "),
        ('a = "\\ud800"', "is not valid TOML: "),
        ("a = 2020-13-45", "is not valid TOML: "),
        ("a = " + "[" * 10_000, "is nested too deeply"),
        ("a = " + "{b=" * 3_000, "is nested too deeply"),
        ("a = " + "1" * 5_000, "has a number that is too long"),
        ("a = " + "1" * 20_000, "is larger than 16 KiB"),
        ("#" + "é" * 9_000, "is larger than 16 KiB"),
        ("before_release = [" + '{command="a"},' * 51 + "]", "before_release has 51 commands; the most is 50"),
    ],
)
def test_what_is_no_such_file_is_refused_whole(text: str, message: str) -> None:
    """Broken, too deep, too long or too large."""
    assert message in complaint(text)


@pytest.mark.parametrize(
    "text",
    [
        '[build]\ncommand="""\n[' + " " * 15_000 + '\n"""\nx=1',
        '[build]\ncommand="""' + "[" * 15_000 + '\n"""\nx=1',
        "[build]\nx=1\n# " + "'''\"\"\"'\"\"'" * 1_500,
        "[build]\n" + " " * 15_000 + "x=1",
        "build = {x=1, command='" + "x " * 7_000 + "'}",
        "[build]\n'" + "." * 15_000 + "'=1",
        "a" + ".a" * 8_000 + "=1",
    ],
    ids=["header", "brackets", "quotes", "spaces", "inline", "key", "dots"],
)
@pytest.mark.timeout(120)
def test_the_search_for_the_line_does_not_take_for_ever(text: str) -> None:
    """Text that is made to let a pattern backtrack is read in (much less than) seconds."""
    assert "is not a key of" in complaint(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1ms", 0.001), ("90s", 90.0), ("1.5h", 5400.0), ("0.25m", 15.0), ("999999999s", 999999999.0)],
)
def test_a_time_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    """In seconds."""
    assert settings.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "s",
        "1 s",
        " 1s",
        "1s ",
        "1S",
        "+1s",
        "1e3s",
        ".5s",
        "1.s",
        "1d",
        "1s1s",
        "1_0s",
        "\u0661s",
        1,
        1.0,
        None,
        [],
    ],
)
def test_what_is_no_time_is_none(value: object) -> None:
    """Also numbers alone: of what would they be?"""
    assert settings.duration(value) is None


KEYS = st.sampled_from(
    ["build", "before_release", "health", "watch", "stop", "command", "undo", "timeout", "on_cancel", "path", "expect",
     "interval", "for", "grace", "build.command", "health.path", '"\\u001b"', "''", "x", '"[a]"']
)  # fmt: skip
VALUES = st.recursive(
    st.sampled_from(
        ['"10s"', '"a"', "'/x'", '"""\n[build]\n"""', "1", "-1", "1e400", "nan", "true", "1979-05-27", "07:32:00",
         '"2xx"', '"finish"', '"\\u0000"', '"\\U0010FFFF"', "0x" + "f" * 5_000, "1" * 4_301]
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda found: f"[{', '.join(found)}]")
    | st.dictionaries(KEYS, inner, max_size=2).map(lambda d: "{" + ", ".join(f"{k} = {v}" for k, v in d.items()) + "}"),
    max_leaves=4,
)  # fmt: skip
LINES = st.one_of(
    st.builds("{} = {}".format, KEYS, VALUES),
    KEYS.map("[{}]".format),
    KEYS.map("[[{}]]".format),
    st.text(max_size=10),
)


@given(st.lists(LINES, max_size=8).map("\n".join) | st.text())
def test_whatever_is_in_it_it_is_read_or_refused_in_one_printable_sentence(text: str) -> None:
    """No other exception; what is read is within its limits."""
    try:
        found = settings.parse(text)
    except UsageError as error:
        message = str(error)
        assert message.isprintable(), message
        assert len(message) < 500
    else:
        assert all(each.command for each in found.before_release)
        times = (found.build.timeout, found.health.timeout, found.health.interval, found.watch, found.grace)
        assert all(0 <= seconds <= settings.MAX_SECONDS for seconds in times)
        assert Settings.from_json(json.loads(json.dumps(found.to_json()))) == found
