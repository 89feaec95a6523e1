"""What may be asked for over ssh."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.core.names import app_name
from safepoint.errors import NotPermitted, UsageError
from safepoint.ssh.requests import GIT_VERBS, Request, parse


@pytest.mark.parametrize("path", ["web", "web.git", "/web", "/web.git", "~/web", "~/web.git", "web/", "/web.git/"])
@pytest.mark.parametrize("words", ["git-receive-pack", "git receive-pack"])
def test_every_spelling_of_an_address_is_the_app(words: str, path: str) -> None:
    """ssh://host/web, host:web and host:~/web come as different paths."""
    assert parse("alice", f"{words} '{path}'") == Request("alice", "git-receive-pack", app="web")


def test_a_fetch_is_a_request() -> None:
    """Whoever may push may fetch."""
    assert parse("alice", "git-upload-pack 'web.git'") == Request("alice", "git-upload-pack", app="web")


@pytest.mark.parametrize(
    ("line", "verb", "arguments"),
    [
        ("operation:cancel 42 --reason 'wrong branch'", "operation:cancel", ("42", "--reason", "wrong branch")),
        ("operation:list --json", "operation:list", ("--json",)),
        ("cancel 42", "cancel", ("42",)),
        ("follow 42", "follow", ("42",)),
        ("logs 42", "logs", ("42",)),
        ("apps", "apps", ()),
        ("apps:create web", "apps:create", ("web",)),
        ("releases web", "releases", ("web",)),
        ("releases:rollback web v3", "releases:rollback", ("web", "v3")),
        ("config web", "config", ("web",)),
        ("config:set web 'A=b c' B='1\n2'", "config:set", ("web", "A=b c", "B=1\n2")),
        ("deploy web", "deploy", ("web",)),
        ("recover 42", "recover", ("42",)),
        ("audit --since 24h", "audit", ("--since", "24h")),
        ("keys:grant bob viewer", "keys:grant", ("bob", "viewer")),
        ("operation:cancel '; id'", "operation:cancel", ("; id",)),
        ("logs $(id)", "logs", ("$(id)",)),
    ],
)
def test_an_operators_verb_is_split_and_never_interpreted(line: str, verb: str, arguments: tuple[str, ...]) -> None:
    """No shell sees it: what would be special there is a plain argument."""
    assert parse("alice", line) == Request("alice", verb, arguments=arguments)


@pytest.mark.parametrize(
    "line",
    [
        "git-receive-pack '../../etc'",
        "git-receive-pack '/srv/repositories/web.git'",
        "git-receive-pack '..'",
        "git-receive-pack '.git'",
        "git-receive-pack '//web'",
        "git-receive-pack '~alice/web'",
        "git-receive-pack 'Web'",
        "git-receive-pack '--help'",
        "git-receive-pack 'web\n'",
        "git-receive-pack ''",
        "git-receive-pack",
        "git-receive-pack 'web' 'other'",
        "git-receive-pack --stateless-rpc 'web'",
        "git-upload-pack 'web'\nid",
        "git-upload-pack 'web'; id",
        "git-upload-pack 'web' && id",
        "git-upload-pack $(id)",
        "git-upload-archive 'web'",
        "git upload-archive 'web'",
        "git",
        "git --exec-path=/tmp receive-pack 'web'",
        "/usr/bin/git-receive-pack 'web'",
        "; id",
        "$(id)",
        "`id`",
        "id",
        "scp -t /tmp",
        "rsync --server",
        "bash -i",
        "'",
        'apps "',
        "apps\\",
        "\\",
        "apps; id",
        "apps:",
        ":create",
        "apps:create:x web",
        "APPS",
        "operation:cancel;id 1",
        "--json apps",
        "-h",
        "apps\0",
        "apps \udcff",
        "logs " + "x" * 9000,
        "logs" + " x" * 200,
    ],
)
def test_everything_else_is_refused_with_one_sentence(line: str) -> None:
    """A usage error, printable whatever was sent."""
    with pytest.raises(UsageError) as caught:
        parse("alice", line)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "line",
    [
        "serve",
        "shell bob",
        "authorized-keys",
        "demo",
        "hooks",
        "hooks:install web",
        "apps --home /tmp",
        "apps --home=/tmp",
        "deploy web --home /tmp",
    ],
)
def test_what_belongs_to_the_server_is_not_permitted(line: str) -> None:
    """Over ssh nobody serves, or chooses another home."""
    with pytest.raises(NotPermitted):
        parse("alice", line)


@pytest.mark.parametrize("line", [None, "", "  ", "\n"])
def test_a_shell_is_declined_by_name(line: str | None) -> None:
    """It says that the key is right, which is what somebody wants to know who tries."""
    with pytest.raises(NotPermitted, match=r"Hi alice! .* no shell") as caught:
        parse("alice", line)
    assert caught.value.exit_code == 1


@given(
    st.text()
    | st.builds(lambda verb, rest: f"{verb} {rest}", st.sampled_from([*GIT_VERBS, "git receive-pack"]), st.text())
)
def test_any_line_is_a_request_or_a_refusal(line: str) -> None:
    """No other exception, and an app that comes out is always a valid name."""
    try:
        request = parse("alice", line)
    except (UsageError, NotPermitted) as error:
        request, said = None, str(error)
    else:
        said = ""
    assert said.isprintable()
    assert request is None or request.verb not in GIT_VERBS or app_name(request.app)
