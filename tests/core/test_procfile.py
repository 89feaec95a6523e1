"""The Procfile, as strangers write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core import procfile
from safepoint.errors import UsageError


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        procfile.parse(text)
    return str(caught.value)


def test_process_types_come_in_the_order_of_the_file() -> None:
    """With comments, empty lines, spaces and Windows line ends, as editors leave them."""
    text = "# what runs\r\n\r\nworker : celery -A shop: worker\r\n  web:python app.py  \nrelease: migrate\n"
    found = procfile.parse(text)
    assert list(found.items()) == [
        ("worker", "celery -A shop: worker"), ("web", "python app.py"), ("release", "migrate"),
    ]  # fmt: skip


def test_an_empty_file_runs_nothing() -> None:
    """What that means is for others to say."""
    assert procfile.parse("") == {}
    assert procfile.parse("\n# nothing\n") == {}


@pytest.mark.parametrize(
    "line",
    [
        "web",
        "web:",
        "web:   ",
        ": python app.py",
        "web python app.py",
        "-web: x",
        "../web: x",
        "we b: x",
        "wéb: x",
        "w" * 31 + ": x",
        "web: a\0b",
        "web.1: x",
        "\x1b[31mweb: x",
    ],
)
def test_a_line_that_is_none_is_named_by_its_number(line: str) -> None:
    """And never echoed: what it holds is a stranger's."""
    message = complaint(f"# first\nworker: x\n{line}\n")
    assert message.startswith("Procfile line 3: expected a process type and a command")
    assert message.isprintable()


def test_a_process_type_is_there_once() -> None:
    """The second one is the mistake."""
    assert complaint("web: a\n\nweb: b") == "Procfile line 3: web is there twice"


def test_there_is_a_limit_to_process_types() -> None:
    """Each is a process and a port."""
    lines = [f"p{number}: x" for number in range(51)]
    assert len(procfile.parse("\n".join(lines[:50]))) == 50
    assert complaint("\n".join(lines)) == "Procfile has 51 process types; the most is 50"


def test_a_huge_file_is_refused_by_its_size_in_bytes() -> None:
    """Before anything in it is looked at."""
    assert procfile.parse("web: " + "x" * (procfile.MAX_BYTES - 5))
    assert complaint("web: " + "x" * procfile.MAX_BYTES) == "Procfile is larger than 64 KiB"
    assert complaint("web: " + "é" * (procfile.MAX_BYTES // 2)) == "Procfile is larger than 64 KiB"


LINES = st.lists(
    st.text() | st.from_regex(r"\A[a-z_-]{0,3}[ :]{1,3}.{0,5}\Z") | st.text(alphabet="web: \t\r#\0", max_size=12),
    max_size=6,
)


@given(LINES.map("\n".join))
def test_whatever_is_in_it_it_is_read_or_refused_in_one_printable_sentence(text: str) -> None:
    """No other exception, and no bytes of a stranger's on the terminal."""
    try:
        found = procfile.parse(text)
    except UsageError as error:
        message = str(error)
        assert message.isprintable(), message
    else:
        assert all(name.isascii() and command and "\0" not in command for name, command in found.items())
