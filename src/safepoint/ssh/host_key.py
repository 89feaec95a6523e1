"""The embedded server's host key: made once, Ed25519, in OpenSSH's own format."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from safepoint.errors import UserError


def host_key(path: Path) -> paramiko.PKey:
    """The key in `path`, which is made where it is missing. Raises UserError where it cannot be trusted or read."""
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise UserError(f"others can read the host key {path}", f"chmod 600 {path}, or remove it to get a new one")
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    except OSError as error:
        raise UserError(f"cannot use the host key {path}: {error.strerror}") from None
    except (paramiko.SSHException, ValueError):
        raise UserError(f"the host key {path} is damaged", "restore it, or remove it to get a new one") from None


def _make(path: Path) -> None:
    # paramiko cannot make Ed25519 keys; cryptography, on which it stands, can.
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # Not rename: of two servers that start at once, the second must not replace the key that the first has loaded.
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink()
