"""SSH public keys: the record of one, and reading a line of an OpenSSH public key file. Pure."""

from __future__ import annotations

import base64
import binascii
import struct

from safepoint.core.names import shown
from safepoint.errors import UsageError
from safepoint.record import Record

MAX_LINE = 16 * 1024
"""Characters. The line of an RSA key of 16384 bits, the largest that OpenSSH takes, has about 2,800."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16384

_CURVES = {  # RFC 5656: key type, curve, bytes of an uncompressed point
    "ecdsa-sha2-nistp256": (b"nistp256", 65),
    "ecdsa-sha2-nistp384": (b"nistp384", 97),
    "ecdsa-sha2-nistp521": (b"nistp521", 133),
}
TYPES = ("ssh-ed25519", *_CURVES, "ssh-rsa")


class Key(Record):
    """A person's public key. Who holds the private one may act under `name`."""

    name: str
    type: str
    blob: bytes
    """The public key as on the wire (RFC 4253, 6.6)."""
    added: float
    """Seconds since the epoch."""

    @property
    def line(self) -> str:
        """`ssh-ed25519 AAAA...`, as in authorized_keys."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:...`, as ssh-keygen -l shows it."""
        return fingerprint(self.blob)


def fingerprint(blob: bytes) -> str:
    from safepoint.digest import sha256  # of which a push needs nothing

    return "SHA256:" + base64.b64encode(sha256(blob).digest()).decode().rstrip("=")


def parse_public_key(text: str) -> tuple[str, bytes]:
    """Type and blob of the one key in `text`. Raises UsageError, one sentence."""
    if "PRIVATE KEY" in text:
        raise UsageError("that is a private key", "keep it secret, and add the file that ends in .pub")
    lines = [line for line in map(str.strip, text[: MAX_LINE + 1].split("\n")) if line and not line.startswith("#")]
    if not lines:
        raise UsageError("there is no public key in it", "it has to be one line, such as `ssh-ed25519 AAAA... alice`")
    if len(lines) > 1:
        raise UsageError("there is more than one line in it", "add one public key at a time")
    if len(text) > MAX_LINE:
        raise UsageError("that is too long to be a public key", "add the file that ends in .pub")
    kind, _, rest = lines[0].partition(" ")
    if kind.startswith("sk-"):
        # paramiko, as a server, cannot verify their signatures: such a key would work over one door and not the other.
        raise UsageError("keys on security tokens (sk-...) are not supported", "use an ed25519 key")
    if kind not in TYPES:
        raise UsageError(
            f"{shown(kind, 30)} is not a type of public key that is supported",
            f"it has to be one of {', '.join(TYPES)}",
        )
    blob = _decoded(rest.split()[0] if rest.split() else "")
    _check(kind, blob)
    return kind, blob


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _damaged() from None


def _check(kind: str, blob: bytes) -> None:
    fields = _fields(blob)
    if fields[0] != kind.encode():
        raise _damaged()
    if kind == "ssh-ed25519":
        good = len(fields) == 2 and len(fields[1]) == 32
    elif kind in _CURVES:
        curve, size = _CURVES[kind]
        good = len(fields) == 3 and fields[1] == curve and len(fields[2]) == size and fields[2][0] == 4
    else:
        good = len(fields) == 3
        bits = int.from_bytes(fields[2], "big").bit_length() if good else 0
        if good and not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            raise UsageError(
                f"that RSA key has {bits} bits, and {MIN_RSA_BITS} to {MAX_RSA_BITS} are needed", "use an ed25519 key"
            )
        good = good and fields[2][0] < 0x80 and 3 <= int.from_bytes(fields[1], "big") < 2**64
    if not good:
        raise _damaged()


def _fields(blob: bytes) -> list[bytes]:
    """The strings of an SSH message (RFC 4251, 5): each a length in four bytes, then so many bytes."""
    fields, at = [], 0
    while at < len(blob):
        if at + 4 > len(blob):
            raise _damaged()
        (length,) = struct.unpack_from(">I", blob, at)
        at += 4
        if at + length > len(blob):
            raise _damaged()
        fields.append(blob[at : at + length])
        at += length
    if not fields:
        raise _damaged()
    return fields


def _damaged() -> UsageError:
    return UsageError("that public key is damaged or cut short", "copy the whole line of the file that ends in .pub")
