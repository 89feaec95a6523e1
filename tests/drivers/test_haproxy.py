"""HAProxy as the router: real ones, in homes of their own, with real apps behind them."""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from safepoint.core.failures import StepError
from safepoint.drivers.haproxy import HAProxy
from safepoint.drivers.haproxy_daemon import find
from safepoint.errors import UserError
from safepoint.state.paths import Home

WAIT = 120.0
"""Seconds; only a defect takes that long."""


class App:
    """Answers every request with its name, `/echo` with the request's head, `/slow` when it is released."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.entered, self.release = threading.Event(), threading.Event()
        self.served = 0
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._workers: set[threading.Thread] = set()
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def wait_for_requests(self, more: int) -> None:
        with self._changed:
            wanted = self.served + more
            assert self._changed.wait_for(lambda: self.served >= wanted, WAIT)

    def close(self) -> None:
        self.release.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for worker in list(self._workers):
            worker.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            worker = threading.Thread(target=self._serve, args=(connection,))
            self._workers.add(worker)
            worker.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head = _read_head(connection)
            if head:
                self._answer(connection, head)
                with self._changed:
                    self.served += 1
                    self._changed.notify_all()
        self._workers.discard(threading.current_thread())

    def _answer(self, connection: socket.socket, head: bytes) -> None:
        path = head.split()[1]
        if path == b"/tunnel":
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            while chunk := connection.recv(4096):
                connection.sendall(chunk)
            return
        if path == b"/slow":
            self.entered.set()
            assert self.release.wait(WAIT)
        body = head if path == b"/echo" else self.name
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        chunk = connection.recv(4096)
        if not chunk:
            return b""
        head += chunk
    return head


class EventLatch:
    def __init__(self) -> None:
        self._descriptor = os.eventfd(0)

    def set(self) -> None:
        os.eventfd_write(self._descriptor, 1)

    def is_set(self) -> bool:
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture(autouse=True)
def no_leaked_descriptors() -> Iterator[None]:
    """A switch is made by a worker that must leave nothing open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def app(stack: ExitStack) -> Callable[[str], App]:
    """Starts an app."""

    def start(name: str) -> App:
        started = App(name)
        stack.callback(started.close)
        return started

    return start


@contextmanager
def _router(root: Path, patience: float = 0.0) -> Iterator[HAProxy]:
    home = Home(root)
    home.create()
    router = HAProxy(home, patience)
    try:
        yield router
    finally:
        router.shutdown(grace=0.2)
        assert router.listening() is None


@pytest.fixture
def router(tmp_path: Path) -> Iterator[HAProxy]:
    """One whose HAProxy does not run yet."""
    with _router(tmp_path / "home") as router:
        yield router


@pytest.fixture
def running(router: HAProxy) -> HAProxy:
    router.ensure_running(0)
    return router


def _port(router: HAProxy) -> int:
    where = router.listening()
    assert where is not None
    return where[1]


def get(router: HAProxy, host: str, path: str = "/", headers: dict[str, str] | None = None) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", _port(router), timeout=WAIT)) as client:
        client.request("GET", path, headers={"Host": host} | (headers or {}))
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def _kill(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], WAIT)[0]
    finally:
        os.close(descriptor)


# Routes


def test_requests_go_to_the_app_that_their_host_names(running: HAProxy, app: Callable[[str], App]) -> None:
    """The first label counts, in any case, with or without a domain and a port."""
    running.switch("blog", app("blog v1").port)
    running.switch("shop", app("shop v1").port)
    for host in ("blog", "blog.localhost", "BLOG.Example.ORG", "blog.localhost:8080"):
        assert get(running, host) == (200, "blog v1")
    assert get(running, "shop.localhost") == (200, "shop v1")


@pytest.mark.parametrize("host", ["", "nobody.localhost", "blo.localhost", "www.blog.localhost", "[::1]:80", "*", "."])
def test_a_name_that_nobody_has_is_answered_404(running: HAProxy, app: Callable[[str], App], host: str) -> None:
    """With one plain line, and never by another app."""
    running.switch("blog", app("blog v1").port)
    assert get(running, host) == (404, "safepoint | no app answers to this name\n")


def test_one_client_connection_may_ask_for_many_apps(running: HAProxy, app: Callable[[str], App]) -> None:
    """The route is looked up for every request, not for every connection."""
    running.switch("blog", app("blog v1").port)
    running.switch("shop", app("shop v1").port)
    with closing(http.client.HTTPConnection("127.0.0.1", _port(running), timeout=WAIT)) as client:
        for name in ("blog", "shop", "nobody", "blog"):
            client.request("GET", "/", headers={"Host": name})
            answer = client.getresponse()
            expected = b"safepoint | no app answers to this name\n" if name == "nobody" else f"{name} v1".encode()
            assert answer.read() == expected


def test_an_app_that_is_down_is_answered_503(running: HAProxy) -> None:
    """A port on which nobody listens gives a plain page, not a hanging client."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen: nobody else can
        running.switch("blog", bound.getsockname()[1])
        assert get(running, "blog") == (503, "safepoint | the app is down\n")


def test_the_app_is_told_who_asks(running: HAProxy, app: Callable[[str], App]) -> None:
    """X-Forwarded-For and -Proto are set; what a TLS proxy on this machine says is kept."""
    running.switch("blog", app("blog").port)
    head = get(running, "blog.localhost", "/echo")[1].lower()
    assert "x-forwarded-for: 127.0.0.1\r\n" in head
    assert "x-forwarded-proto: http\r\n" in head
    assert "host: blog.localhost\r\n" in head
    behind = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    head = get(running, "blog.localhost", "/echo", behind)[1].lower()
    assert "x-forwarded-for: 192.0.2.7\r\n" in head
    assert re.findall("x-forwarded-proto: (.*)\r", head) == ["https"]


def test_a_switch_is_idempotent(running: HAProxy, app: Callable[[str], App]) -> None:
    """Twice is as good as once, for a route and for none."""
    first, second = app("v1"), app("v2")
    for port, expected in ((first.port, "v1"), (second.port, "v2"), (first.port, "v1")):
        running.switch("blog", port)
        running.switch("blog", port)
        assert get(running, "blog") == (200, expected)
        assert running.route("blog") == port
    running.switch("blog", None)
    running.switch("blog", None)
    assert get(running, "blog")[0] == 404
    assert running.routes() == {}


@pytest.mark.parametrize(
    ("app", "port"), [("a b", 1), ("a;shutdown", 1), ("a\n", 1), ("", 1), ("A", 1), ("a.b", 1), ("a", 0), ("a", 65536)]
)
def test_nothing_else_gets_into_a_command(running: HAProxy, app: str, port: int) -> None:
    """Names that the router could misread are a defect of the caller and are sent nowhere."""
    with pytest.raises(ValueError, match="not an app and a port"):
        running.switch(app, port)
    assert running.routes() == {}


def test_a_new_app_needs_no_other_haproxy(running: HAProxy, app: Callable[[str], App]) -> None:
    """The process stays the same, and nothing is reloaded."""
    pid = running.ensure_running(0)
    running.switch("new", app("v1").port)
    assert get(running, "new") == (200, "v1")
    assert running.ensure_running(0) == pid


def test_apps_are_switched_at_the_same_time(running: HAProxy, app: Callable[[str], App]) -> None:
    """Workers of different apps lose none of each other's changes, in HAProxy or in the file."""
    apps = {name: app(name) for name in ("a", "b", "c", "d")}

    def work(name: str) -> None:
        for _ in range(10):
            running.switch(name, 1)
            running.switch(name, None)
            running.switch(name, apps[name].port)

    threads = [threading.Thread(target=work, args=(name,)) for name in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert running.routes() == {name: each.port for name, each in apps.items()}
    assert [get(running, name) for name in apps] == [(200, name) for name in apps]


# Without HAProxy


def test_a_switch_without_haproxy_fails_and_changes_nothing(router: HAProxy) -> None:
    """Its undo then succeeds: the route is still the old one."""
    router.ensure_running(0, routes={"blog": 20001})
    router.shutdown()
    with pytest.raises(StepError, match="the router does not run; `safepoint serve` starts it"):
        router.switch("blog", 20002)
    assert router.routes() == {"blog": 20001}
    router.switch("blog", 20001)
    router.switch("blog", None)
    assert router.routes() == {}


def test_a_switch_waits_for_an_haproxy_that_is_being_started(router: HAProxy, app: Callable[[str], App]) -> None:
    """A router that was killed and comes back within moments fails no deploy."""
    target, patient = app("v1"), HAProxy(router.home, patience=WAIT)
    switch = threading.Thread(target=patient.switch, args=("blog", target.port))
    switch.start()
    router.ensure_running(0)
    switch.join()
    assert get(router, "blog") == (200, "v1")


def test_a_wedged_haproxy_fails_the_switch_and_can_be_ended(router: HAProxy) -> None:
    """One that is stopped by a signal takes connections and never answers."""
    pid = router.ensure_running(0, routes={"blog": 20001})
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(StepError, match="the router does not answer"):
        router.switch("blog", 20002)
    assert router.routes() == {"blog": 20001}
    router.shutdown(grace=0.1)
    assert router.listening() is None


# Under load


@contextmanager
def _load(router: HAProxy, host: str) -> Iterator[list[str]]:
    """wrk until the block ends. Its report is in the list afterwards."""
    command = ["wrk", "-t1", "-c16", f"-d{WAIT:.0f}s", "-H", f"Host: {host}", f"http://127.0.0.1:{_port(router)}/"]
    report: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        try:
            yield report
        finally:
            wrk.send_signal(signal.SIGINT)  # wrk: stop and report
            report.append(wrk.communicate()[0])


def _assert_nothing_lost(report: str) -> None:
    requests = re.search(r"(\d+) requests in", report)
    assert requests, report
    assert int(requests[1]) > 0, report
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report


def test_switching_under_load_loses_no_request(running: HAProxy, app: Callable[[str], App]) -> None:
    """Twenty switches to and fro, each seen to take effect."""
    apps = app("v1"), app("v2")
    running.switch("blog", apps[0].port)
    with _load(running, "blog.localhost") as report:
        apps[0].wait_for_requests(16)
        for number in range(1, 21):
            target = apps[number % 2]
            running.switch("blog", target.port)
            target.wait_for_requests(16)
    _assert_nothing_lost(report[0])


def test_releases_come_and_go_under_load(running: HAProxy) -> None:
    """An old release that is stopped when it is drained had nothing left to do."""
    current = App("v0")
    try:
        running.switch("blog", current.port)
        with _load(running, "blog.localhost") as report:
            for number in range(1, 11):
                current.wait_for_requests(16)
                old, current = current, App(f"v{number}")
                running.switch("blog", current.port)
                assert running.drain(old.port, WAIT)
                old.close()
        _assert_nothing_lost(report[0])
    finally:
        current.close()


# Draining


def _ask_slowly(router: HAProxy, answers: list[tuple[int, str]]) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.append(get(router, "blog", "/slow")))
    thread.start()
    return thread


def test_draining_waits_for_a_request_that_runs(running: HAProxy, app: Callable[[str], App]) -> None:
    """And ends when it has been answered, though its route is gone."""
    old, new = app("v1"), app("v2")
    running.switch("blog", old.port)
    answers: list[tuple[int, str]] = []
    client = _ask_slowly(running, answers)
    assert old.entered.wait(WAIT)
    running.switch("blog", new.port)
    assert not running.drain(old.port, 0.0)
    assert not running.drain(old.port, 0.2)
    old.release.set()
    assert running.drain(old.port, WAIT)
    client.join()
    assert answers == [(200, "v1")]


def test_a_latch_ends_the_draining(running: HAProxy, app: Callable[[str], App]) -> None:
    """At once where it is set already, and in the middle of the wait."""
    old = app("v1")
    running.switch("blog", old.port)
    client = _ask_slowly(running, [])
    assert old.entered.wait(WAIT)
    with closing(EventLatch()) as latch:
        drained: list[bool] = []
        drain = threading.Thread(target=lambda: drained.append(running.drain(old.port, WAIT * 10, latch)))
        drain.start()
        latch.set()
        drain.join()
        assert drained == [False]
        assert running.drain(old.port, WAIT * 10, latch) is False
    old.release.set()
    client.join()


def test_a_client_that_stays_connected_holds_no_draining(running: HAProxy, app: Callable[[str], App]) -> None:
    """Keep-alive is between the client and HAProxy alone."""
    old = app("v1")
    running.switch("blog", old.port)
    with closing(http.client.HTTPConnection("127.0.0.1", _port(running), timeout=WAIT)) as client:
        client.request("GET", "/", headers={"Host": "blog"})
        assert client.getresponse().read() == b"v1"
        assert running.drain(old.port, WAIT)
        running.switch("blog", app("v2").port)
        client.request("GET", "/", headers={"Host": "blog"})
        assert client.getresponse().read() == b"v2"


def test_a_tunnel_works_and_holds_the_draining(running: HAProxy, app: Callable[[str], App]) -> None:
    """What a WebSocket needs: bytes both ways after a 101."""
    old = app("v1")
    running.switch("blog", old.port)
    with socket.create_connection(("127.0.0.1", _port(running)), timeout=WAIT) as client:
        client.sendall(b"GET /tunnel HTTP/1.1\r\nHost: blog\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert _read_head(client).startswith(b"HTTP/1.1 101 ")
        for text in (b"one", b"two"):
            client.sendall(text)
            assert client.recv(10) == text
        assert not running.drain(old.port, 0.1)
    assert running.drain(old.port, WAIT)


def test_a_port_without_connections_is_drained(running: HAProxy, app: Callable[[str], App]) -> None:
    """Also with no time at all."""
    assert running.drain(app("v1").port, WAIT)
    assert running.drain(app("v1").port, 0.0)


# HAProxy's life


def test_a_second_start_finds_the_first(router: HAProxy) -> None:
    """The same process, port and address, as long as no others are asked for."""
    pid = router.ensure_running(0)
    where = router.listening()
    assert where is not None
    assert where[0] == "127.0.0.1"
    assert router.ensure_running(0) == pid
    assert router.ensure_running(where[1]) == pid
    assert router.listening() == where


def test_starts_at_the_same_time_make_one_haproxy(router: HAProxy) -> None:
    """From threads of one process; it is nobody's child."""
    pids: list[int] = []
    threads = [threading.Thread(target=lambda: pids.append(router.ensure_running(0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1
    assert os.getsid(pids[0]) != os.getsid(0)
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[0], os.WNOHANG)


def test_haproxy_survives_its_caller_and_holds_none_of_its_pipes(router: HAProxy, app: Callable[[str], App]) -> None:
    """`run` would not return while somebody holds the other end of the output."""
    code = (
        "import os, sys, pathlib\n"
        "from safepoint.drivers.haproxy import HAProxy\n"
        "from safepoint.state.paths import Home\n"
        "print(HAProxy(Home(pathlib.Path(sys.argv[1]))).ensure_running(0), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(router.home.root)], capture_output=True, text=True, timeout=WAIT
    )
    assert done.returncode == -signal.SIGKILL
    router.switch("blog", app("v1").port)
    assert get(router, "blog") == (200, "v1")
    assert router.ensure_running(0) == int(done.stdout)


def test_a_killed_haproxy_comes_back_with_its_routes(running: HAProxy, app: Callable[[str], App]) -> None:
    """On the same port, though any was asked for."""
    running.switch("blog", app("v1").port)
    running.switch("gone", 1)
    running.switch("gone", None)
    before, where = running.ensure_running(0), running.listening()
    assert get(running, "blog", headers={"Connection": "close"}) == (200, "v1")  # one connection is in TIME_WAIT now
    _kill(before)
    assert running.listening() is None
    assert running.ensure_running(0) != before
    assert running.listening() == where
    assert get(running, "blog") == (200, "v1")
    assert get(running, "gone")[0] == 404


def test_routes_can_be_given_to_a_start(router: HAProxy, app: Callable[[str], App]) -> None:
    """They replace what there was, in a new HAProxy and in one that runs."""
    blog, shop = app("blog"), app("shop")
    pid = router.ensure_running(0, routes={"blog": blog.port, "old": 1})
    assert get(router, "blog") == (200, "blog")
    assert router.ensure_running(0, routes={"shop": shop.port, "blog": blog.port}) == pid
    assert [get(router, name)[0] for name in ("blog", "shop", "old")] == [200, 200, 404]
    assert router.routes() == {"blog": blog.port, "shop": shop.port}


def test_a_start_repairs_what_a_dead_worker_left(running: HAProxy, app: Callable[[str], App]) -> None:
    """A worker killed between HAProxy and the file: the file is the truth."""
    running.switch("blog", app("v1").port)
    file = running.home.run / "routes.map"
    kept = file.read_text()
    running.switch("blog", 1)
    file.write_text(kept)
    running.ensure_running(0)
    assert get(running, "blog") == (200, "v1")


def test_another_port_ends_the_haproxy_on_the_old_one(running: HAProxy, app: Callable[[str], App]) -> None:
    """One home has one HAProxy."""
    running.switch("blog", app("v1").port)
    old_pid, old_port = running.ensure_running(0), _port(running)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert running.ensure_running(port) != old_pid
    assert running.listening() == ("127.0.0.1", port)
    assert get(running, "blog") == (200, "v1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old_port))


def test_another_version_of_safepoint_starts_its_own_haproxy(running: HAProxy) -> None:
    """Its configuration may be another."""
    pid, where = running.ensure_running(0), running.listening()
    (running.home.run / "haproxy.cfg").write_text("# of another version\n")
    assert running.ensure_running(0) != pid
    assert running.listening() == where


def test_a_taken_port_is_one_clear_sentence(router: HAProxy) -> None:
    """And an HAProxy that runs on another port goes on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError) as caught:
            router.ensure_running(port)
        assert caught.value.message == f"port {port} on 127.0.0.1 is taken by another program"
        assert caught.value.hint == "stop that program or choose another port"
        pid, where = router.ensure_running(0), router.listening()
        with pytest.raises(UserError, match="is taken by another program"):
            router.ensure_running(port)
        assert router.ensure_running(0) == pid
        assert router.listening() == where


@pytest.mark.parametrize(("port", "address"), [(70000, "127.0.0.1"), (0, "192.0.2.1"), (0, "no address"), (0, "::g")])
def test_a_wrong_address_is_one_clear_sentence(router: HAProxy, port: int, address: str) -> None:
    """Whatever the operating system thinks of it."""
    with pytest.raises(UserError, match=f"^cannot listen on port {port} of {address}: "):
        router.ensure_running(port, address)


def test_a_start_that_fails_says_why(router: HAProxy) -> None:
    """In HAProxy's own words."""
    (router.home.run / "haproxy.socket").mkdir()
    with pytest.raises(UserError, match=r"^HAProxy did not start: .*haproxy\.socket") as caught:
        router.ensure_running(0)
    assert caught.value.hint == f"HAProxy's log is {router.home.root / 'haproxy.log'}"
    (router.home.run / "haproxy.socket").rmdir()


def test_a_home_with_a_long_name_works(tmp_path: Path, app: Callable[[str], App]) -> None:
    """The socket's path does not fit a Unix socket address."""
    with _router(tmp_path / ("long" * 30) / ("name " * 10) / "h\"o'm$e") as router:
        router.ensure_running(0)
        router.switch("blog", app("v1").port)
        assert get(router, "blog") == (200, "v1")


def test_two_homes_do_not_meet(tmp_path: Path, app: Callable[[str], App]) -> None:
    """The same app name in each; the end of one is not the end of the other."""
    with _router(tmp_path / "one") as one, _router(tmp_path / "two") as two:
        for router, name in ((one, "one"), (two, "two")):
            router.ensure_running(0)
            router.switch("blog", app(name).port)
        assert get(one, "blog") == (200, "one")
        one.shutdown()
        assert get(two, "blog") == (200, "two")


def test_shutting_down_lets_a_request_end(running: HAProxy, app: Callable[[str], App]) -> None:
    """No new ones are taken meanwhile; a second shutdown finds nothing to do."""
    target = app("v1")
    running.switch("blog", target.port)
    answers: list[tuple[int, str]] = []
    client = _ask_slowly(running, answers)
    assert target.entered.wait(WAIT)
    end = threading.Thread(target=running.shutdown, args=(WAIT,))
    end.start()
    while running.listening():  # until the soft stop has begun
        pass
    target.release.set()
    client.join()
    end.join()
    assert answers == [(200, "v1")]
    running.shutdown()


def test_stale_files_harm_nobody(running: HAProxy, app: Callable[[str], App]) -> None:
    """A pid that belongs to a stranger by now is not signalled, by a start or by a shutdown."""
    running.switch("blog", app("v1").port)
    _kill(running.ensure_running(0))
    assert (running.home.run / "haproxy.socket").is_socket()
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            (running.home.run / "haproxy.lock").write_text(f"{stranger.pid}\n")
            running.shutdown()
            assert running.ensure_running(0) != stranger.pid
            assert get(running, "blog") == (200, "v1")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_stranger_that_holds_the_lock_is_not_signalled(router: HAProxy) -> None:
    """A start says so; nothing is guessed from a number alone."""
    file = router.home.run / "haproxy.lock"
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stranger = subprocess.Popen(["sleep", "1000"], pass_fds=(lock.fileno(),))
    with stranger:
        try:
            file.write_text(f"{stranger.pid}\n")
            with pytest.raises(UserError, match=r"something holds .*, and it is not HAProxy"):
                router.ensure_running(0)
            router.shutdown()
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_home_that_was_emptied_starts_anew(running: HAProxy, app: Callable[[str], App]) -> None:
    """As after a reboot, when the routes come from the releases."""
    running.shutdown()
    for file in running.home.run.iterdir():
        file.unlink()
    running.home.run.rmdir()
    running.shutdown()
    running.ensure_running(0, routes={"blog": app("v1").port})
    assert get(running, "blog") == (200, "v1")


# Which HAProxy


def test_an_old_haproxy_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2.4 is the least; the wheel's is there for everybody else."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fake = tmp_path / "haproxy"
    for said, taken in (
        ("HA-Proxy version 1.8.27-493ce0b 2020/11/06", False),
        ("HAProxy version 2.2.9-2 2021/02/16 - https://haproxy.org/", False),
        ("HAProxy version 2.4.0-6cbbecf 2021/05/14 - https://haproxy.org/", True),
        ("HAProxy version 10.0.1 2031/01/01", True),
        ("nonsense", False),
    ):
        fake.write_text(f"#!/bin/sh\necho '{said}'\n")
        fake.chmod(0o755)
        assert (find() == fake) is taken
