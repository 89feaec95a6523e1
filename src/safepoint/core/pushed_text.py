"""Output of pushed code as text that is safe on a terminal and cannot be taken for Safepoint's own. Pure.

What a terminal would obey goes: escape sequences' first byte and all other controls, C1 controls (U+0080 to U+009F),
and what turns the direction of the text. Bytes that are not UTF-8 become U+FFFD, so that what is kept is always text.
A carriage return becomes a line's end. A line that begins like one of Safepoint's own is quoted: `> safepoint | `.
One that is too long is ended, since git on the pusher's side keeps a line in memory until it has all of it.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder

from safepoint.core.wording import PREFIX

_NAME = PREFIX.split()[0].encode()
MAX_LINE = 64 * 1024
"""Bytes, and at most another chunk."""
_BLANKS = 100
"""Of a line that begins with more of them nobody thinks that it is ours."""
_LIKE_OURS = re.compile(rb"^[ \t]{0,%d}%b[ \t]{0,%d}\|" % (_BLANKS, _NAME, _BLANKS), re.IGNORECASE | re.MULTILINE)
_QUOTE = b"> "

_REMOVED = bytes(c for c in (*range(32), 127) if c not in b"\n\t\r")
_UNSAFE = re.compile("[\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""C1 controls; marks, embeddings, overrides and isolates of direction; and two more ends of a line."""
_INSTEAD = "?"


class PushedText:
    """One stream of output, which comes in chunks that are cut anywhere. No work a line: a chunk has a thousand."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")
        self._after_return = False
        self._held = b""
        """The beginning of a line that may yet turn out to be like one of ours."""
        self._length = 0
        """Of the open line."""

    def safe(self, chunk: bytes, *, line_open: bool) -> bytes:
        """What can be shown of the stream by now. `line_open`: what was shown before does not end with a line's end."""
        text = self._apart(chunk, line_open=line_open)
        last = text.rfind(b"\n") + 1
        self._length = len(text) - last + (self._length if line_open and not last else 0)
        return text + b"\n" if self._length > MAX_LINE else text

    def _apart(self, chunk: bytes, *, line_open: bool) -> bytes:
        """Without any line that begins like ours."""
        text = self._held + self._lines(self._decoded(chunk))
        start = text.find(b"\n") + 1 if line_open else 0
        if line_open and start == 0:
            self._held = b""
            return text
        head, body = text[:start], text[start:]
        last = body.rfind(b"\n") + 1
        self._held = body[last:] if _may_become_ours(body[last:]) else b""
        return head + _quoted(body[: len(body) - len(self._held)])

    def rest(self) -> bytes:
        """What was held back, where nothing follows now."""
        text, self._held = self._held + self._lines(self._decoded(b"", final=True)), b""
        self._decoder.reset()
        self._after_return = False
        return text

    def _decoded(self, chunk: bytes, *, final: bool = False) -> bytes:
        if chunk.isascii() and not self._decoder.getstate()[0]:
            return chunk
        return _UNSAFE.sub(_INSTEAD, self._decoder.decode(chunk, final)).encode()

    def _lines(self, text: bytes) -> bytes:
        """Without controls; each way of ending a line is \\n."""
        text = text.translate(None, _REMOVED)
        if not text:
            return text
        # The other half of a \r\n that was cut in two.
        cut = self._after_return and text.startswith(b"\n")
        self._after_return = text.endswith(b"\r")
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return text[1:] if cut else text


def _may_become_ours(beginning: bytes) -> bool:
    return len(beginning) <= 3 * _BLANKS and _NAME.startswith(beginning.strip(b" \t").lower())


def _quoted(lines: bytes) -> bytes:
    # The regular expression looks at every byte, and a search for the name does not.
    if _NAME not in lines.lower():
        return lines
    return _LIKE_OURS.sub(lambda found: _QUOTE + found[0], lines)
