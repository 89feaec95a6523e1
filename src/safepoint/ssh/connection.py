"""One client of the embedded server: who it is, and what it may ask for. The key decides, never the user name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import Event
from typing import Protocol

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)

from safepoint import logs
from safepoint.core.doors import Door
from safepoint.errors import NotPermitted, UserError
from safepoint.ssh.execution import Execution
from safepoint.ssh.sessions import GIT_PROTOCOL, Session, Visit
from safepoint.ssh.transport import BoundedSocket, Server, Transport
from safepoint.state.paths import Home
from safepoint.state.store import Store


class OnLog(Protocol):
    def __call__(self, event: str, /, **fields: object) -> object:
        """One entry of the server's log; called in any thread."""
        ...


class Connection(Server):
    """Every method is called in the transport's thread, unless it says otherwise."""

    def __init__(
        self,
        home: Home,
        sock: BoundedSocket,
        host_key: paramiko.PKey,
        on_log: OnLog,
        *,
        channels: int,
        decide: Callable[[Visit], Session],
    ) -> None:
        """Start to serve it, in threads. `channels` is how many it may have open at a time."""
        self._home = home
        self._decide = decide
        self._socket = sock
        self._max_channels = channels
        self._on_log = on_log
        self.peer: str = sock.getpeername()[0]
        self.since = time.monotonic()
        self._blob = b""
        self._channels: list[paramiko.Channel] = []
        self._git_protocol: dict[int, str] = {}
        self._waiting: dict[int, Execution] = {}
        self._executions: list[Execution] = []
        self.transport = Transport(sock)
        self.transport.add_server_key(host_key)
        self.transport.start_server(event=Event(), server=self)

    @property
    def authenticated(self) -> bool:
        """To be asked in any thread."""
        return self.transport.is_authenticated()

    @property
    def over(self) -> bool:
        """Whether nothing of it is left. To be asked in any thread."""
        return not self.transport.is_alive() and not any(each.is_alive() for each in list(self._executions))

    def drop(self) -> None:
        """End it. To be called in any thread but its own; `join` waits for what it runs."""
        self.transport.close()

    def join(self) -> None:
        self.transport.join()
        for execution in list(self._executions):
            execution.join()

    # Authentication.

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        # A client may ask about one key and prove another. This is called for the proven one last, just before its
        # signature is verified, and never again after that has succeeded: so what it leaves behind is who it is.
        blob = key.asbytes()
        try:
            with Store.open(self._home) as store:
                found = store.key_by_blob(blob)
        except Exception:  # fail closed
            self._defect()
            return AUTH_FAILED
        if found is None:
            return AUTH_FAILED
        self._blob = blob
        return AUTH_SUCCESSFUL

    # Channels.

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self._socket.unlimited = True  # it has authenticated: paramiko refuses channels before that
        if kind != "session":
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        self._tidy()
        if len(self._channels) >= self._max_channels:
            return OPEN_FAILED_RESOURCE_SHORTAGE
        return OPEN_SUCCEEDED

    def check_channel_env_request(self, channel: paramiko.Channel, name: bytes, value: bytes) -> bool:
        text = value.decode(errors="replace")
        if name != b"GIT_PROTOCOL" or not GIT_PROTOCOL.fullmatch(text):
            return False
        self._git_protocol[channel.get_id()] = text
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return self._accept(channel, command.decode(errors="surrogateescape"))

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        # Accepted, to be able to say in words that there is none. A pty is refused, as all the rest is, by default.
        return self._accept(channel, None)

    def begin(self, channel: paramiko.Channel) -> None:
        execution = self._waiting.pop(channel.get_id(), None)
        if execution is not None:
            self._executions.append(execution)
            execution.start()

    def _accept(self, channel: paramiko.Channel, command: str | None) -> bool:
        self._tidy()
        if channel.closed or any(execution.channel is channel for execution in self._executions):
            return False  # one command a channel (RFC 4254, 6.5)
        protocol = self._git_protocol.pop(channel.get_id(), None)
        self._waiting[channel.get_id()] = Execution(channel, self._session(command, protocol), self._defect)
        return True

    def _tidy(self) -> None:
        # Channels are held here, since paramiko refers to them weakly; what is closed is let go.
        while (channel := self.transport.accept(0)) is not None:
            self._channels.append(channel)
        self._channels = [channel for channel in self._channels if not channel.closed]
        self._executions = [execution for execution in self._executions if execution.is_alive()]
        open_ids = {channel.get_id() for channel in self._channels}
        self._git_protocol = {number: text for number, text in self._git_protocol.items() if number in open_ids}

    # What a channel runs: called in its own thread.

    def _session(self, command: str | None, git_protocol: str | None) -> Callable[[], Session]:
        def session() -> Session:
            environment = {name: value for name, value in os.environ.items() if name != "GIT_PROTOCOL"}
            if git_protocol is not None:
                environment["GIT_PROTOCOL"] = git_protocol
            key = self._key()
            try:
                found = self._decide(Visit(self._home, key, command, self._door(), environment))
            except UserError as error:
                self._on_log("ssh request refused", key=key, peer=self.peer, reason=error.message)
                raise
            self._on_log("ssh request", key=key, peer=self.peer, request=found.title)
            return found

        return session

    def _key(self) -> str:
        """By the key itself, not by its name: the name may be another person's by now."""
        with Store.open(self._home) as store:
            key = store.key_by_blob(self._blob)
        if key is None:
            raise NotPermitted("your key has been removed from this server")
        return key.name

    def _door(self) -> Door:
        host, port = self._socket.getsockname()[:2]
        return Door.ssh(self.transport.get_username() or "", host, port, self.peer)

    def _defect(self) -> UserError:
        """Log the exception that is being handled."""
        return UserError(logs.defect(self._home, "the ssh session failed", peer=self.peer))
