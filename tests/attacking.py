"""The program of an attacker's app: tries everything that an app must not be able to do, and tells what it could.

It is pushed as it is. TARGETS, in its environment, names what it goes for, as JSON. Each attack returns something true,
or raises; what it would break is only tried so far that it is seen whether it would.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGETS: dict[str, Any] = json.loads(os.environ.get("TARGETS", "{}"))
ATTACKS: dict[str, Callable[[], object]] = {}
_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_SEIZE = 0x4206


def attack(function: Callable[[], object]) -> Callable[[], object]:
    ATTACKS[function.__name__] = function
    return function


def home(*parts: str) -> Path:
    return Path(TARGETS["home"], *parts)


def connected(name: str, kind: int = socket.SOCK_STREAM) -> object:
    directory = os.open(home("run"), os.O_PATH)  # a socket's address is short, a home's path need not be
    with socket.socket(socket.AF_UNIX, kind) as found:
        found.connect(f"/proc/self/fd/{directory}/{name}")
    return True


@attack
def read_a_release_of_another_app() -> object:
    return home("apps", TARGETS["victim"], "releases", "v1", "version").read_text()


@attack
def write_into_a_release_of_another_app() -> object:
    return home("apps", TARGETS["victim"], "releases", "v1", "planted").write_text("x")


@attack
def write_beside_its_own_release() -> object:
    return Path.cwd().with_name("planted").write_text("x")


@attack
def write_into_a_cache_of_another_app() -> object:
    return home("apps", TARGETS["victim"], "cache", "planted").write_text("x")


@attack
def read_the_data_of_another_app() -> object:
    return list(home("apps", TARGETS["victim"], "data").iterdir())


@attack
def list_the_apps() -> object:
    return TARGETS["victim"] in os.listdir(home("apps"))  # noqa: PTH208


@attack
def write_into_a_repository() -> object:
    return home("repositories", f"{TARGETS['victim']}.git", "planted").write_text("x")


@attack
def read_the_store() -> object:
    return home("safepoint.db").read_bytes()


@attack
def read_the_host_key() -> object:
    return home("host_key").read_bytes()


@attack
def read_a_spec() -> object:
    return [path.read_bytes() for path in home("run", "specs").iterdir()]


@attack
def read_the_output_of_operations() -> object:
    return [path.read_bytes() for path in home("operations").iterdir()]


@attack
def change_a_hook() -> object:
    return home("hooks", "planted").write_text("x")


@attack
def ask_supervisord() -> object:
    return connected("supervisor.sock")


@attack
def ask_haproxy() -> object:
    return connected(TARGETS["haproxy_socket"])


@attack
def ask_serve() -> object:
    return connected("serve.socket", socket.SOCK_DGRAM)


@attack
def ask_a_worker() -> object:
    """Of this very app, in a build: its own deploy's."""
    return connected(f"{os.environ['SAFEPOINT_APP']}.sock")


@attack
def see_another_apps_environment() -> object:
    return b"SECRET_OF_THE_VICTIM" in Path(f"/proc/{TARGETS['victim_pid']}/environ").read_bytes()


@attack
def see_the_servers_environment() -> object:
    return Path(f"/proc/{TARGETS['serve_pid']}/environ").read_bytes()


@attack
def see_command_lines() -> object:
    return Path(f"/proc/{TARGETS['serve_pid']}/cmdline").read_bytes()


@attack
def see_files_by_a_process() -> object:
    return os.listdir(f"/proc/{TARGETS['victim_pid']}/root/")  # noqa: PTH208


@attack
def signal_another_app() -> object:
    os.kill(TARGETS["victim_pid"], 0)
    return True


@attack
def signal_serve() -> object:
    os.kill(TARGETS["serve_pid"], 0)
    return True


@attack
def signal_supervisord() -> object:
    os.kill(TARGETS["supervisord_pid"], 0)
    return True


@attack
def signal_its_own_worker() -> object:
    """Which runs the build, and is its parent."""
    os.kill(int(os.environ["PARENT"]), 0)
    return True


@attack
def trace_another_app() -> object:
    if _LIBC.ptrace(_PTRACE_SEIZE, TARGETS["victim_pid"], None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return True


@attack
def leave_its_cgroup() -> object:
    return Path(TARGETS["cgroup"], "cgroup.procs").write_text(str(os.getpid()))


@attack
def be_root_by_a_set_user_id_program() -> object:
    return subprocess.check_output([TARGETS["set_user_id"], "-u"]) == b"0\n"


@attack
def read_a_file_of_the_servers_user() -> object:
    return Path(TARGETS["private"]).read_text()


def main() -> dict[str, str]:
    """What could be done, and of the rest why not."""
    found = {}
    for name, function in ATTACKS.items():
        try:
            found[name] = "done" if function() else "nothing came of it"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(main()))
