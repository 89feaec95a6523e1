"""SHA-256 without OpenSSL, which `hashlib` loads: 4 MB of memory and some milliseconds, for a few bytes of input."""

from __future__ import annotations

# As the standard library's own `random` does it.
try:
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # before Python 3.12
    except ImportError:
        from hashlib import sha256

__all__ = ["sha256"]
