"""What a key does not open: over both servers everything is refused but commands, and nobody crowds others out."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import paramiko
import pytest
from ssh.servers import DEADLINE, Place, Server, embedded

from safepoint.ssh.server import Limits, first_to_go


def connected(server: Server, key: Path, stack: ExitStack) -> paramiko.Transport:
    """A client that asks for what ssh(1) would not."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
    transport = stack.enter_context(closing(paramiko.Transport(sock)))
    transport.start_client(timeout=DEADLINE)
    transport.auth_publickey(server.user, paramiko.Ed25519Key.from_private_key_file(str(key)))
    stack.callback(transport.join)
    stack.callback(transport.close)
    return transport


CHANNELS = (
    *("direct-tcpip", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "direct-streamlocal@openssh.com"),
    *("forwarded-streamlocal@openssh.com", "tun@openssh.com", "", "x" * 5000),
)


def test_there_are_no_channels_but_sessions(server: Server, alice: Path) -> None:
    """Neither to a port or a socket, nor for X11 or an agent, nor a tunnel, nor of a kind that nobody knows."""
    for kind in CHANNELS:
        with ExitStack() as stack:
            transport = connected(server, alice, stack)
            with pytest.raises((paramiko.SSHException, EOFError)):  # sshd ends the connection where words are missing
                transport.open_channel(kind, ("127.0.0.1", 22), ("127.0.0.1", 1), timeout=DEADLINE)


def test_there_is_nothing_but_commands_in_a_session(server: Server, alice: Path) -> None:
    """No pty, no X11, no subsystem; the connection lives on and can still run a command."""
    asks: tuple[Callable[[paramiko.Channel], object], ...] = (
        lambda channel: channel.get_pty(),
        lambda channel: channel.request_x11(handler=print),
        lambda channel: channel.invoke_subsystem("sftp"),
        lambda channel: channel.invoke_subsystem("\x1b[31m"),
    )
    with ExitStack() as stack:
        transport = connected(server, alice, stack)
        for ask in asks:
            with pytest.raises(paramiko.SSHException):
                ask(transport.open_session(timeout=DEADLINE))  # which paramiko gives up on then
        channel = transport.open_session(timeout=DEADLINE)
        channel.exec_command("apps")
        assert channel.recv_exit_status() == 0


def test_nothing_is_listened_for(server: Server, alice: Path) -> None:
    """Neither a port nor a socket on the server, and other requests of the connection are refused as well."""
    with ExitStack() as stack:
        transport = connected(server, alice, stack)
        for kind, data in (
            ("tcpip-forward", ("127.0.0.1", 0)),
            ("streamlocal-forward@openssh.com", ("/tmp/x",)),
            ("what\x1b", ()),
        ):
            assert transport.global_request(kind, data, wait=True) is None
        assert transport.is_active()


@pytest.mark.parametrize("options", [("-A",), ("-X",), ("-Y",)])
def test_what_a_client_asks_for_besides_changes_nothing(server: Server, alice: Path, options: tuple[str, ...]) -> None:
    """ssh(1) is told no and goes on; the command runs as without."""
    done = server.ssh(alice, "apps", options=options)
    assert (done.returncode, done.stdout.splitlines()[:1]) == (0, server.ssh(alice, "apps").stdout.splitlines()[:1])


def test_garbage_at_every_stage_ends_one_connection(place: Place, alice: Path) -> None:
    """Before and after the versions, in packets of any length, and with a key: nobody else notices, nothing is left."""
    dice = random.Random(7)
    with embedded(place) as server, ExitStack() as stack:
        for number in range(60):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE))
            start = b"" if number % 3 == 0 else b"SSH-2.0-x\r\n"
            length = dice.choice([0, 1, 12, 35_000, 1 << 31]).to_bytes(4) if number % 3 == 2 else b""
            sock.sendall(start + length + dice.randbytes(dice.choice([0, 1, 50, 3000])))
            if number % 2:
                sock.shutdown(socket.SHUT_WR)
        for kind in range(1, 256, 5):
            transport = connected(server, alice, stack)
            message = paramiko.Message()
            message.add_byte(bytes([kind]))
            message.add_bytes(dice.randbytes(40))
            transport._send_user_message(message)  # type: ignore[attr-defined]
            transport.close()
        assert server.ssh(alice, "apps").returncode == 0
    assert not place.home.log.exists(), place.home.log.read_text()


@pytest.mark.parametrize(
    ("peers", "index"),
    [
        (["a"], 0),
        (["a", "a", "b"], 0),
        (["b", "a", "a"], 1),
        (["a", "b"], 0),
        (["c", "a1", "d", "a2", "a3"], 1),
        (["::ffff:192.0.2.1", "192.0.2.7", "192.0.2.7"], 1),
    ],
)
def test_who_crowds_makes_room(peers: list[str], index: int) -> None:
    """The oldest from where most come. A network of IPv6 is one place."""
    names = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "fe80::1%eth0", "d": "2001:db8:0:1::1"}
    names |= {f"a{number}": f"2001:db8::{number}" for number in (1, 2, 3)}
    assert first_to_go([names.get(peer, peer) for peer in peers]) == index


def test_a_flood_from_one_address_drops_nobody_else(place: Place, alice: Path) -> None:
    """Somebody who is slow to find their key stays, though they came first."""
    with embedded(place, limits=Limits(unauthenticated=4)) as server, ExitStack() as stack:
        slow = stack.enter_context(
            socket.create_connection(("127.0.0.1", server.port), DEADLINE, source_address=("127.0.0.2", 0))
        )
        assert slow.recv(4) == b"SSH-"
        for _ in range(20):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), DEADLINE))
            assert sock.recv(4) == b"SSH-"
        assert {fields["peer"] for event, fields in server.log if event == "ssh connection dropped"} == {"127.0.0.1"}
        slow.sendall(b"SSH-2.0-x\r\n")
        said = b""
        while b"curve25519-sha256" not in said:  # it is still there, and goes on with the handshake
            said += slow.recv(65536) or pytest.fail(f"it was dropped after {said!r}")
        assert server.ssh(alice, "apps").returncode == 0
