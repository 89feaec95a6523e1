"""The hooks of a repository that is hosted elsewhere (`hooks:install`): pushes into it deploy, and do not wait for it.

`pre-receive` fails closed. It authorizes, refuses what cannot be deployed, and copies the commit into the app's own
repository, so that everything else (`deploy`, rollback, the branch that is what runs) is as for any other app. When
`post-receive` runs the ref has moved already: it launches the same worker, and whatever goes wrong is one sentence.
Run by `start` as `safepoint.git.after_push HOOK HOME APP KEY_VARIABLE`, the last empty where there is none.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safepoint import launch, logs, permission, planning
from safepoint.core import push_options, wording
from safepoint.core.app import App
from safepoint.core.doors import AFTER_PUSH, Door
from safepoint.core.names import shown
from safepoint.core.push_options import PushOptions
from safepoint.core.queueing import Reject, admit
from safepoint.core.refs import MAX_UPDATES, ProtocolError, RefUpdate, branch_ref, parse_lines
from safepoint.errors import UsageError, UserError
from safepoint.git.bringing import bring
from safepoint.hints import NoReturn
from safepoint.people import Visitor
from safepoint.state.opening import AppBusy
from safepoint.state.paths import Home
from safepoint.state.store import Store


class Push:
    """One push, as its hooks see it."""

    def __init__(self, home: Home, store: Store, app: App, repository: Path, visitor: Visitor) -> None:
        self.home = home
        self.store = store
        self.app = app
        self.repository = repository
        self.visitor = visitor
        self.options = _options()
        self.policy = self.options.on_busy or app.on_busy
        self.server = Door.local(str(home.root))
        """From where its operation can be followed and cancelled: the repository's own host knows no such verbs."""

    def authorize(self) -> None:
        key = self.visitor.key
        if key is not None and self.store.key(key) is None:
            raise UserError(f"{shown(key)} is no key of this server", "whoever pushes here needs one: `keys:add`")
        permission.require(self.store, self.visitor, "git-receive-pack", app=self.app.name)

    def _permit_cancel(self) -> Callable[[int], None]:
        """Raises NotPermitted at once where that is clear."""
        return permission.superseding(self.store, self.visitor, self.app, self.policy)

    def check(self, update: RefUpdate) -> None:
        """What can be said before the ref moves. Raises UserError."""
        if update.deletes:
            raise UserError(
                f"{self.app.branch} is what {self.app.name} deploys and cannot be deleted",
                f"to deploy it no more, on the server: `hooks:remove {self.repository}`",
            )
        if self.options.attach:
            raise UserError("the push option attach is not for this repository: its pushes do not wait for the deploy")
        planning.look(self.repository, update.new)
        launch.recover(self.home, self.store, self.app.name)
        running, waiting = self.store.unfinished(self.app.name), self.store.waiting(self.app.name)
        admission = admit(running, () if waiting is None else (waiting,), self.policy)
        if isinstance(admission, Reject):
            raise self._busy(admission.by)
        self._permit_cancel()

    def bring(self, commit: str) -> None:
        bring(self.repository, commit, self.home.repository(self.app.name))

    def launch(self, commit: str) -> tuple[str, ...]:
        """Open the operation and start its worker; what to say then. Raises UserError."""
        plan = planning.deploy(self.home, self.store, self.app, commit)
        try:
            opened = launch.open_and_launch(
                self.home,
                self.store,
                plan,
                by=self.visitor.name,
                door=self.visitor.door.origin,
                policy=self.policy,
                reason=self.options.reason,
                environment=self.store.config(self.app.name),
                permit_cancel=self._permit_cancel(),
            )
        except AppBusy as busy:
            raise self._busy(busy.operation) from None
        number = opened.operation
        queued = (wording.queued(number, self.store.unfinished(plan.app), plan.app),) if opened.queued else ()
        commands = (self.server.command(f"operation:follow {number}"), self.server.cancel_command(number))
        return (
            wording.deploying(commit, plan.app, plan.release, number),
            *queued,
            *wording.launched(*commands),
        )

    def _busy(self, number: int) -> UserError:
        return UserError(*wording.busy(self.store.operation(number), self.server.cancel_command(number)))


def pre_receive(push: Push, update: RefUpdate) -> None:
    say(wording.authorizing())
    push.authorize()
    push.check(update)
    push.bring(update.new)


def post_receive(push: Push, update: RefUpdate) -> None:
    if update.deletes:
        return
    try:
        # Once more, as `pre-receive` may have been put out of the way. Both cost nothing where they have been done.
        push.authorize()
        push.bring(update.new)
        lines = push.launch(update.new)
    except UserError as error:
        lines = (f"Not deployed: {error}", wording.try_again(push.app.name, push.app.branch, update.new))
    for line in lines:  # only now, as the client may be gone
        say(line)


def _options() -> PushOptions:
    """Those that are ours. The repository's host may have others, which are none of our business."""
    mine = []
    for option in push_options.from_environment(os.environ):
        with suppress(UsageError):
            push_options.parse([option])
            mine.append(option)
    return push_options.parse(mine)


def _visitor(key_variable: str) -> Visitor:
    """Raises UserError where the host does not say who it is."""
    door = Door(AFTER_PUSH, client=Door.of_connection("", os.environ.get("SSH_CONNECTION", "")).client)
    if key_variable:
        key = os.environ.get(key_variable, "")
        if not key.isprintable() or not key:
            raise UserError(f"{key_variable} does not say who pushes: it is {shown(key)}")
        return Visitor(key, door, key)
    return Visitor(_user(os.geteuid()), door)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def require_owner(home: Home) -> None:
    """That the home belongs to whom this process runs as: nobody else could deploy. Raises UserError."""
    with suppress(FileNotFoundError, NotADirectoryError):
        try:
            owner = home.root.stat().st_uid
        except PermissionError:
            raise UserError(f"{_user(os.geteuid())} cannot use Safepoint's home {home.root}") from None
        if owner != os.geteuid():
            raise UserError(
                f"Safepoint's home {home.root} belongs to {_user(owner)}, and this is {_user(os.geteuid())}"
            )


def _deploy_update(app: App, data: bytes) -> RefUpdate | None:
    try:
        updates = parse_lines(data)
    except ProtocolError as error:
        raise UserError(str(error)) from None
    return next((update for update in updates if update.ref == branch_ref(app.branch)), None)


def say(line: str) -> None:
    """One line of Safepoint's own on the pusher's terminal."""
    sys.stderr.buffer.write(wording.own_line(line).encode())
    sys.stderr.buffer.flush()


def main(arguments: list[str]) -> int:
    hook, root, name, key_variable = arguments
    home, refuses = Home(Path(root)), hook == "pre-receive"
    failed = "Refused" if refuses else "Not deployed"
    try:
        require_owner(home)
        with Store.open(home) as store:
            app = store.need_app(name)
            update = _deploy_update(app, sys.stdin.buffer.read(MAX_UPDATES + 1))
            if update is not None:
                repository = Path(os.environ.get("GIT_DIR", ".")).resolve()
                push = Push(home, store, app, repository, _visitor(key_variable))
                (pre_receive if refuses else post_receive)(push, update)
        return 0
    except UserError as error:
        _say_failed(f"{failed}: {error.message}", error.hint)
    except BrokenPipeError:
        pass  # the client has gone
    except Exception:
        _say_failed(f"{failed}: {logs.defect(home, f'{hook} failed')}")
    return int(refuses)


def _say_failed(line: str, hint: str = "") -> None:
    with suppress(BrokenPipeError):
        for each in ("", line, *([f"    {hint}"] if hint else []), ""):
            say(each)


def run(arguments: list[str]) -> NoReturn:
    """As a process of its own."""
    # A client that has gone closes stderr: what Python would still flush at its end has nowhere to go.
    os._exit(main(arguments))
