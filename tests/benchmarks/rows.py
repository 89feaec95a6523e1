"""The rows: what is measured, against what, and where we want to be. README.md's table has the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MS, MIB, SECONDS, LOST = "ms", "MiB", "s", "lost"


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    """Its number, and after a dot the variant where there are several."""
    short: str
    """For the plot."""
    what: str
    against: str
    goal: float
    """The ratio to what it is measured against is to be no more than this. Of a LOST row: the count itself."""
    unit: str = MS

    @property
    def number(self) -> int:
        return int(self.key.partition(".")[0])


_CGROUP_KILL = "`cgroup.kill` of the same tree, until seen dead"
_CANCEL = "cancel of a build with 200 processes until undone and journalled, contained by {}"
_KILL = "the same tree killed by the containment alone: {}"
_HUNDRED = "the same with 100 operations"
_MILLION = "{} with 1,000,000 operations in the store"

ROWS = (
    Row(
        "1",
        "operation's ID, OpenSSH / no hook",
        "start of `git push` to the operation's ID, OpenSSH",
        "the whole push without a hook or forced command",
        1.15,
    ),
    Row(
        "2",
        "operation's ID, embedded / no hook",
        "start of `git push` to the operation's ID, embedded server",
        "the whole push, same server, no hook",
        1.6,
    ),
    Row(
        "3.embedded",
        "operation's ID, embedded / piku",
        "the same, embedded server",
        "piku over OpenSSH, to its first line",
        0.30,
    ),
    Row(
        "3.openssh", "operation's ID, OpenSSH / piku", "the same, OpenSSH", "piku over OpenSSH, to its first line", 0.70
    ),
    Row(
        "4.embedded",
        "new version answers, embedded / piku",
        "push until the new version answers, hello-web, no watch, embedded server",
        "piku",
        0.5,
    ),
    Row(
        "4.openssh",
        "new version answers, OpenSSH / piku",
        "push until the new version answers, hello-web, no watch, OpenSSH",
        "piku",
        0.5,
    ),
    Row(
        "5",
        "cancel, the command / kill",
        "`operation:cancel --no-wait`, journalled: the whole process",
        "`sh -c 'kill -TERM $(cat pidfile)'`",
        4.0,
    ),
    Row("6.cgroup", "cancel of 200, cgroup / cgroup.kill", _CANCEL.format("a cgroup"), _CGROUP_KILL, 5.0),
    Row("6.pidns", "cancel of 200, pidns / cgroup.kill", _CANCEL.format("a PID namespace"), _CGROUP_KILL, 5.0),
    Row("6.subreaper", "cancel of 200, subreaper / cgroup.kill", _CANCEL.format("a subreaper"), _CGROUP_KILL, 5.0),
    Row("7.cgroup", "kill of 200, cgroup / cgroup.kill", _KILL.format("cgroup"), _CGROUP_KILL, 1.5),
    Row("7.pidns", "kill of 200, pidns / cgroup.kill", _KILL.format("PID namespace"), _CGROUP_KILL, 1.5),
    Row("7.subreaper", "kill of 200, subreaper / cgroup.kill", _KILL.format("subreaper"), _CGROUP_KILL, 1.5),
    Row(
        "7.pidns-nobody",
        "kill of 200, pidns, nobody / cgroup.kill",
        _KILL.format("PID namespace, unprivileged"),
        _CGROUP_KILL,
        1.5,
    ),
    Row(
        "7.subreaper-nobody",
        "kill of 200, subreaper, nobody / cgroup.kill",
        _KILL.format("subreaper, unprivileged"),
        _CGROUP_KILL,
        1.5,
    ),
    Row(
        "8.changed",
        "export, 40 of 78,000 / tar",
        "export of 78,000 files, 40 of them changed since the last release",
        "`git archive | tar x`",
        0.10,
    ),
    Row("8.first", "export, 78,000 / tar", "export of 78,000 files, the first time", "`git archive | tar x`", 0.85),
    Row(
        "9",
        "export, 40 of 5,000 / tar",
        "export of 5,000 files, 40 of them changed since the last release",
        "`git archive | tar x`",
        0.40,
    ),
    Row(
        "10.build",
        "memory, build / bare Python",
        "memory of the worker while it waits for a build",
        "a bare interpreter",
        2.0,
        MIB,
    ),
    Row(
        "10.health",
        "memory, health / bare Python",
        "memory of the worker while it waits for a health check",
        "a bare interpreter",
        2.0,
        MIB,
    ),
    Row(
        "11",
        "100 MB of output / cat",
        "100 MB of build output in a million lines, step to pusher's terminal",
        "a hook that `cat`s it",
        1.5,
    ),
    Row("12", "lost requests", "requests lost in 100 switched and 20 cancelled releases under `wrk`", "none", 0, LOST),
    Row("13.list", "list, 1,000,000 / 100", _MILLION.format("`operation:list`"), _HUNDRED, 1.1),
    Row("13.show", "show, 1,000,000 / 100", _MILLION.format("`operation:show`"), _HUNDRED, 1.1),
    Row("13.cancel", "cancel, 1,000,000 / 100", _MILLION.format("`operation:cancel --no-wait`"), _HUNDRED, 1.1),
    Row(
        "13.banner",
        "operation's ID, 1,000,000 / 100",
        _MILLION.format("push to the operation's ID, embedded server,"),
        _HUNDRED,
        1.1,
    ),
    Row(
        "14.push",
        "200 MB pushed, embedded / OpenSSH",
        "200 MB pushed through the embedded server",
        "OpenSSH",
        1.10,
        SECONDS,
    ),
    Row(
        "14.clone",
        "200 MB cloned, embedded / OpenSSH",
        "200 MB cloned through the embedded server",
        "OpenSSH",
        1.10,
        SECONDS,
    ),
    Row(
        "15",
        "100 pushes at once / 100 by cores",
        "100 pushes at once to 100 apps: time for all",
        "100 times one push, divided by the cores",
        1.2,
        SECONDS,
    ),
)


def chosen(words: Sequence[str]) -> tuple[Row, ...]:
    """By number or key; all of them where nothing is named. Raises KeyError with a word that names none."""
    for word in words:
        if not any(word in (row.key, str(row.number)) for row in ROWS):
            raise KeyError(word)
    return tuple(row for row in ROWS if not words or row.key in words or str(row.number) in words)
