"""How somebody came, and the command that they can type to come again."""

import pytest

from safepoint.core.doors import Door, kind_and_address


@pytest.mark.parametrize(
    ("door", "command"),
    [
        (Door.ssh("deploy", "127.0.0.1", 2222), "ssh -p 2222 deploy@127.0.0.1 operation:cancel 42"),
        (Door.ssh("git", "192.0.2.7", 22), "ssh git@192.0.2.7 operation:cancel 42"),
        (Door.ssh("git", "2001:db8::7", 22), "ssh git@2001:db8::7 operation:cancel 42"),
        (Door.ssh("git", "fe80::7%eth0", 22), "ssh git@fe80::7%eth0 operation:cancel 42"),
        (Door.ssh("git", "::ffff:192.0.2.7", 22), "ssh git@192.0.2.7 operation:cancel 42"),
        (
            Door.of_connection("deploy", "10.0.0.1 50000 10.0.0.2 2200"),
            "ssh -p 2200 deploy@10.0.0.2 operation:cancel 42",
        ),
        (Door.of_connection("deploy", ""), "ssh deploy@localhost operation:cancel 42"),
        (Door.local("/srv/safe point"), "safepoint --home '/srv/safe point' operation:cancel 42"),
    ],
)
def test_the_cancel_command_goes_through_the_same_door(door: Door, command: str) -> None:
    """It can be pasted as it is."""
    assert door.cancel_command(42) == command


@pytest.mark.parametrize(
    "user", ["", "Alice", "x;id", "$(id)", "a b", "x\n", "\x1b[31m", "-oProxyCommand=id", "u" * 33]
)
def test_a_hostile_user_name_is_not_shown(user: str) -> None:
    """Any user name goes at the embedded server; in a command that somebody pastes, it would be dangerous."""
    assert Door.ssh(user, "127.0.0.1", 2222).cancel_command(1) == "ssh -p 2222 deploy@127.0.0.1 operation:cancel 1"


@pytest.mark.parametrize("host", ["", "-oProxyCommand=id", "a b", "$(id)", "h\n"])
def test_a_hostile_host_is_not_shown(host: str) -> None:
    """It comes from a socket; this is a second lock."""
    assert Door.ssh("git", host, 22).cancel_command(1) == "ssh git@localhost operation:cancel 1"


@pytest.mark.parametrize(
    "door",
    [
        Door.ssh("git", "2001:db8::7", 2222),
        Door.ssh("git", "10.0.0.2", 22, "::ffff:192.0.2.7"),
        Door.local("/srv/safepoint"),
    ],
)
def test_a_door_goes_through_the_environment(door: Door) -> None:
    """Set by the session, read by the hooks of git below it."""
    environment = {"SAFEPOINT_HOME": "/srv/safepoint", **door.to_environment()}
    assert Door.from_environment(environment) == door


@pytest.mark.parametrize(
    "value", ["", "ssh", "ssh a b", "ssh a b c", "ssh a b 99999999", "ftp a b 21", "ssh  a b 1", "ssh a b 1 c d"]
)
def test_what_is_no_door_is_the_local_one(value: str) -> None:
    """A push to a path has no session that would set it."""
    environment = {"SAFEPOINT_HOME": "/srv/safepoint", "SAFEPOINT_DOOR": value}
    assert Door.from_environment(environment) == Door.local("/srv/safepoint")


@pytest.mark.parametrize(
    ("door", "origin"),
    [
        (Door.of_connection("git", "192.0.2.7 50000 10.0.0.2 22"), "ssh 192.0.2.7"),
        (Door.ssh("git", "10.0.0.2", 22, "::ffff:192.0.2.7"), "ssh 192.0.2.7"),
        (Door.ssh("git", "10.0.0.2", 22, "x; id"), "ssh"),
        (Door.of_connection("git", ""), "ssh"),
        (Door.local("/srv"), "local"),
    ],
)
def test_the_journal_keeps_where_somebody_came_from(door: Door, origin: str) -> None:
    """The kind of door, and the client's address where it has one that is plain."""
    assert door.origin == origin
    kind, address = kind_and_address(origin)
    assert f"{kind} {address}".strip() == origin
