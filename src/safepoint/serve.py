"""`safepoint serve`: everything that a fresh machine needs, in the foreground.

It runs the ssh server itself. supervisord and HAProxy it starts detached, finds them again after a restart, and starts
them anew when they die. Workers are nobody's children: it only watches them, to have a dead one's story finished.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from safepoint import launch, logs, server_settings
from safepoint.control.client import Connection, NoAnswer
from safepoint.core.app import App
from safepoint.core.failures import StepError
from safepoint.core.release import Release
from safepoint.core.slots import app_of, slot_of, slots_of, waiting_slot
from safepoint.drivers.haproxy import HAProxy
from safepoint.drivers.supervisord import Supervisord
from safepoint.engine import ports_of_apps
from safepoint.engine.environment import Identity, host_facts
from safepoint.engine.groups import names, process_group, web_port
from safepoint.errors import UserError
from safepoint.git.hook_shims import install_hooks
from safepoint.git.repositories import GitRepository
from safepoint.record import Record
from safepoint.signals import readable_on
from safepoint.ssh.server import SshServer
from safepoint.state.paths import Home, short
from safepoint.state.pidfile import Lock
from safepoint.state.store import Store

_FIRST_DELAY, _LAST_DELAY = 0.05, 60.0
"""Seconds before a dead worker is recovered, or an app is tidied: doubled each time where that does not help."""


class Options(Record):
    address: str
    ssh_port: int
    http_port: int
    keep_apps: bool


Wrong = tuple[str, Callable[[], object]]
"""What puts it right, in words and as a call."""

_DESCRIPTORS = 8192
"""A push over ssh has five: its socket, three pipes and its process. Of 256 that is more than the usual 1024."""


def serve(home: Home, options: Options, announce: Callable[[str], None]) -> None:
    """Returns after SIGTERM or SIGINT. Raises UserError where it cannot begin."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _DESCRIPTORS)), hard))
    with readable_on(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as stop, ExitStack() as stack:
        store = stack.enter_context(Store.create(home))
        home.check_private()
        lock = Lock.take(home.serve_lock)
        if lock is None:
            raise UserError(f"another `safepoint serve` uses {home.root}", "stop it, or choose another home")
        stack.callback(lock.close)
        Server(home, store, options, stack).run(stop, announce)


class Server:
    def __init__(self, home: Home, store: Store, options: Options, stack: ExitStack) -> None:
        self._home = home
        self._store = store
        self._options = options
        self._stack = stack
        self._log = logs.logger(home)
        self._runtime = Supervisord(home)
        self._router = HAProxy(home)
        self._watched: dict[int, tuple[str, Connection]] = {}
        self._due: dict[str, float] = {}
        self._delays: dict[str, float] = {}
        self._patience: dict[str, float] = {}
        self._daemons: dict[int, str] = {}

    def run(self, stop: int, announce: Callable[[str], None]) -> None:
        home, options = self._home, self._options
        install_hooks(home)
        self._store.set_host_facts(host_facts(os.environ))
        server_settings.keep(self._store, os.environ)
        ssh = SshServer(home, options.address, options.ssh_port, self._note)
        self._stack.callback(self._close)
        inbox = self._stack.enter_context(_inbox(home))
        ssh.start()
        self._store.set_setting("ssh", f"{options.address} {ssh.port}")
        self._stack.callback(ssh.close)
        if not options.keep_apps:
            self._stack.callback(self._stop_daemons)
        self._start_daemons()
        for operation in self._store.running():
            self._watch(slot_of(operation))
        self._sweep()
        listening = self._router.listening()
        http = listening[1] if listening else options.http_port
        announce(
            f"safepoint: ready; push to ssh://deploy@{options.address}:{ssh.port}/APP, see http://APP.localhost:{http}/"
        )
        self._log.info("ready", ssh=ssh.port, http=http)
        self._loop(stop, inbox)
        self._log.info("stopping", keep_apps=options.keep_apps)

    def _loop(self, stop: int, inbox: socket.socket) -> None:
        while True:
            poll = select.poll()
            for fd in (stop, inbox.fileno(), *self._watched, *self._daemons):
                poll.register(fd, select.POLLIN)
            timeout = None
            if self._due:
                timeout = max(0.0, min(self._due.values()) - time.monotonic()) * 1000 + 1
            for fd, _ in poll.poll(timeout):
                if fd == stop:
                    return
                with self._surviving():
                    if fd == inbox.fileno():
                        self._read_inbox(inbox)
                    elif fd in self._watched:
                        self._look_at(fd)
                    elif fd in self._daemons:
                        self._revive(fd)
            now = time.monotonic()
            for slot in [slot for slot, at in self._due.items() if at <= now]:
                del self._due[slot]
                with self._surviving(slot):
                    self._check(slot)

    @contextmanager
    def _surviving(self, slot: str = "") -> Iterator[None]:
        """Whatever the machine refuses, the apps go on being served; what was to be done is tried again."""
        try:
            yield
        except Exception:
            logs.defect(self._home, "serve could not do what it was to do, and tries again")
            if slot:
                self._due[slot] = time.monotonic() + self._delays.get(slot, _FIRST_DELAY)
            time.sleep(1)  # what woke it may be there still

    # Workers: a connection to each one's control socket ends when the worker does.

    def _watch(self, slot: str) -> None:
        try:
            connection = Connection.to(self._home, slot)
        except NoAnswer:
            self._due[slot] = time.monotonic() + self._delays.get(slot, _FIRST_DELAY)
            return
        self._watched[connection.fileno()] = (slot, connection)

    def _read_inbox(self, inbox: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                slot = inbox.recv(256).decode(errors="replace")
                if self._store.app(app_of(slot)) is not None:
                    self._watch(slot)

    def _look_at(self, fd: int) -> None:
        slot, connection = self._watched[fd]
        if connection.gone():
            del self._watched[fd]
            connection.close()
            # The other slot too: a worker that dies as it moves between them, or before it was started, told nobody.
            for each in slots_of(app_of(slot)):
                self._due[each] = time.monotonic() + self._delays.get(each, _FIRST_DELAY)

    def _check(self, slot: str) -> None:
        """Where the slot's worker is gone: either its operation has ended, or somebody has to finish it."""
        if any(watched == slot for watched, _ in self._watched.values()):
            return
        app = app_of(slot)
        found = self._store.waiting(app) if slot == waiting_slot(app) else self._store.unfinished(app)
        if found is None or found.ending is not None:
            self._delays.pop(slot, None)
            if not (self._clear(slot) and (slot != app or self._tidy(app))):
                self._patience[slot] = min(_LAST_DELAY, 2 * self._patience.get(slot, _FIRST_DELAY))
                self._due[slot] = time.monotonic() + self._patience[slot]
            else:
                self._patience.pop(slot, None)
            return
        self._delays[slot] = min(_LAST_DELAY, 2 * self._delays.get(slot, _FIRST_DELAY))
        try:
            recovered = launch.recover_slot(self._home, self._store, app, slot)
        except Exception:
            logs.defect(self._home, "recovery could not begin", app=app)
            self._due[slot] = time.monotonic() + self._delays[slot]
            return
        if recovered:
            self._log.warning("recovering", app=app, operation=found.id)  # its launch is in our inbox
        else:
            self._watch(slot)

    def _note(self, event: str, /, **fields: object) -> None:
        self._log.info(event, **fields)

    # supervisord and HAProxy.

    def _start_daemons(self) -> None:
        supervisord = self._runtime.ensure_running()
        haproxy = self._router.ensure_running(self._options.http_port, self._options.address)
        for fd in self._daemons:
            os.close(fd)
        self._daemons = {os.pidfd_open(supervisord): "supervisord", os.pidfd_open(haproxy): "haproxy"}
        self._restore()

    def _revive(self, fd: int) -> None:
        self._log.error("a daemon died", name=self._daemons[fd])
        try:
            self._start_daemons()
        except (UserError, StepError, OSError):
            logs.defect(self._home, "a daemon could not be started again")
            time.sleep(1)  # its pidfd stays readable: the loop comes here again

    def _restore(self) -> None:
        """Have exactly the current releases run, besides what operations under way are starting or stopping."""
        # In this order: what was loaded before we look at the journal belongs to something that the journal shows.
        loaded = self._runtime.groups()
        running = [op for op in self._store.running() if not op.queued]
        busy = {op.app: {op.plan.release, op.plan.previous_release} for op in running}
        apps = self._store.apps()
        for app in apps:
            with self._noted(app.name):
                self._mend(app.name, self._wrong_processes(app, loaded, busy.get(app.name, set())))
                self._settle(app)
        for name, number in loaded:
            if name not in {app.name for app in apps}:
                self._runtime.stop(name, number)

    def _clear(self, slot: str) -> bool:
        """Of the control socket of an opening that died before it had an operation. False where the slot is in use."""
        path = self._home.control_socket(slot)
        if not path.exists():
            return True
        lock = Lock.take(self._home.pidfile(slot))
        if lock is None:
            return False
        try:
            if launch.open_in(self._store, app_of(slot), slot) is None and path.exists():
                self._log.warning("mending", app=app_of(slot), what="removing a control socket")
                path.unlink(missing_ok=True)
            return True
        finally:
            lock.close()

    def _tidy(self, name: str) -> bool:
        """Once an operation has ended. A daemon that died under it was restored by what was current then, and the
        operation may have ended without all that it was to write: for want of space, say.

        False where it has to be tried again: there is no space yet, or somebody has the lock. That is a worker which is
        just leaving, or the next one, which will be watched.
        """
        with self._noted(name):
            if next(self._wrong(name), None) is None:  # mostly; and then the lock is left to who has something to do
                return True
            lock = Lock.take(self._home.pidfile(name))
            if lock is None:
                return False
            try:
                self._mend(name, self._wrong(name))
            finally:
                lock.close()
            return True
        return False

    def _mend(self, app: str, wrong: Iterator[Wrong]) -> None:
        """Said in the log: where no daemon has died, it is somebody's defect that there is something to mend."""
        for what, put_right in wrong:
            self._log.warning("mending", app=app, what=what)
            put_right()

    def _wrong(self, name: str) -> Iterator[Wrong]:
        app = self._store.app(name)
        # What is stuck waits for a person: whatever was in the way of its undo would hold us up as well.
        if app is not None and self._store.unfinished(name) is None:
            yield from self._wrong_processes(app, self._runtime.groups(), set())
            yield from self._wrong_routes(app)

    def _wrong_processes(self, app: App, loaded: set[tuple[str, int]], busy: set[int | None]) -> Iterator[Wrong]:
        release = self._store.current_release(app.name)
        if release is not None and (app.name, release.number) not in loaded:
            yield f"starting v{release.number}", partial(self._start, app, release)
        wanted = {release.number} if release else set()
        for name, number in loaded:
            if name == app.name and number not in wanted | busy:
                yield f"stopping v{number}", partial(self._runtime.stop, name, number)

    def _wrong_routes(self, app: App) -> Iterator[Wrong]:
        """And the wrong branch: what the world sees of an app."""
        release = self._store.current_release(app.name)
        port = web_port(release.ports) if release else None
        if self._router.route(app.name) != port:
            yield f"routing to port {port}", partial(self._router.switch, app.name, port)
        repository = GitRepository(self._home.repository(app.name))
        if release is not None and repository.branch(app.branch) != release.commit:
            yield f"moving {app.branch} to {release.commit[:8]}", partial(repository.move, app.branch, release.commit)

    @contextmanager
    def _noted(self, app: str) -> Iterator[None]:
        try:
            yield
        except (StepError, UserError, OSError) as error:
            self._log.error("could not be restored", app=app, error=str(error))

    def _start(self, app: App, release: Release) -> None:
        ports = dict(release.ports)
        # After a reboot somebody else may have one of its ports.
        taken = [name for name in names(release.processes) if not ports_of_apps.free(ports.get(name, 0))]
        if taken:
            ports |= ports_of_apps.choose(taken, self._store.ports_in_use())
            self._store.set_ports(app.name, release.number, ports)
        self._runtime.start(
            process_group(
                Identity(
                    app.name,
                    release.number,
                    release.commit,
                    self._home.release(app.name, release.number),
                    self._home.data(app.name),
                ),
                processes=release.processes,
                ports=ports,
                host=self._store.host_facts(),
                config=release.environment,
                grace=release.settings.grace,
            )
        )

    def _settle(self, app: App) -> None:
        """The route and the branch are what the store says, whatever a crash left. Not while a worker lives."""
        lock = Lock.take(self._home.pidfile(app.name))
        if lock is None:
            return
        try:
            self._mend(app.name, self._wrong_routes(app))
        finally:
            lock.close()

    def _sweep(self) -> None:
        for app in self._store.apps():
            for slot in slots_of(app.name):
                self._clear(slot)
            with suppress(StepError, UserError):
                GitRepository(self._home.repository(app.name)).sweep()

    def _stop_daemons(self) -> None:
        self._router.shutdown()
        self._runtime.shutdown()

    def _close(self) -> None:
        for _, connection in self._watched.values():
            connection.close()
        for fd in self._daemons:
            os.close(fd)


@contextmanager
def _inbox(home: Home) -> Iterator[socket.socket]:
    """Where launches name their app. A datagram each, so that nobody waits for us."""
    home.serve_socket.unlink(missing_ok=True)  # a dead server's; the lock is ours
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.setblocking(False)
        with short(home.serve_socket) as address:
            inbox.bind(address)
        home.serve_socket.chmod(0o600)
        try:
            yield inbox
        finally:
            home.serve_socket.unlink(missing_ok=True)
