"""SECURITY.md names a test for each promise: each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    line
    for line in (TESTS.parent / "SECURITY.md").read_text().splitlines()
    if re.match(r"\| (?!what is promised|---)", line)
]


@pytest.mark.parametrize("row", ROWS)
def test_what_is_promised_has_its_tests(row: str) -> None:
    """`::name` is of the file that was named last in the row."""
    file, found = "", 0
    for word in re.findall(r"`([\w/.]*::test_\w+)`", row.rsplit("|", 2)[1]):
        named, name = word.split("::")
        file = named or file
        functions = {
            each.name for each in ast.parse((TESTS / file).read_text()).body if isinstance(each, ast.FunctionDef)
        }
        assert name in functions, word
        found += 1
    assert found, "no test is named"
