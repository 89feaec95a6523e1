"""What only the embedded server has to do itself: its limits, its host key, its beginning and end."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_DATA, cMSG_CHANNEL_EXTENDED_DATA
from ssh.servers import DEADLINE, Place, Server, embedded, is_alive, kill, run_in_a_shell, wait_dead

from safepoint.errors import UserError
from safepoint.ssh.host_key import host_key
from safepoint.ssh.server import Limits, SshServer
from safepoint.ssh.transport import WINDOW


@pytest.fixture
def server(place: Place, alice: Path) -> Iterator[Server]:
    with embedded(place) as running:
        yield running


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)


def read_all(sock: socket.socket) -> bytes:
    """Until the server closes, or resets, the connection."""
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionError:
        pass
    return data


def client(server: Server, key: Path | None, stack: ExitStack) -> paramiko.Transport:
    """A client that can do what ssh(1) would not."""
    transport = stack.enter_context(closing(paramiko.Transport(connect(server))))
    transport.start_client(timeout=DEADLINE)
    if key is not None:
        transport.auth_publickey("anyone", paramiko.Ed25519Key.from_private_key_file(str(key)))
    stack.callback(transport.join)
    stack.callback(transport.close)
    return transport


def ignore(event: str, /, **fields: object) -> None:
    """A log that nobody reads."""


def events(server: Server) -> list[str]:
    return [str(fields.get("reason", event)) for event, fields in server.log]


def test_the_log_says_who_asked_for_what(server: Server, alice: Path) -> None:
    """But not with which arguments: they may be secret."""
    server.ssh(alice, "config:set nope PASSWORD=secret")
    assert ("ssh request", {"key": "alice", "peer": "127.0.0.1", "request": "config:set"}) in server.log
    assert "secret" not in repr(server.log)


def test_any_user_name_goes(server: Server, alice: Path) -> None:
    """The key says who it is."""
    server.user = "somebody"
    assert server.ssh(alice, "git-upload-pack nope").returncode == 1
    assert ("ssh request refused", "alice") in [(event, fields["key"]) for event, fields in server.log]


def test_keys_are_the_only_way_in(server: Server) -> None:
    """Neither a password, nor nothing, nor questions; and they are not even offered."""
    with ExitStack() as stack:
        transport = client(server, None, stack)
        with pytest.raises(paramiko.BadAuthenticationType) as none:
            transport.auth_none("root")
        assert none.value.allowed_types == ["publickey"]
        with pytest.raises(paramiko.BadAuthenticationType):
            transport.auth_password("root", "root", fallback=False)


def test_tries_are_limited(server: Server, place: Place) -> None:
    """The connection ends; whoever guesses has to begin again."""
    key = paramiko.Ed25519Key.from_private_key_file(str(place.make_key("mallory")))
    with ExitStack() as stack:
        transport = client(server, None, stack)
        for _ in range(9):
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey("root", key)
        assert transport.is_active()
        with pytest.raises(paramiko.SSHException):
            transport.auth_publickey("root", key)
        transport.join(DEADLINE)
        assert not transport.is_active()


def test_nothing_is_served_without_a_key(server: Server) -> None:
    """A channel that is asked for before authentication is refused."""
    with ExitStack() as stack:
        transport = client(server, None, stack)
        with pytest.raises(paramiko.ChannelException):
            transport.open_session(timeout=DEADLINE)


def test_signatures_with_sha1_are_refused(server: Server, place: Place) -> None:
    """An RSA key signs with SHA-2, or not at all."""
    rsa = place.add_key("rsa", "rsa")
    assert server.ssh(rsa, "git-upload-pack nope").returncode == 1
    old = ("-o", "PubkeyAcceptedAlgorithms=ssh-rsa")
    assert server.ssh(rsa, "git-upload-pack nope", options=old).returncode == 255


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_every_kind_of_key_is_accepted(server: Server, place: Place, kind: str) -> None:
    """Whatever `keys:add` takes works here."""
    done = server.ssh(place.add_key("bob", kind))
    assert b"Hi bob!" in done.stderr


def test_a_client_that_never_authenticates_is_dropped(place: Place) -> None:
    """In the time that it was given, at whatever stage it waits."""
    with embedded(place, limits=Limits(authentication=1.0)) as server, ExitStack() as stack:
        silent = stack.enter_context(connect(server))
        transport = client(server, None, stack)
        assert read_all(silent).startswith(b"SSH-2.0-")
        transport.join(DEADLINE)
        assert not transport.is_active()
        assert events(server) == ["no key in time", "no key in time"]


def test_idle_connections_keep_nobody_out(place: Place, alice: Path) -> None:
    """Of those without a key the oldest makes room for a new one."""
    with embedded(place, limits=Limits(unauthenticated=3)) as server, ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(3)]
        assert server.ssh(alice).returncode == 1
        assert read_all(idle[0]).startswith(b"SSH-2.0-")
        assert "too many without a key" in events(server)


def test_connections_are_limited(place: Place, alice: Path) -> None:
    """One too many is told so, and the others go on."""
    with embedded(place, limits=Limits(connections=2)) as server, ExitStack() as stack:
        first, _ = (client(server, alice, stack) for _ in range(2))
        with connect(server) as refused:
            assert read_all(refused) == b"too many connections\r\n"
        first.close()
        greeting = b""
        while not greeting.startswith(b"SSH-2.0-"):  # until the server has noticed, too
            with connect(server) as sock:
                greeting = sock.recv(100)


def test_channels_are_limited(place: Place, alice: Path) -> None:
    """At a time: one that was closed makes room."""
    with embedded(place, limits=Limits(channels=3)) as server, ExitStack() as stack:
        transport = client(server, alice, stack)
        channels = [transport.open_session(timeout=DEADLINE) for _ in range(3)]
        with pytest.raises(paramiko.ChannelException):
            transport.open_session(timeout=DEADLINE)
        channels[0].close()
        transport.open_session(timeout=DEADLINE)


def test_a_channel_runs_one_command(place: Place, alice: Path) -> None:
    """A second one on the same channel is refused (RFC 4254, 6.5)."""
    with embedded(place, run_in_a_shell) as server, ExitStack() as stack:
        channel = client(server, alice, stack).open_session(timeout=DEADLINE)
        channel.exec_command("cat")
        with pytest.raises(paramiko.SSHException):
            channel.exec_command("id")


def test_the_protocol_version_is_the_only_variable(place: Place, alice: Path) -> None:
    """Nothing else goes into the environment of git, least of all what git would obey."""
    with embedded(place, run_in_a_shell) as server, ExitStack() as stack:
        transport = client(server, alice, stack)
        for name, value, accepted in [
            ("GIT_PROTOCOL", "version=2", "version=2"),
            ("GIT_PROTOCOL", "version=2:evil", "unset"),
            ("GIT_DIR", "/etc", "unset"),
            ("LD_PRELOAD", "/tmp/x.so", "unset"),
        ]:
            channel = transport.open_session(timeout=DEADLINE)
            channel.set_environment_variable(name, value)
            channel.exec_command(f"printf %s ${{{name}-unset}}")
            assert channel.makefile().read().decode() == accepted


@pytest.mark.parametrize("kind", ["data", "stderr"])
def test_a_client_that_ignores_the_window_fills_no_memory(place: Place, alice: Path, kind: str) -> None:
    """paramiko would keep all that it sends; here the connection ends, or the data is dropped."""
    with embedded(place, run_in_a_shell) as server, ExitStack() as stack:
        transport = client(server, alice, stack)
        channel = transport.open_session(timeout=DEADLINE)
        channel.exec_command("exec sleep 1000")
        for _ in range(2 * WINDOW // 32768):
            message = paramiko.Message()
            message.add_byte(cMSG_CHANNEL_DATA if kind == "data" else cMSG_CHANNEL_EXTENDED_DATA)
            message.add_int(channel.remote_chanid)
            if kind == "stderr":
                message.add_int(1)
            message.add_string(bytes(32768))
            try:
                transport._send_user_message(message)  # type: ignore[attr-defined]
            except (OSError, EOFError):
                break
        if kind == "data":
            transport.join(DEADLINE)
            assert not transport.is_active()
        else:
            assert server.running is not None
            (connection,) = server.running._connections
            assert all(len(each.in_stderr_buffer) == 0 for each in connection._channels)


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">I", 0xFFFFFFF0) + bytes(12),
        struct.pack(">I", 35_000_000) + bytes(2_000_000),
        bytes(100),
        b"\xff" * 100_000,
    ],
    ids=["4-gigabytes", "35-megabytes", "zeros", "ones"],
)
def test_garbage_instead_of_a_handshake_ends_the_connection(server: Server, alice: Path, garbage: bytes) -> None:
    """At once, without waiting for the length that it announces; others are served."""
    with connect(server) as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        with suppress(ConnectionError):
            sock.sendall(garbage)
        read_all(sock)
    assert server.ssh(alice).returncode == 1


def test_an_endless_banner_ends_the_connection(server: Server, alice: Path) -> None:
    """What comes before authentication is bounded altogether."""
    with connect(server) as sock, pytest.raises(ConnectionError):
        sock.sendall(bytes(100_000_000))
    assert server.ssh(alice).returncode == 1


def test_a_taken_port_is_a_clear_error(server: Server, place: Place) -> None:
    """It names the port and says what to do."""
    second = SshServer(place.home, "127.0.0.1", server.port, ignore)
    with pytest.raises(UserError, match=rf"cannot listen for ssh on 127\.0\.0\.1 port {server.port}: Address already"):
        second.start()
    second.close()


def test_closing_ends_the_sessions_and_no_worker(place: Place, alice: Path, tmp_path: Path) -> None:
    """Gently at first: the command gets its SIGTERM. What was detached lives on."""
    report = tmp_path / "report"
    os.mkfifo(report)
    command = (
        f"setsid sh -c 'echo $$ >{report}; exec sleep 1000' </dev/null >/dev/null 2>&1 & "
        f"trap 'echo got it >{tmp_path}/trace; exit 3' TERM; echo $$ >{report}; while :; do sleep 1000 & wait; done"
    )
    with embedded(place, run_in_a_shell) as server:
        ssh = subprocess.Popen(server.command(alice, command), stdin=subprocess.DEVNULL)
        with report.open() as reader, report.open("w"):
            pids = [int(reader.readline()), int(reader.readline())]
    (worker,) = [pid for pid in pids if is_alive(pid)]
    try:
        (ended,) = [pid for pid in pids if pid != worker]
        wait_dead(ended)
        assert (tmp_path / "trace").read_text() == "got it\n"
        assert ssh.wait(DEADLINE) == 255
    finally:
        kill(worker)


def test_a_defect_is_logged_and_not_shown(place: Place, alice: Path) -> None:
    """The client reads one sentence with a reference, which the log has with the traceback."""

    def broken(visit: object) -> None:
        raise RuntimeError("the secret is 42")

    with embedded(place, broken) as server:  # type: ignore[arg-type]
        done = server.ssh(alice, "apps")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "42" not in said.replace(said.partition("under ")[2], "")
    assert said.startswith("safepoint: the ssh session failed (internal error; ")
    reference = said.partition("under ")[2].rstrip(")\n")
    assert reference in place.home.log.read_text()
    assert "the secret is 42" in place.home.log.read_text()


def test_a_host_key_is_made_once(place: Place) -> None:
    """Readable by its owner alone, and the same from then on."""
    first = host_key(place.home.host_key)
    assert place.home.host_key.stat().st_mode & 0o777 == 0o600
    assert host_key(place.home.host_key).asbytes() == first.asbytes()
    assert [path.name for path in place.home.root.glob("*host_key*")] == ["host_key"]
    shown = subprocess.run(["ssh-keygen", "-y", "-f", place.home.host_key], capture_output=True, check=True, text=True)
    assert shown.stdout.split()[1] == first.get_base64()


def test_a_host_key_that_others_can_read_is_refused(place: Place) -> None:
    """It has to be taken for known to them."""
    host_key(place.home.host_key)
    place.home.host_key.chmod(0o640)
    with pytest.raises(UserError, match="others can read the host key"):
        host_key(place.home.host_key)


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_host_key_is_a_clear_error(place: Place, content: bytes) -> None:
    """It is never replaced in silence: clients would warn of an attack."""
    place.home.host_key.write_bytes(content)
    place.home.host_key.chmod(0o600)
    with pytest.raises(UserError, match="is damaged"):
        host_key(place.home.host_key)
    assert place.home.host_key.read_bytes() == content
