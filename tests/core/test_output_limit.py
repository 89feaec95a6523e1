"""The limit of an operation's output, as the operator writes it."""

from __future__ import annotations

import pytest

from safepoint.core.output_limit import DEFAULT, output_limit, size
from safepoint.errors import UsageError


@pytest.mark.parametrize(
    ("text", "limit"), [("", DEFAULT), ("0", 0), ("4096", 4096), ("64k", 65536), ("100M", 104857600), ("2G", 2**31)]
)
def test_a_limit(text: str, limit: int) -> None:
    """In bytes, or with a unit; nothing is the default, which has room for a million lines."""
    assert output_limit(text) == limit
    assert DEFAULT > 200_000_000


@pytest.mark.parametrize("text", ["-1", "1T", "1.5G", "many", "1 M", "M", "1" * 13, "\u0661"])
def test_no_limit(text: str) -> None:
    """Whatever is no size is refused in a sentence that names the variable."""
    with pytest.raises(UsageError, match=r"^SAFEPOINT_OUTPUT_LIMIT=.* is no size; write it as 256M"):
        output_limit(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (65536, "64 KiB"), (256 * 2**20, "256 MiB"), (10**13, "9313.2 GiB")],
)
def test_a_size_for_people(count: int, text: str) -> None:
    """In the unit that keeps the number short."""
    assert size(count) == text
