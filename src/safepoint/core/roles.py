"""Who may do what: roles, what each verb needs, and the globs by which a role is given for some apps. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, StrEnum
from fnmatch import fnmatchcase

from safepoint.core.names import shown
from safepoint.errors import UsageError
from safepoint.record import Record


class Role(StrEnum):
    """Each may do what those before it may."""

    VIEWER = "viewer"
    DEPLOYER = "deployer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, other: Role) -> bool:
        ranks = tuple(Role)
        return ranks.index(self) >= ranks.index(other)


class Action(StrEnum):
    VIEW = "view"
    DEPLOY = "deploy"
    CANCEL = "cancel"
    OPERATE = "operate"
    ADMINISTER = "administer"


NEEDS = {
    Action.VIEW: Role.VIEWER,
    Action.DEPLOY: Role.DEPLOYER,
    Action.CANCEL: Role.OPERATOR,
    Action.OPERATE: Role.OPERATOR,
    Action.ADMINISTER: Role.ADMIN,
}
NEEDS_FOR_OWN = NEEDS | {Action.CANCEL: Role.DEPLOYER}
"""The same, where it is about an operation that one has begun oneself."""


class Subject(Enum):
    """What a verb is about, and so where the app is found that it is checked against."""

    APP = "an app that it names"
    NEW_APP = "the name of an app that is yet to be"
    OPERATION = "the app of the operation that it names"
    ALL = "the server as a whole: it takes a grant for all apps"
    LISTED = "nothing, or an app that it names: what it lists is only what one may see"


VERBS = {
    "apps": (Action.VIEW, Subject.LISTED),
    "apps:create": (Action.ADMINISTER, Subject.NEW_APP),
    "apps:destroy": (Action.ADMINISTER, Subject.APP),
    "apps:on-busy": (Action.OPERATE, Subject.APP),
    "audit": (Action.VIEW, Subject.LISTED),
    "config": (Action.OPERATE, Subject.APP),  # it shows secrets
    "config:set": (Action.OPERATE, Subject.APP),
    "config:unset": (Action.OPERATE, Subject.APP),
    "deploy": (Action.DEPLOY, Subject.APP),
    "git-receive-pack": (Action.DEPLOY, Subject.APP),
    "git-upload-pack": (Action.VIEW, Subject.APP),
    "keys": (Action.ADMINISTER, Subject.ALL),
    "keys:add": (Action.ADMINISTER, Subject.ALL),
    "keys:grant": (Action.ADMINISTER, Subject.ALL),
    "keys:remove": (Action.ADMINISTER, Subject.ALL),
    "keys:revoke": (Action.ADMINISTER, Subject.ALL),
    "limits": (Action.OPERATE, Subject.APP),
    "operation:cancel": (Action.CANCEL, Subject.OPERATION),
    "operation:follow": (Action.VIEW, Subject.OPERATION),
    "operation:list": (Action.VIEW, Subject.LISTED),
    "operation:logs": (Action.VIEW, Subject.OPERATION),
    "operation:show": (Action.VIEW, Subject.OPERATION),
    "recover": (Action.OPERATE, Subject.OPERATION),
    "releases": (Action.VIEW, Subject.APP),
    "releases:rollback": (Action.OPERATE, Subject.APP),
}
"""The one table. A verb that is not in it belongs to the server's own shell."""

EVERY_APP = "*"
_GLOB = re.compile(r"[a-z0-9*?-]{1,60}")


class Grant(Record):
    """`role` for the apps whose name `apps` matches: `*` is any text, `?` any one character."""

    role: Role
    apps: str = EVERY_APP

    def covers(self, app: str) -> bool:
        # Not `.*` in a pattern of our own: with many stars it would try every way to share a name out among them.
        return fnmatchcase(app, self.apps)

    def __str__(self) -> str:
        return f"{self.role} of {'all apps' if self.apps == EVERY_APP else self.apps}"


def app_glob(text: str) -> str:
    """Raises UsageError."""
    if not _GLOB.fullmatch(text):
        raise UsageError(f"{shown(text)} matches no app", "use the name of an app, with * and ? for what varies")
    return text


def permits(grants: Iterable[Grant], action: Action, app: str, *, own: bool = False) -> bool:
    """`own`: it is about an operation that the same key has begun."""
    needed = needed_role(action, own=own)
    return any(grant.covers(app) and grant.role.covers(needed) for grant in grants)


def permits_everywhere(grants: Iterable[Grant], action: Action) -> bool:
    """For the server as a whole: a grant whose glob happens to match every app of today is not enough."""
    return any(grant.apps == EVERY_APP and grant.role.covers(NEEDS[action]) for grant in grants)


def needed_role(action: Action, *, own: bool = False) -> Role:
    return (NEEDS_FOR_OWN if own else NEEDS)[action]
