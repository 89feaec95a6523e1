"""Names of branches."""

from __future__ import annotations

import re

from safepoint.errors import UsageError


def branch_name(text: str) -> str:
    """A name that every git takes, and that needs no quoting anywhere. Raises UsageError."""
    word = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?"
    if len(text) > 100 or not re.fullmatch(rf"{word}(?:/{word})*", text) or ".." in text or text.endswith(".lock"):
        raise UsageError(f"{text!a} is no name for a deploy branch", "use letters, digits, - and /, such as `main`")
    return text
