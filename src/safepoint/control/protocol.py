"""The control socket's protocol: one JSON object a line, a request and its answer.

    {"verb": "cancel", "operation": 42, "by": "alice", "reason": "", "force": false}  ->  {"verdict": "now"}
    {"verb": "received", "operation": 42}                                             ->  {"ok": true}
    {"verb": "follow", "operation": 42}                                               ->  {"ok": true}
    anything else                                                                     ->  {"error": "one sentence"}

After `follow` the worker sends a line's end whenever the output has grown (several growths may share one). The end
of the stream means that the worker is gone: the journal then says whether the operation has ended.
"""

from __future__ import annotations

import json

from safepoint.core.wording import printable
from safepoint.hints import Any
from safepoint.record import Record

MAX_FRAME = 64 * 1024
"""Bytes of one request, its line's end included."""


MAX_TEXT = 500
"""Characters of a name or a reason that are kept."""
_END_OF_TIME = 1e11
"""Seconds since the epoch: the year 5138. `datetime` ends soon after that."""


class BadFrame(ValueError):
    """What came is no request; the text is one sentence."""


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Raises BadFrame."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise BadFrame("the request is not JSON") from None
    if not isinstance(message, dict):
        raise BadFrame("the request is not an object")
    return message


class CancelRequest(Record):
    by: str
    door: str
    reason: str
    force: bool
    requested: float | None
    """Seconds since the epoch, when the person asked."""


def cancel_request(message: dict[str, Any]) -> CancelRequest:
    """What goes into the journal, where it stays for ever, and from there to terminals. Raises BadFrame."""
    by, door, reason = (message.get(name, "") for name in ("by", "door", "reason"))
    force, requested = message.get("force", False), message.get("requested")
    if not (isinstance(by, str) and isinstance(door, str) and isinstance(reason, str) and isinstance(force, bool)):
        raise BadFrame("a cancel says by whom, and may give a reason")
    # JSON as Python reads it has NaN and Infinity, which no listing of times could ever show.
    at_a_time = isinstance(requested, float) and 0 <= requested < _END_OF_TIME
    if not by or not (requested is None or at_a_time):
        raise BadFrame("a cancel says by whom, and may say when it was asked for")
    who, where, why = (printable(text)[:MAX_TEXT] for text in (by, door, reason))
    return CancelRequest(who, where, why, force, requested)
