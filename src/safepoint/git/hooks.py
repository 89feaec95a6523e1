"""What git's hooks do. They fail closed: whatever goes wrong refuses the push with one sentence.

`pre-receive` admits the push and opens the operation, while the objects are still in quarantine. `proc-receive` runs
when they are in place: it tells the worker, follows it, and reports its ending to git as the fate of the deploy branch.
A push that was not admitted has no operation; then `proc-receive` says why, on the line that git prints for the branch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safepoint import launch, logs, planning
from safepoint.control.client import Connection, NoAnswer
from safepoint.control.follow import ReaderGone, follow
from safepoint.control.protocol import BadFrame
from safepoint.core import wording
from safepoint.core.app import App
from safepoint.core.doors import KEY_VARIABLE, Door
from safepoint.core.events import Ending
from safepoint.core.operation import Operation
from safepoint.core.plan import Kind, ProcessIdentity
from safepoint.core.refs import RefUpdate, branch_ref, collide, parse_lines
from safepoint.errors import UserError
from safepoint.git import proc_receive as protocol
from safepoint.git.repositories import GitRepository
from safepoint.people import who
from safepoint.processes import identity
from safepoint.state.paths import Home
from safepoint.state.store import AppBusy, Store


class Push:
    """One push, as its hooks see it."""

    def __init__(self, home: Home, store: Store, app: App) -> None:
        self.home = home
        self.store = store
        self.app = app
        self.by = who()
        door = Door.from_environment(os.environ)
        self.door = Door.local(str(home.root)) if door.kind == "local" else door
        receiver = identity.of(os.getppid())
        if receiver is None:
            raise UserError("the push has ended")
        self.receiver: ProcessIdentity = receiver

    def authorize(self) -> None:
        key = os.environ.get(KEY_VARIABLE)
        if key is not None and self.store.key(key) is None:
            raise UserError(f"the key {key} has been removed from this server")

    def admit(self, update: RefUpdate) -> int:
        """Open the operation for the deploy branch's update and start its worker. Raises UserError."""
        plan = planning.deploy(self.home, self.store, self.app, update.new, self.receiver)
        try:
            return launch.open_and_launch(
                self.home,
                self.store,
                plan,
                by=self.by,
                door=self.door.kind,
                environment=self.store.config(self.app.name),
            )
        except AppBusy as busy:
            raise UserError(*self._busy(busy.operation)) from None

    def finish_dead(self) -> None:
        """Where the last operation's worker is dead, have its story finished first."""
        unfinished = self.store.unfinished(self.app.name)
        if unfinished is not None and launch.recover(self.home, self.store, self.app.name):
            say(f"Finishing operation {unfinished.id}, whose process died...")
            ended = self.follow(unfinished.id, lambda _chunk: None)
            say(wording.closing(ended))

    def follow(self, number: int, write: Callable[[bytes], None]) -> Operation:
        return follow(
            self.home,
            self.store,
            number,
            write,
            recover=lambda app: launch.recover(self.home, self.store, app),
            reader=sys.stderr.fileno(),
        )

    def check(self, update: RefUpdate) -> None:
        """What can be said of the update without opening anything. Raises UserError."""
        if update.deletes:
            raise UserError(
                f"{self.app.branch} is what {self.app.name} runs and cannot be deleted",
                f"to remove the app: `apps:destroy {self.app.name}`",
            )
        if (unfinished := self.store.unfinished(self.app.name)) is not None:
            raise UserError(*self._busy(unfinished.id))
        found = GitRepository(self.home.repository(self.app.name)).branch(self.app.branch)
        if found != ("" if update.creates else update.old):
            raise UserError(f"{self.app.branch} has moved since you looked", "fetch first")

    def own_operation(self) -> int | None:
        """The operation that this push has opened."""
        latest = self.store.operations(self.app.name, limit=20)
        return next((each.id for each in latest if each.plan.receiver == self.receiver), None)

    def _busy(self, number: int) -> tuple[str, str]:
        return wording.busy(self.store.operation(number), self.door.cancel_command(number))


def pre_receive(push: Push) -> int:
    say(wording.authorizing())
    push.authorize()
    updates = parse_lines(sys.stdin.buffer.read())
    update = _deploy_update(push.app, updates)
    if update is None:
        if not all(each.deletes for each in updates):
            say(f"Stored; only {push.app.branch} is deployed: push BRANCH:{push.app.branch} to deploy another")
        return 0
    try:
        push.finish_dead()
        push.check(update)
        say(wording.initiating(Kind.DEPLOY))
        number = push.admit(update)
    except UserError as error:
        _say_refused(error)
        return 0  # proc-receive refuses the branch; what else is pushed is stored
    operation = push.store.operation(number)
    say(wording.deploying(operation.plan.commit, push.app.name, operation.plan.release, number))
    return 0


def proc_receive(push: Push) -> int:
    request = protocol.read_request(sys.stdin.buffer, sys.stdout.buffer)
    results: dict[str, str] = {}
    for update in request.commands:
        results[update.ref] = _fate(push, update)
    protocol.answer(sys.stdout.buffer, results)
    sys.stdout.buffer.flush()
    return 0


def _fate(push: Push, update: RefUpdate) -> str:
    """Why the branch did not move; empty: it did."""
    number = push.own_operation() if update.ref == branch_ref(push.app.branch) else None
    if number is None:
        return _why_not(push, update)
    if _tell_received(push, number):
        for line in wording.detached(push.door.cancel_command(number)):
            say(line)
    ended = push.follow(number, _write)
    for line in wording.ending_lines(ended):
        say(line)
    return "" if ended.ending is Ending.SUCCEEDED else wording.closing(ended)


def _why_not(push: Push, update: RefUpdate) -> str:
    """The sentence with which `pre-receive` did not admit it, found again rather than handed over."""
    try:
        push.check(update)
        planning.deploy(push.home, push.store, push.app, update.new)
    except UserError as error:
        return error.message
    return "it was refused a moment ago, and nothing is in its way now: push again"


def _tell_received(push: Push, number: int) -> bool:
    """From here on the worker needs nothing of this push. Where it cannot be told it is dead, and recovered soon."""
    with suppress(NoAnswer, BadFrame), Connection.to(push.home, push.app.name) as connection:
        connection.ask("received", number)
        return True
    return False


def _deploy_update(app: App, updates: tuple[RefUpdate, ...]) -> RefUpdate | None:
    ref = branch_ref(app.branch)
    for update in updates:
        # While there is no main, git takes refs/heads/refs/heads/main for it: the push would not reach the real one.
        if (collide(update.ref, ref) or update.ref.endswith(f"/{ref}")) and not update.deletes:
            raise UserError(f"a ref {update.ref!a} would be in the way of {app.branch}", "choose another name")
    return next((update for update in updates if update.ref == ref), None)


def _say_refused(error: UserError) -> None:
    say("")
    say(f"Refused: {error.message}")
    if error.hint:
        say(f"    {error.hint}")
    say("")


def say(line: str) -> None:
    """One line of Safepoint's own on the pusher's terminal."""
    _write(f"{wording.PREFIX}{line}".rstrip().encode() + b"\n" if line else b"\n")


def _write(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


_HOOKS: dict[str, Callable[[Push], int]] = {"pre-receive": pre_receive, "proc-receive": proc_receive}


def main(arguments: list[str]) -> int:
    repository = Path(os.environ.get("GIT_DIR", ".")).resolve()  # git runs hooks in the repository
    home = Home(repository.parent.parent)
    try:
        with Store.open(home) as store:
            app = store.need_app(repository.name.removesuffix(".git"))
            return _HOOKS[arguments[0]](Push(home, store, app))
    except UserError as error:
        say(f"Refused: {error}")
    except (BrokenPipeError, ReaderGone):
        return 1  # the client has gone; the worker has not noticed
    except Exception:
        say("Refused: " + logs.defect(home, f"{arguments[0]} failed"))
    return 1


if __name__ == "__main__":
    # A client that has gone closes stderr: what Python would still flush at its end has nowhere to go.
    status = main(sys.argv[1:])
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)
