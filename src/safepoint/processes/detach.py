"""Starts a process that has nothing to do with its starter any more. As a script, it is the process in between.

It is for git hooks: one descriptor of the hook that stays open in the detached process makes `git push` hang.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

TYPE_CHECKING = False  # as a script it can import nothing of ours, and `typing` takes 3 ms
if TYPE_CHECKING:
    from typing import NoReturn

_RESTORED = {signal.SIGPIPE, signal.SIGXFSZ}
"""What Popen sets to the default in the child; Python itself ignores both."""


def spawn(argv: Sequence[str], *, environment: Mapping[str, str], pass_fds: Sequence[int] = ()) -> None:
    """Start a detached process: own session, cwd /, stdio on /dev/null, default signals, no descriptor but `pass_fds`.

    Returns once it runs and is no child of ours, so that it is nobody's zombie. `GIT_*` variables are left out.
    Raises OSError where nothing could be started. That argv[0] does not exist is only seen by who waits for it; nor is
    it an error that the process is killed before it is detached, which might as well have been a moment later.
    """
    # setsid(1) takes 1 ms, this script 25 ms. A shell's `&` takes 1 ms too, but ignores SIGINT from there on;
    # os.fork is not for a process with threads, which the ssh server has.
    # Looked for by hand, as shutil imports every kind of compression.
    paths = (f"{folder}/setsid" for folder in os.get_exec_path())
    setsid = None if _has_signals_to_reset() else next((path for path in paths if os.access(path, os.X_OK)), None)
    between = (setsid, "--fork") if setsid else (sys.executable, "-I", "-S", __file__)
    ended = subprocess.run(
        (*between, *argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={name: value for name, value in environment.items() if not name.startswith("GIT_")},
        pass_fds=pass_fds,
        start_new_session=True,  # for the one in between, too: no signal to our group may catch it
        check=False,
    )
    if ended.returncode > 0:  # all that it does is to fork
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _has_signals_to_reset() -> bool:
    """A mask and ignored signals are inherited, and only the process itself can undo that."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    return bool(blocked or ignored - _RESTORED)


def _main(argv: list[str]) -> NoReturn:
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvp(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    _main(sys.argv[1:])
