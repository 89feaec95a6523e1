"""Names of apps and keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core.names import app_name, key_name, shown
from safepoint.errors import UsageError


@pytest.mark.parametrize("name", ["a", "web", "web-2", "w" * 30, "a0"])
def test_a_dns_label_names_an_app(name: str) -> None:
    """Lower case, digits and hyphens, at most 30 characters."""
    assert app_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "Web", "2web", "-web", "web-", "w" * 31, "web.git", "we b", "wéb", "..", "a/b", "web\n", "web\0", "٣a", "a٣"],
)
def test_anything_else_names_no_app(name: str) -> None:
    """One sentence, which shows the name escaped."""
    with pytest.raises(UsageError, match="cannot be the name of an app") as caught:
        app_name(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["alice", "Alice@laptop", "a.b_c-d", "9", "k" * 60])
def test_a_word_names_a_key(name: str) -> None:
    """Letters, digits and . _ @ - in any case."""
    assert key_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "@a", "a b", 'a"', "a\n", "k" * 61, "é", "a,b", "a/b", "$(id)"])
def test_anything_else_names_no_key(name: str) -> None:
    """It would have a meaning in authorized_keys or on a command line."""
    with pytest.raises(UsageError, match="cannot be the name of a key"):
        key_name(name)


@given(st.text())
def test_hostile_text_is_shown_short_and_printable(text: str) -> None:
    """Terminal escapes, line breaks and surrogates never reach a terminal."""
    assert shown(text).isascii()
    assert shown(text).isprintable()
    assert len(shown(text)) < 800
