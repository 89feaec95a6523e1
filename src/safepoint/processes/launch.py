"""Contains one command and runs it: `python -I -S launch.py SPEC NAME [STARTER]`. The SPEC is made by `spec.py`.

Stands alone: it starts with every command and every app process, so it imports little and nothing of Safepoint.
NAME marks the process for whoever looks for what is left of a scope. STARTER is the pid that has to be the parent.

With a cgroup it becomes the command. Else it stays as the command's keeper, in two processes: the outer one has the
pid and the exit status that the starter sees; the inner one is the init of the tree. Each outlives a SIGKILL of the
other just long enough to end the tree. Both pass signals on; SIGTERM goes to every process of the tree.
"""

# contextlib, pathlib and subprocess would cost more than all the rest together:
# ruff: noqa: PTH103, PTH110, PTH123, PTH208, SIM105

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself is 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

PASSED_ON = {
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGWINCH, signal.SIGCONT, signal.SIGTTIN, signal.SIGTTOU,
}  # fmt: skip
END = signal.SIGRTMIN
"""End the tree now. The inner process gets it when the outer one dies, both get it from `marked.py`."""

STOPPING = 0.1
"""Seconds that a process has to be seen stopped before it is signalled all the same: it may be deep in the kernel."""

DYING = 0.02
"""Seconds without a death among the killed, before it is seen whether there are others."""

NOT_EXECUTABLE, NOT_FOUND, NOT_LAUNCHED = 126, 127, 125
"""Exit statuses, as of a shell and of env(1)."""

# linux/prctl.h, linux/sched.h, linux/mount.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 0x20
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> NoReturn:
    if arguments == ["--try-pidns"]:
        sys.exit(not namespaces_work())
    if arguments[0] == "--try-isolation":
        sys.exit(not isolation_works(*arguments[1:]))
    if arguments[0] == "--isolated":
        isolate(**json.loads(arguments[1]))
        os.execv(arguments[2], arguments[2:])  # noqa: S606
    path, _name, *starter = arguments
    die_with_parent(signal.SIGKILL)
    if starter and os.getppid() != int(starter[0]):
        sys.exit(NOT_LAUNCHED)  # it died before we asked to be told
    try:
        with open(path, "rb") as file:
            spec = json.load(file)
        clean()
        kind = enter(spec)
        if kind == "cgroup":
            execute(spec, kind)
        keep(spec, kind)
    except OSError as error:
        fail(NOT_LAUNCHED, f"cannot contain the command: {error}")


def clean() -> None:
    """Nothing of the starter's reaches the command: descriptors, stdin, umask, signal mask and dispositions."""
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor > 2:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the one that listed them
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.umask(0o022)
    reset_signals()


def reset_signals() -> None:
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def enter(spec: dict[str, Any]) -> str:
    """The kind that is in force; a weaker one than asked for where the starter may not enter that cgroup.

    It happens: supervisord may live in another part of the hierarchy than the one who wrote the spec.
    """
    kind = str(spec["kind"])
    if kind == "cgroup":
        try:
            enter_cgroup(spec["cgroup"])
            return kind
        except OSError:
            kind = "pidns" if namespaces_work() else "subreaper"
    if kind == "pidns":
        unshare()
    else:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
    return kind


def execute(spec: dict[str, Any], kind: str) -> NoReturn:
    try:
        os.setsid()
    except PermissionError:
        pass  # it leads a process group already, as supervisord's children do
    reset_signals()
    isolation = spec.get("isolation")  # a spec of an older version has none
    limit(spec.get("limits", {}), spec["cgroup"] if kind == "cgroup" else None, isolation)
    try:
        if isolation is not None:
            isolate(**isolation)
        elif kind == "pidns":
            see([], None)  # its own pids in /proc
    except OSError as error:
        if isolation is not None:
            fail(NOT_LAUNCHED, f"cannot isolate the command: {error}")
    try:
        os.chdir(spec["directory"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["environment"])  # noqa: S606 - the point of this file
    except (FileNotFoundError, NotADirectoryError) as error:
        fail(NOT_FOUND, f"cannot run {spec['argv'][0]!r} in {spec['directory']!r}: {error.strerror}")
    except (OSError, ValueError) as error:
        fail(NOT_EXECUTABLE, f"cannot run {spec['argv'][0]!r}: {error}")


def fail(status: int, message: str) -> NoReturn:
    os.write(2, f"safepoint: {message}\n".encode(errors="backslashreplace"))
    os._exit(status)


# --- cgroup


def enter_cgroup(path: str) -> None:
    """Raises OSError. What an earlier command left in it dies first: it may hold the port."""
    make_directories(path)
    if populated(path):
        write(f"{path}/cgroup.kill", "1")
        events = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        deadline = time.monotonic() + 30
        while populated(path) and time.monotonic() < deadline:
            os.pread(events, 1, 0)
            poll.poll(100)
        os.close(events)
    write(f"{path}/cgroup.procs", "0")


def make_directories(path: str) -> None:
    for _ in range(100):
        try:
            return os.makedirs(path, exist_ok=True)
        except FileNotFoundError:
            pass  # another scope ended just now, and took the empty parent with it
    raise FileNotFoundError(path)


def populated(path: str) -> bool:
    with open(f"{path}/cgroup.events", "rb") as file:
        return b"populated 1" in file.read()


def write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


# --- PID namespace and subreaper


def unshare() -> None:
    """From the next fork on, children are in a new PID namespace. Raises OSError."""
    if os.geteuid() == 0 and _libc.unshare(_CLONE_NEWPID) == 0:
        return
    user, group = os.geteuid(), os.getegid()
    check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWPID))
    write("/proc/self/setgroups", "deny")  # or gid_map cannot be written (user_namespaces(7))
    write("/proc/self/uid_map", f"{user} {user} 1")
    write("/proc/self/gid_map", f"{group} {group} 1")


def namespaces_work() -> bool:
    """Tried in a child: a half-made user namespace cannot be left again."""
    trial = os.fork()
    if trial == 0:
        try:
            unshare()
            first = os.fork()
            os._exit(os.getpid() != 1 if first == 0 else os.waitpid(first, 0)[1] != 0)
        except OSError:
            os._exit(1)
    return os.waitpid(trial, 0)[1] == 0


def keep(spec: dict[str, Any], kind: str) -> NoReturn:
    """The outer process: passes signals to the init, and ends as the command ended."""
    signal.pthread_sigmask(signal.SIG_SETMASK, {*PASSED_ON, signal.SIGCHLD, END})
    reader, writer = os.pipe()
    inner = os.fork()
    if inner == 0:
        os.close(reader)
        init(spec, kind, writer)
    os.close(writer)
    while True:
        received = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD, END}).si_signo
        if received != signal.SIGCHLD:
            os.kill(inner, received)  # not reaped yet, so the number is still its own
        elif os.waitpid(inner, os.WNOHANG)[0] == inner:
            break
    if kind == "subreaper":
        kill_descendants()  # nothing is left, unless somebody killed the init
    told = os.read(reader, 16)
    end_as(int(told) if told else signal.SIGKILL)


def end_as(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        prctl(_PR_SET_DUMPABLE, 0)  # the core, if any, is the command's, not ours
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def init(spec: dict[str, Any], kind: str, writer: int) -> NoReturn:
    """The inner process: starts the command, reaps, and lets nothing of the tree live longer than itself."""
    try:
        os.setsid()
        if kind == "pidns":
            die_with_parent(signal.SIGKILL)  # and the kernel ends the namespace
        else:
            die_with_parent(END)
            prctl(_PR_SET_CHILD_SUBREAPER, 1)
        if hung_up(writer):
            os._exit(NOT_LAUNCHED)
        command = os.fork()
        if command == 0:
            die_with_parent(signal.SIGKILL)
            execute(spec, kind)
        status = mind(command, kind)
        if kind == "subreaper":
            kill_descendants()
        os.write(writer, b"%d" % status)
        os._exit(0)
    except OSError as error:
        fail(NOT_LAUNCHED, f"cannot keep the command: {error}")


def hung_up(writer: int) -> bool:
    """Whether the outer process died before it could be noticed: nobody reads the pipe."""
    poll = select.poll()
    poll.register(writer, 0)
    return bool(poll.poll(0))


def mind(command: int, kind: str) -> int:
    """The wait status of the command. After a SIGTERM, what still cleans up gets the time that our starter gives."""
    status: int | None = None
    terminating = False
    while True:
        received = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD, END}).si_signo
        if received == signal.SIGCHLD:
            some_left = True
            for pid, ended_as in reaped():
                some_left = pid != 0
                status = ended_as if pid == command else status
            if status is not None and not (terminating and some_left):
                return status
        elif received == END:
            return signal.SIGKILL
        elif received == signal.SIGTERM:
            terminating = True
            terminate(kind)
        elif status is None:
            os.kill(command, received)


def reaped() -> Any:
    """(pid, wait status) of each child that ended; (0, 0) at last where no child is left at all."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            yield 0, 0
            return
        if pid == 0:
            return
        yield pid, status


def terminate(kind: str) -> None:
    """At one moment: what is forked meanwhile would be missed, and of `a && b` a could be dead and b begun."""
    if kind == "pidns":
        send(-1, signal.SIGTERM)  # everything else in our PID namespace; outside one it would be all of the user's
        return
    stopped = stop_descendants()
    for number in (signal.SIGTERM, signal.SIGCONT):
        for pid in stopped:
            send(pid, number)


def kill_descendants() -> None:
    """Returns when no child is left.

    Nearly no tree forks just then, so what is there is stopped and killed at once. Where something is left, it is seen
    standing before it is killed: a fork bomb cannot outrun that.
    """
    dying = descendants()
    for pid in dying:
        send(pid, signal.SIGSTOP)  # or a shell could begin its next command when the one before is dead
    while True:
        for pid in dying:
            send(pid, signal.SIGKILL)
        if none_left(dying):
            return
        dying = stop_descendants()


def none_left(dying: set[int]) -> bool:
    """Wait for the killed ones while they die one after the other; whether no child is left at all.

    To look at them again meanwhile would only keep them from it. But one that resists, or whose parent has it reaped by
    the kernel, does not keep us from looking for others, nor does a tree that goes on making new ones.
    """
    deadline = time.monotonic() + 10 * DYING
    while True:
        for pid, _ in reaped():
            if pid == 0:
                return True
            dying.discard(pid)
        if not dying or time.monotonic() > deadline or not signal.sigtimedwait({signal.SIGCHLD}, DYING):
            return False


def stop_descendants() -> set[int]:
    """All of them, standing still: nothing forks any more, and a fork bomb cannot outrun us."""
    stopped: set[int] = set()
    while fresh := descendants() - stopped:
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped |= fresh
        # A fork that has begun goes on to its end, since Linux 4.19: its child is only seen once the parent stands.
        deadline = time.monotonic() + STOPPING
        while any(map(moving, fresh)) and time.monotonic() < deadline:
            time.sleep(0.001)
    return stopped


def moving(pid: int) -> bool:
    try:
        return contents(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] not in b"TtZX"
    except OSError:
        return False


def descendants() -> set[int]:
    children = listed_children if os.path.exists(f"/proc/self/task/{os.getpid()}/children") else scanned_children()
    found: set[int] = set()
    todo = children(os.getpid())
    while todo:
        child = todo.pop()
        if child not in found:
            found.add(child)
            todo += children(child)
    return found


def listed_children(pid: int) -> list[int]:
    """The kernel's own list: a process that forks and exits all the time is only caught by being quick."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, contents(f"/proc/{pid}/task/{task}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # it is dead, and its children are our own by now
    return found


def scanned_children() -> Callable[[int], list[int]]:
    """The same for a kernel without CONFIG_PROC_CHILDREN, by every process's parent."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(contents(f"/proc/{name}/stat").rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    return lambda pid: children.get(pid, [])


def contents(path: str) -> bytes:
    """As in `identity.py`: a whole tree is read, twice, and open() costs more than what is read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while part := os.read(descriptor, 1 << 16):
            found += part
        return found
    finally:
        os.close(descriptor)


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # dead, or a set-user-ID program: it dies with its parents' pipes, not by us


# --- limits


def limit(limits: dict[str, float], cgroup: str | None, isolation: dict[str, Any] | None) -> None:
    """By the cgroup, for the whole tree; where that cannot be, by what each process has for itself."""
    left = {name: value for name, value in limits.items() if cgroup is None or not limit_cgroup(cgroup, name, value)}
    if not left:
        return
    import resource

    if "memory" in left:
        lower(resource.RLIMIT_DATA, int(left["memory"]))
    # It counts what the user runs: that is the app, if the user is.
    if "processes" in left and isolation is not None and isolation["user"] is not None:
        lower(resource.RLIMIT_NPROC, int(left["processes"]))


def limit_cgroup(cgroup: str, name: str, value: float) -> bool:
    """Whether it could be. The controller has to be passed on by each cgroup above (cgroups(7))."""
    controller, file, text = {
        "memory": ("memory", "memory.max", str(int(value))),
        "processes": ("pids", "pids.max", str(int(value))),
        "cpu": ("cpu", "cpu.max", f"{max(1000, int(value * 100000))} 100000"),
    }[name]
    for above in (cgroup.rsplit("/", 2)[0], cgroup.rsplit("/", 1)[0]):
        try:
            write(f"{above}/cgroup.subtree_control", f"+{controller}")
        except OSError:
            pass  # it may be passed on already by somebody who does not let us do it
    try:
        write(f"{cgroup}/{file}", text)
    except OSError:
        return False
    return True


def lower(what: int, value: int) -> None:
    import resource

    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


# --- isolation


def isolate(user: int | None, mounts: list[tuple[str, str | None]]) -> None:
    """See nothing but what one may, and become the app's user; None stays who we are. Raises OSError."""
    starter = os.getppid()
    see(mounts, user)
    if user is not None:
        for output in (1, 2):
            if os.fstat(output).st_mode & 0o170000 == 0o010000:
                os.fchown(output, user, user)  # a pipe is opened again by those who write to /dev/stdout
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        # The wish ended with the old user (prctl(2)), and what it was made for may have come to pass just now.
        die_with_parent(signal.SIGKILL)
        if os.getppid() != starter:
            os._exit(NOT_LAUNCHED)
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def see(mounts: list[tuple[str, str | None]], user: int | None) -> None:
    """A mount namespace of our own, which ends with its processes. `mounts` are those of `isolation.mounts`."""
    check(_libc.unshare(_CLONE_NEWNS))
    mount("none", "/", None, _MS_REC | _MS_SLAVE)  # what is mounted on the machine later is seen here too
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    # Opened first: by name they will be hidden.
    sources = {source: os.open(source, flags) for _, source in mounts if source is not None}
    for place, source in mounts:
        if source is None:
            mount("none", place, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
        else:
            os.makedirs(place, exist_ok=True)
            os.fchdir(sources[source])
            mount(".", place, None, _MS_BIND | _MS_REC)
    for place, source in reversed(mounts):
        if source is None:
            mount("none", place, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    for descriptor in sources.values():
        os.close(descriptor)
    os.chdir("/")
    # Other users' processes cannot be seen (Linux 5.8), and in a PID namespace those outside. Where neither is
    # allowed, their command lines stay visible.
    for options in ("hidepid=invisible", "") if user is not None else ("",):
        try:
            mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)
        except OSError:
            continue
        break


def isolation_works(home: str, user: str) -> bool:
    """Tried in children, as above."""
    trial = os.fork()
    if trial == 0:
        try:
            if not user:
                unshare()
            command = os.fork()
            if command == 0:
                isolate(int(user) if user else None, [(home, None), (f"{home}/self", home)])
                os._exit(0)
            os._exit(os.waitpid(command, 0)[1] != 0)
        except OSError:
            os._exit(1)
    return os.waitpid(trial, 0)[1] == 0


# --- system calls


def die_with_parent(number: int) -> None:
    prctl(_PR_SET_PDEATHSIG, number)


def mount(source: str, place: str, kind: str | None, flags: int, options: str = "") -> None:
    names = (os.fsencode(each) if each else None for each in (source, place, kind))
    check(_libc.mount(*names, flags, options.encode()))


def prctl(option: int, value: int) -> None:
    check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
