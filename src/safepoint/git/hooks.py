"""What git's hooks do. They fail closed: whatever goes wrong refuses the push with one sentence.

`pre-receive` admits the push and opens the operation, while the objects are still in quarantine. `proc-receive` runs
when they are in place: it tells the worker, follows it, and reports its ending to git as the fate of the deploy branch.
A push that was not admitted has no operation; then `proc-receive` says why, on the line that git prints for the branch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from safepoint import launch, logs, machine, permission, planning
from safepoint.control.client import Connection, NoAnswer
from safepoint.control.follow import ReaderGone, follow
from safepoint.control.protocol import BadFrame
from safepoint.core import push_options, wording
from safepoint.core.app import App
from safepoint.core.events import Ending
from safepoint.core.operation import Operation
from safepoint.core.plan import Kind, Plan, ProcessIdentity
from safepoint.core.queueing import OnBusy
from safepoint.core.refs import MAX_UPDATES, ProtocolError, RefUpdate, branch_ref, collide, parse_lines
from safepoint.core.slots import running_slot, slot_of
from safepoint.errors import UserError
from safepoint.git import proc_receive as protocol
from safepoint.git.repositories import GitRepository
from safepoint.hints import NoReturn
from safepoint.people import visitor
from safepoint.processes import identity
from safepoint.record import replace
from safepoint.state.journal import Journal
from safepoint.state.opening import AppBusy, Opened
from safepoint.state.paths import Home
from safepoint.state.store import Store


class Push:
    """One push, as its hooks see it."""

    def __init__(self, home: Home, store: Store, app: App) -> None:
        self.home = home
        self.store = store
        self.app = app
        self.visitor = visitor(str(home.root))
        self.by, self.door = self.visitor.name, self.visitor.door
        self.use(push_options.from_environment(os.environ))
        receiver = identity.of(os.getppid())
        # An orphan's parent is init, which never ends: an operation would wait for its objects for ever.
        if receiver is None or not _is_git(receiver.pid) or os.getppid() != receiver.pid:
            raise UserError("the push has ended")
        self.receiver: ProcessIdentity = receiver
        self.client = _client()

    def use(self, options: Sequence[str]) -> None:
        """Raises UsageError."""
        self.options = push_options.parse(options)
        self.policy = self.options.on_busy or self.app.on_busy

    def authorize(self) -> None:
        permission.require(self.store, self.visitor, "git-receive-pack", app=self.app.name)

    def admit(self, update: RefUpdate) -> Opened:
        """Open the operation for the deploy branch's update, say so, and start its worker. Raises UserError."""
        plan = planning.deploy(self.home, self.store, self.app, update.new, self.receiver)
        plan = replace(plan, attach=self.options.attach)
        try:
            return launch.open_and_launch(
                self.home,
                self.store,
                plan,
                by=self.by,
                door=self.door.origin,
                policy=self.policy,
                reason=self.options.reason,
                environment=self.store.config(self.app.name),
                permit_cancel=permission.superseding(self.store, self.visitor, self.app, self.policy),
                on_open=lambda opened: self._announce(plan, opened),
            )
        except AppBusy as busy:
            raise UserError(*self._busy(busy.operation)) from None

    def _announce(self, plan: Plan, opened: Opened) -> None:
        with suppress(OSError):  # a client that has gone: the next word to it fails as well, and the worker runs then
            say(wording.deploying(plan.commit, self.app.name, plan.release, opened.operation))

    def finish_dead(self) -> None:
        """Where the last operation's worker is dead, have its story finished first."""
        unfinished = self.store.unfinished(self.app.name)
        slot = running_slot(self.app.name)
        if unfinished is not None and launch.recover_slot(self.home, self.store, self.app.name, slot):
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
            readers=(sys.stderr.fileno(), *self.client),
        )

    def check(self, update: RefUpdate) -> None:
        """What can be said of the update without opening anything. Raises UserError."""
        if update.deletes:
            raise UserError(
                f"{self.app.branch} is what {self.app.name} runs and cannot be deleted",
                f"to remove the app: `apps:destroy {self.app.name}`",
            )
        unfinished = self.store.unfinished(self.app.name) or self.store.waiting(self.app.name)
        if unfinished is not None and (self.policy is OnBusy.REJECT or unfinished.ending is Ending.STUCK):
            raise UserError(*self._busy(unfinished.id))
        found = GitRepository(self.home.repository(self.app.name)).branch(self.app.branch)
        if found != ("" if update.creates else update.old):
            raise UserError(f"{self.app.branch} has moved since you looked", "fetch first")

    def _busy(self, number: int) -> tuple[str, str]:
        return wording.busy(self.store.operation(number), self.door.cancel_command(number))


def pre_receive(push: Push) -> int:
    say(wording.authorizing())
    push.authorize()
    updates = parse_lines(sys.stdin.buffer.read(MAX_UPDATES + 1))
    update = _deploy_update(push.app, updates)
    if update is None:
        if not all(each.deletes for each in updates):
            say(f"Stored; only {push.app.branch} is deployed: push BRANCH:{push.app.branch} to deploy another")
        return 0
    try:
        push.finish_dead()
        push.check(update)
        say(wording.initiating(Kind.DEPLOY))
        opened = push.admit(update)
    except UserError as error:
        _say_refused(error)
        return 0  # proc-receive refuses the branch; what else is pushed is stored
    if opened.queued:
        say(wording.queued(opened.operation, push.store.unfinished(push.app.name), push.app.name))
    return 0


def proc_receive(push: Push) -> int:
    request = protocol.read_request(sys.stdin.buffer, sys.stdout.buffer)
    push.use(request.push_options)  # git tells this hook so, and not in its environment (githooks(5), proc-receive)
    results: dict[str, str] = {}
    for update in request.commands:
        results[update.ref] = _fate(push, update)
    protocol.answer(sys.stdout.buffer, results)
    sys.stdout.buffer.flush()
    return 0


def _fate(push: Push, update: RefUpdate) -> str:
    """Why the branch did not move; empty: it did."""
    number = push.store.opened_by(push.app.name, push.receiver) if update.ref == branch_ref(push.app.branch) else None
    if number is None:
        return _why_not(push, update)
    # Before anybody is told that the push is not needed any more: it may wait for its turn across a power cut.
    GitRepository(push.home.repository(push.app.name)).settle()
    if _tell_received(push, number):
        banner = wording.attached if push.options.attach else wording.detached
        for line in banner(push.door.cancel_command(number)):
            say(line)
        if push.options.no_wait:
            say(wording.not_waiting(push.door.command(f"operation:follow {number}")))
            return ""
    try:
        ended = push.follow(number, _write)
    except UserError as error:
        say(str(error))
        return error.message
    for line in wording.ending_lines(ended):
        say(line)
    return "" if ended.ending is Ending.SUCCEEDED else wording.closing(ended)


def _why_not(push: Push, update: RefUpdate) -> str:
    """The sentence with which `pre-receive` did not admit it, found again rather than handed over."""
    try:
        push.check(update)
        push.store.reserve()
        planning.deploy(push.home, push.store, push.app, update.new)
    except UserError as error:
        return error.message
    return "it was refused a moment ago, and nothing is in its way now: push again"


def _is_git(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().startswith(b"git")
    except OSError:
        return False


def _client() -> tuple[int, ...]:
    """git-receive-pack's own output, which is in error once its reader has gone.

    Our stderr does not say so where the client was killed and its connection was a pipe: the thread of receive-pack
    that reads it ends, but the process, which holds it open, waits for us (copy_to_sideband in its source).
    """
    try:
        return (os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC),)
    except OSError:  # a socket, and no pipe
        return ()


def _tell_received(push: Push, number: int) -> bool:
    """From here on the worker needs nothing of this push; whether somebody knows."""
    if _ask_received(push, number):
        return True
    # It is dead. One that waits goes on with its next worker, which must not wait for us while we wait for its end.
    journal = Journal(push.store, number)
    journal.receive()
    return _ask_received(push, number) or (journal.operation.queued and journal.operation.ending is None)


def _ask_received(push: Push, number: int) -> bool:
    slot = slot_of(push.store.operation(number))
    with suppress(NoAnswer, BadFrame), Connection.to(push.home, slot) as connection:
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
    _write(wording.own_line(line).encode())


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
    except (UserError, ProtocolError) as error:
        say(f"Refused: {error}")
    except (BrokenPipeError, ReaderGone):
        return 1  # the client has gone; the worker has not noticed
    except Exception as error:
        said = str(machine.trouble(error) or logs.defect(home, f"{arguments[0]} failed"))
        say(f"Refused: {said}")
    return 1


def run(arguments: list[str]) -> NoReturn:
    """As a process of its own."""
    # A client that has gone closes stderr: what Python would still flush at its end has nowhere to go.
    status = main(arguments)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)
