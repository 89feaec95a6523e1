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
from typing import Any

MAX_FRAME = 64 * 1024
"""Bytes of one request, its line's end included."""


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
