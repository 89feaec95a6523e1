"""The one place where it is decided who may do what: asked by the command line, by ssh sessions and by git's hooks.

A visitor without a key is the server's own Unix user, who may do everything. An app that a key may not see does not
exist for it: the same sentence and the same exit status. What is denied is written into the audit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from safepoint.core.app import App
from safepoint.core.audit import DENIED
from safepoint.core.names import app_name
from safepoint.core.operation import Operation
from safepoint.core.queueing import OnBusy
from safepoint.core.roles import VERBS, Action, Subject, needed_role, permits, permits_everywhere
from safepoint.errors import NotPermitted, UsageError, UserError, no_such_app, no_such_operation
from safepoint.people import Visitor
from safepoint.state.store import Store

_MAX_REASON = 200
"""Characters that are kept of why something was denied: it may repeat what was typed."""


def require(store: Store, visitor: Visitor, verb: str, *, app: str | None = None, operation: int | None = None) -> None:
    """That the visitor may do `verb`, which is about `app`, or about `operation` of an app, or about neither.

    Raises NotPermitted, NotFound and NoSuchOperation.
    """
    key = visitor.key
    if key is None:
        return
    if store.key(key) is None:
        raise NotPermitted(f"the key {key} has been removed from this server")
    found = None if operation is None else store.operation(operation)
    about = found.app if found is not None else app
    error = _refusal(store, key, verb, about, found)
    if error is not None:
        subject = f" {operation}" if operation is not None else ""
        store.add_audit(
            by=visitor.name,
            door=visitor.door.origin,
            app=_plain(about),
            what=f"{verb}{subject}",
            verdict=DENIED,
            reason=error.message[:_MAX_REASON],
        )
        raise error


def _refusal(store: Store, key: str, verb: str, app: str | None, operation: Operation | None) -> UserError | None:
    if verb not in VERBS:
        return NotPermitted(f"{verb} is not for ssh", "run it on the server itself")
    action, subject = VERBS[verb]
    grants = store.grants(key)
    if app is None:
        if subject is Subject.ALL and not permits_everywhere(grants, action):
            return _not_permitted(key, verb, action, "all apps")
        return None
    hidden = not permits(grants, Action.VIEW, app)
    if hidden and subject is not Subject.NEW_APP:
        return no_such_app(app) if operation is None else no_such_operation(operation.id)
    own = operation is not None and is_own(key, operation)
    return None if permits(grants, action, app, own=own) else _not_permitted(key, verb, action, app, own=own)


def _plain(app: str | None) -> str:
    """What can be the name of an app, for the audit: what is denied may be any text."""
    with suppress(UsageError):
        return app_name(app or "")
    return ""


def _not_permitted(key: str, verb: str, action: Action, apps: str, *, own: bool = False) -> NotPermitted:
    return NotPermitted(
        f"{key} may not do {verb}: that needs the role {needed_role(action, own=own)} of {apps}", "ask an admin for it"
    )


def is_own(key: str, operation: Operation) -> bool:
    """Whether the key has begun it. A Unix user of the same name is somebody else."""
    return operation.header.by == key and operation.header.door.startswith("ssh")


def allowed(store: Store, visitor: Visitor, action: Action) -> Callable[[str], bool]:
    """Whether the visitor may do so with an app of that name; for lists."""
    if visitor.key is None:
        return lambda _app: True
    grants = store.grants(visitor.key)
    return lambda app: permits(grants, action, app)


def sees_all(store: Store, visitor: Visitor) -> bool:
    """Whether what is about no app, such as keys, is for the visitor's eyes."""
    return visitor.key is None or permits_everywhere(store.grants(visitor.key), Action.ADMINISTER)


def superseding(store: Store, visitor: Visitor, app: App, policy: OnBusy) -> Callable[[int], None]:
    """A check for whoever opens an operation under `policy`: it is called with the running one that this would cancel.

    Where the app's own policy is to supersede, an operator has decided it. Raises NotPermitted.
    """
    if policy is not OnBusy.SUPERSEDE or app.on_busy is OnBusy.SUPERSEDE:
        return lambda _running: None

    def check(running: int) -> None:
        require(store, visitor, "operation:cancel", operation=running)

    running = store.unfinished(app.name)
    if running is not None and running.ending is None:
        check(running.id)  # now too, since what is denied inside the transaction leaves no trace in the audit
    return check
