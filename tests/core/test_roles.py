"""Roles: what each may do, and for which apps."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.cli.main import safepoint
from safepoint.core.roles import (
    NEEDS,
    VERBS,
    Action,
    Grant,
    Role,
    Subject,
    app_glob,
    permits,
    permits_everywhere,
)
from safepoint.errors import UsageError
from safepoint.ssh.requests import GIT_VERBS, NOUNS, SERVER_ONLY, WORDS

MAY = {
    Role.VIEWER: {Action.VIEW},
    Role.DEPLOYER: {Action.VIEW, Action.DEPLOY},
    Role.OPERATOR: {Action.VIEW, Action.DEPLOY, Action.CANCEL, Action.OPERATE},
    Role.ADMIN: set(Action),
}


@pytest.mark.parametrize("role", Role)
def test_each_role_may_do_what_those_before_it_may(role: Role) -> None:
    """And no more; one's own operation may be cancelled from deployer on."""
    grants = [Grant(role)]
    assert {action for action in Action if permits(grants, action, "web")} == MAY[role]
    own = {action for action in Action if permits(grants, action, "web", own=True)}
    assert own == MAY[role] | ({Action.CANCEL} if role is Role.DEPLOYER else set())


@pytest.mark.parametrize("action", Action)
def test_nothing_is_permitted_without_a_grant(action: Action) -> None:
    """Not even with what is one's own."""
    assert not permits([], action, "web", own=True)
    assert not permits([Grant(Role.ADMIN, "shop-*")], action, "web", own=True)
    assert not permits_everywhere([], action)


@pytest.mark.parametrize(
    ("glob", "matches", "others"),
    [
        ("*", ["web", "a", "shop-eu"], []),
        ("web", ["web"], ["web2", "aweb", "we"]),
        ("shop-*", ["shop-eu", "shop-"], ["shop", "my-shop-eu"]),
        ("w?b", ["web", "wab"], ["wb", "weeb"]),
        ("*-eu", ["shop-eu"], ["shop-eu2"]),
    ],
)
def test_a_glob_matches_whole_names(glob: str, matches: list[str], others: list[str]) -> None:
    """`*` is any text, `?` one character; nothing else is special."""
    assert all(Grant(Role.VIEWER, glob).covers(app) for app in matches)
    assert not any(Grant(Role.VIEWER, glob).covers(app) for app in others)


def matches(glob: str, app: str) -> bool:
    if not glob or not app:
        return not glob.strip("*") and not app
    if glob[0] == "*":
        return matches(glob[1:], app) or matches(glob, app[1:])
    return glob[0] in ("?", app[0]) and matches(glob[1:], app[1:])


@given(st.text("ab-*?", min_size=1, max_size=8), st.text("ab-", min_size=1, max_size=8))
def test_a_glob_means_what_shells_mean(glob: str, app: str) -> None:
    """Compared with the definition."""
    assert Grant(Role.VIEWER, app_glob(glob)).covers(app) == matches(glob, app)


@pytest.mark.timeout(60)
def test_no_glob_takes_for_ever() -> None:
    """Twenty-nine stars could share a name out among them in more ways than anybody lives to see tried."""
    assert not Grant(Role.VIEWER, app_glob("*a" * 29)).covers("a" * 29 + "b")


@pytest.mark.parametrize("text", ["", "Web", "[ab]", "a b", "web\n", ".*", "web|shop", "!web", "x" * 61])
def test_what_cannot_be_a_glob_is_refused(text: str) -> None:
    """One sentence, rather than a grant that matches nothing or too much."""
    with pytest.raises(UsageError):
        app_glob(text)


def test_the_widest_grant_counts() -> None:
    """Several grants never take anything away from each other."""
    grants = [Grant(Role.VIEWER), Grant(Role.DEPLOYER, "web*"), Grant(Role.OPERATOR, "web-test")]
    assert permits(grants, Action.VIEW, "shop")
    assert not permits(grants, Action.DEPLOY, "shop")
    assert permits(grants, Action.DEPLOY, "web")
    assert permits(grants, Action.OPERATE, "web-test")
    assert not permits(grants, Action.OPERATE, "web")


def test_the_server_as_a_whole_takes_a_grant_for_all_apps() -> None:
    """An admin of one app adds no keys, for they could give away other apps."""
    assert permits_everywhere([Grant(Role.ADMIN)], Action.ADMINISTER)
    assert not permits_everywhere([Grant(Role.ADMIN, "?*")], Action.ADMINISTER)
    assert not permits_everywhere([Grant(Role.OPERATOR)], Action.ADMINISTER)


def test_every_verb_of_ssh_is_in_the_table_and_finds_its_app() -> None:
    """A verb that is added has to say what it needs; until then nobody can use it over ssh."""
    ssh = {name: each for name, each in safepoint.all().items() if name.split(":")[0] not in SERVER_ONLY}
    assert set(VERBS) == {*ssh, *GIT_VERBS}
    assert {verb.split(":")[0] for verb in ssh} <= {*NOUNS, *WORDS}
    for name, each in ssh.items():
        parameters = {parameter.name for parameter in each.params if isinstance(parameter, click.Parameter)}
        _, subject = VERBS[name]
        if subject is Subject.OPERATION:
            assert "operation_id" in parameters, name
        elif subject in (Subject.APP, Subject.NEW_APP):
            assert parameters & {"app", "name"}, name
        elif subject is Subject.ALL:
            assert "app" not in parameters, name


def test_every_action_needs_a_role() -> None:
    """The table has no holes."""
    assert set(NEEDS) == set(Action)
