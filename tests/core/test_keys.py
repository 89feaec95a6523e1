"""Reading public keys."""

import base64
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safepoint.core.keys import Key, parse_public_key
from safepoint.errors import UsageError


def generate(directory: Path, kind: str, bits: int) -> Path:
    """The file with the public key, made by OpenSSH itself."""
    file = directory / f"{kind}-{bits}"
    size = ["-b", str(bits)] if bits else []
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-f", str(file), "-C", "someone with a comment"]
    subprocess.run(command, check=True)
    return file.with_suffix(".pub") if file.suffix else Path(f"{file}.pub")


def encoded(*fields: bytes) -> str:
    return base64.b64encode(b"".join(struct.pack(">I", len(field)) + field for field in fields)).decode()


@pytest.mark.parametrize(
    ("kind", "bits"), [("ed25519", 0), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521), ("rsa", 2048)]
)
def test_keys_of_openssh_are_read(tmp_path: Path, kind: str, bits: int) -> None:
    """Type, line and fingerprint are what OpenSSH says; the comment is dropped."""
    file = generate(tmp_path, kind, bits)
    text = file.read_text()
    key = Key("alice", *parse_public_key(text), added=0.0)
    assert text.startswith(f"{key.line} ")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", file], check=True, capture_output=True, text=True).stdout
    assert key.fingerprint == shown.split()[1]


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    """1024 bits have been too few for years; sshd of today refuses them too."""
    text = generate(tmp_path, "rsa", 1024).read_text()
    with pytest.raises(UsageError, match="has 1024 bits"):
        parse_public_key(text)


def test_a_private_key_is_refused_by_name(tmp_path: Path) -> None:
    """Somebody has given the wrong one of the two files."""
    private = generate(tmp_path, "ed25519", 0).with_suffix("")
    with pytest.raises(UsageError, match="that is a private key"):
        parse_public_key(private.read_text())


ED25519 = encoded(b"ssh-ed25519", bytes(32))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no public key"),
        ("# only a comment\n\n", "no public key"),
        ("hello", "'hello' is not a type"),
        ("ssh-dss AAAA", "'ssh-dss' is not a type"),
        (f'command="id" ssh-ed25519 {ED25519}', "is not a type"),
        (f"sk-ssh-ed25519@openssh.com {ED25519}", "security tokens"),
        ("ssh-ed25519", "damaged"),
        ("ssh-ed25519 !!!!", "damaged"),
        ("ssh-ed25519 ÄÖ", "damaged"),
        (f"ssh-ed25519 {ED25519[:-8]}", "damaged"),
        (f"ssh-ed25519 {ED25519}AAAA", "damaged"),
        (f"ssh-ed25519 {encoded(b'ssh-ed25519', bytes(31))}", "damaged"),
        (f"ssh-ed25519 {encoded(b'ssh-rsa', bytes(32))}", "damaged"),
        (f"ssh-rsa {encoded(b'ssh-rsa', b'', b'')}", "has 0 bits"),
        (f"ssh-rsa {encoded(b'ssh-rsa', b'', bytes([1] * 300))}", "damaged"),
        (f"ecdsa-sha2-nistp256 {encoded(b'ecdsa-sha2-nistp256', b'nistp384', bytes([4] * 65))}", "damaged"),
        (f"ssh-ed25519 {ED25519}\nssh-ed25519 {ED25519}\n", "more than one line"),
        (f"ssh-ed25519 {ED25519} " + "x" * 20_000, "too long"),
        ("\x1b[2Jx AAAA", r"'\\x1b\[2Jx' is not a type"),
    ],
)
def test_what_is_no_public_key_is_refused_with_a_sentence(text: str, problem: str) -> None:
    """It says what is wrong, and what to give."""
    with pytest.raises(UsageError, match=problem):
        parse_public_key(text)


@given(st.text() | st.binary().map(lambda blob: f"ssh-ed25519 {base64.b64encode(blob).decode()}"))
@example(f"ssh-ed25519 {ED25519} comment")
def test_any_text_is_a_key_or_an_error(text: str) -> None:
    """No other exception, and what is accepted is written again as it was read."""
    try:
        kind, blob = parse_public_key(text)
    except UsageError as error:
        kind, blob, said = "", b"", str(error)
    else:
        said = ""
    assert said.isprintable()
    assert said or Key("x", kind, blob, 0.0).line in text
