"""The door that a person came through, so that a banner can say how to come again. Pure.

It travels in one environment variable: the session sets it, and the hooks and commands under it read it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from safepoint.hints import Self
from safepoint.record import Record

VARIABLE = "SAFEPOINT_DOOR"
HOME_VARIABLE = "SAFEPOINT_HOME"
KEY_VARIABLE = "SAFEPOINT_KEY"
"""The name of the key that somebody came with; unset at the local door."""

AFTER_PUSH = "after-push"
"""The kind of a door that leads nowhere: the hooks of a repository that is hosted elsewhere."""

DEFAULT_USER = "deploy"
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_HOST = re.compile(r"[0-9A-Za-z:][0-9A-Za-z:.%_-]{0,254}")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


class Door(Record):
    kind: str
    """`ssh`, `local` or AFTER_PUSH."""
    user: str = ""
    """Before the @ of the address: it is shown, and means nothing."""
    host: str = ""
    """As the client reached it: a numeric address."""
    port: int = 0
    client: str = ""
    """The address that the client came from."""
    home: str = ""
    """Of the local door."""

    @classmethod
    def ssh(cls, user: str, host: str, port: int, client: str = "") -> Self:
        """What is not plain is replaced: any of it may be hostile."""
        host, client = _plain(host), _plain(client)
        return cls(
            "ssh",
            user if _USER.fullmatch(user) else DEFAULT_USER,
            host if _HOST.fullmatch(host) else "localhost",
            port if 0 < port < 65536 else 22,
            client if _HOST.fullmatch(client) else "",
        )

    @classmethod
    def of_connection(cls, user: str, ssh_connection: str) -> Self:
        """From sshd's SSH_CONNECTION: the client's address and port, then the server's (ssh(1), ENVIRONMENT)."""
        words = ssh_connection.split()
        client, _, host, port = words if len(words) == 4 else ("", "", "", "")
        return cls.ssh(user, host, int(port) if _PORT.fullmatch(port) else 22, client)

    @classmethod
    def local(cls, home: str) -> Self:
        return cls("local", home=home)

    def command(self, words: str) -> str:
        """How the person can run Safepoint's command `words` (which is shell text) from where they are."""
        if self.kind == "local":
            return f"safepoint --home {shlex.quote(self.home)} {words}"
        port = "" if self.port == 22 else f"-p {self.port} "
        return f"ssh {port}{self.user}@{self.host} {words}"

    def cancel_command(self, operation: int) -> str:
        """`ssh -p 2222 deploy@127.0.0.1 operation:cancel 42`."""
        return self.command(f"operation:cancel {operation}")

    @property
    def origin(self) -> str:
        """For the journal: `local`, or `ssh` and the client's address."""
        return f"{self.kind} {self.client}".rstrip()

    def to_environment(self) -> dict[str, str]:
        text = "local" if self.kind == "local" else f"ssh {self.user} {self.host} {self.port} {self.client}".rstrip()
        return {VARIABLE: text}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """What is not a door of ssh is the local one: a push to a path, or a command in the server's own shell."""
        words = environment.get(VARIABLE, "").split(" ")
        if len(words) in (4, 5) and words[0] == "ssh" and _PORT.fullmatch(words[3]):
            return cls.ssh(words[1], words[2], int(words[3]), *words[4:])
        return cls.local(environment.get(HOME_VARIABLE, ""))


def kind_and_address(origin: str) -> tuple[str, str]:
    """The parts of a door's `origin`; the address is empty where there is none."""
    kind, _, address = origin.partition(" ")
    return kind, address


def _plain(address: str) -> str:
    """An address of IPv4 on a socket of IPv6 is ::ffff:192.0.2.1; a person types 192.0.2.1."""
    return address.removeprefix("::ffff:") if "." in address else address
