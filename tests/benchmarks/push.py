"""Rows 1 to 4: what a pusher waits for, side by side with a push that no hook holds up, and with piku."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bed import Bed, bed, commit, first_answer, timed_push
from benchmarks.piku import EMPEROR_SECONDS, Piku, Recorded, piku, recorded
from benchmarks.rows import Row
from benchmarks.running import Result, Run
from benchmarks.side_by_side import Contender, Series, Spread, interleaved, ratios, spread
from deploying import App, Door, terminal
from ssh.servers import USER, git, sshd

ROUNDS = 15
EXAMPLE = Path(__file__).parents[2] / "examples" / "hello-web"
NO_HOOK, NO_HOOK_EMBEDDED = "no hook", "no hook, embedded"
NEEDS = {
    "1": ("openssh", NO_HOOK),
    "2": ("embedded", NO_HOOK_EMBEDDED),
    "3.embedded": ("embedded", "piku"),
    "3.openssh": ("openssh", "piku"),
    "4.embedded": ("embedded answers", "piku answers"),
    "4.openssh": ("openssh answers", "piku answers"),
}
"""Row to what is compared."""


def measure(run: Run, rows: Sequence[Row]) -> Iterator[Result]:
    place = run.place("push")
    with ExitStack() as stack:
        lane = Lane(stack, run, place, stack.enter_context(bed(place, doors=True)))
        peer = Peer.of(run, lane)
        wanted = {name for row in rows for name in NEEDS[row.key]}
        if wanted & {"piku", "piku answers"}:
            wanted.add(NO_HOOK)  # its numbers are a ratio to this
        contenders = {name: one for name, one in lane.contenders(peer.running).items() if name in wanted}
        found = interleaved(contenders.values(), run.rounds(ROUNDS), run.on_round)
        peer.complete(found)
        for row in rows:
            ours, theirs = NEEDS[row.key]
            if theirs in found:
                yield Result(row, in_ms(found[ours]), in_ms(found[theirs]), peer.notes if "piku" in theirs else ())
            else:
                yield Result(row, why_not="piku is not here: --piku PATH names a checkout of it")


def in_ms(values: Sequence[float]) -> list[float]:
    return [value * 1000 for value in values]


@dataclass
class Peer:
    """piku: measured here, or as it was measured elsewhere."""

    run: Run
    running: Piku | None
    known: Recorded | None

    @classmethod
    def of(cls, run: Run, lane: Lane) -> Peer:
        if run.piku is None:
            return cls(run, None, recorded())
        return cls(run, lane.piku(run.piku), None)

    def complete(self, found: Series) -> None:
        """Add what was recorded, scaled to this run's pushes without a hook; or keep what was measured."""
        if NO_HOOK not in found:
            return
        if self.known is not None:
            found |= self.known.scaled(found[NO_HOOK])
        if self.running is not None:
            measured: dict[str, Spread] = {
                name: spread(ratios(found[name], found[NO_HOOK])) for name in ("piku", "piku answers") if name in found
            }
            self.run.recorded = self.running.record(measured)

    @property
    def notes(self) -> tuple[str, ...]:
        if self.known is not None:
            return (self.known.note,)
        return (self.running.note,) if self.running else ()


class Lane:
    """All that pushes: an app or a repository each, and one small commit more each time."""

    def __init__(self, stack: ExitStack, run: Run, place: Path, served: Bed) -> None:
        self.stack = stack
        self.run = run
        self.place = place
        self.bed = served
        self.files = {each.name: each.read_text() for each in EXAMPLE.iterdir() if each.name != "README.md"}
        self.files["safepoint.toml"] = '[watch]\nfor = "0s"\n'
        self.numbers: dict[Path, int] = {}
        self.key = place / "alice"
        self.piku_key = served.site.place.make_key("piku")
        self.plain_port = 0
        self.directory = place / "plain"
        self.directory.mkdir()

    def contenders(self, peer: Piku | None) -> dict[str, Contender]:
        self.listen(peer)
        found: dict[str, Contender] = {NO_HOOK: self.plain(), NO_HOOK_EMBEDDED: self.plain_embedded()}
        for door in (self.bed.openssh, self.bed.embedded):
            found[door.name] = self.banner(door)
        if peer is not None:
            found["piku"] = self.first_line(peer)
        for door in (self.bed.openssh, self.bed.embedded):
            found[f"{door.name} answers"] = self.answers(door)
        if peer is not None:
            found["piku answers"] = self.piku_answers(peer)
        return found

    def listen(self, peer: Piku | None) -> None:
        """An sshd with the same settings as the one in front of Safepoint; alice's key has no forced command there."""
        keys = self.directory / "authorized_keys"
        lines = [self.key.with_name("alice.pub").read_text()]
        if peer is not None:
            lines.append(peer.key_line(self.piku_key.with_name("piku.pub").read_text()))
        keys.write_text("".join(lines))
        host_key = self.bed.site.place.make_key("plain_host_key")
        self.plain_port = self.stack.enter_context(sshd(self.directory, host_key, f"AuthorizedKeysFile {keys}\n"))

    def piku(self, checkout: Path) -> Piku:
        return self.stack.enter_context(piku(checkout, self.place / "piku-home"))

    # Each push, from before `git push` is started.

    def plain(self) -> Contender:
        repository = self.directory / "plain.git"
        git("init", "-q", "--bare", "-b", "main", repository)
        tree = self.tree("plain.tree")
        url = f"ssh://{USER}@127.0.0.1:{self.plain_port}{repository}"
        environment = self.bed.openssh.git_environment()

        def push() -> Mapping[str, float]:
            self.next(tree)
            return {NO_HOOK: timed_push(tree, url, environment)}

        return push

    def plain_embedded(self) -> Contender:
        """A repository of the same server's, with its hooks taken out."""
        app = self.bed.app("nohook", self.files)
        repository = self.bed.home.repository(app.name)
        git("--git-dir", repository, "config", "core.hooksPath", "/dev/null")
        git("--git-dir", repository, "config", "--unset-all", "receive.procReceiveRefs")

        def push() -> Mapping[str, float]:
            self.next(app.tree)
            door = self.bed.embedded
            return {NO_HOOK_EMBEDDED: timed_push(app.tree, door.url(app.name), door.git_environment())}

        return push

    def banner(self, door: Door) -> Contender:
        app = self.bed.app(f"banner-{door.name}", self.files)

        def push() -> Mapping[str, float]:
            self.next(app.tree)
            return {door.name: time_to_banner(app, door)}

        return push

    def answers(self, door: Door) -> Contender:
        app = self.bed.app(f"answers-{door.name}", self.files)

        def push() -> Mapping[str, float]:
            text = self.next(app.tree)
            began = time.perf_counter()
            with app.pushing(door) as pushing:
                took = self.bed.answers(app.name, text) - began
                pushing.finish()
            assert pushing.process.returncode == 0, pushing.said
            return {f"{door.name} answers": took}

        return push

    def first_line(self, peer: Piku) -> Contender:
        tree = self.tree("piku-first.tree", peer)

        def push() -> Mapping[str, float]:
            self.next(tree)
            began = time.perf_counter()
            with terminal(self.push_to_piku(tree, "first"), self.piku_environment()) as pushing:
                pushing.read_until("remote: ")
                took = time.perf_counter() - began
                pushing.finish()
            assert pushing.process.returncode == 0, pushing.said
            return {"piku": took}

        return push

    def piku_answers(self, peer: Piku) -> Contender:
        tree = self.tree("piku-answers.tree", peer)
        port = peer.give_port("answers")

        def push() -> Mapping[str, float]:
            text = self.next(tree)
            # Its emperor looks for changes by the clock. In step with our rounds every push would wait equally long.
            time.sleep(random.uniform(0, EMPEROR_SECONDS))
            began = time.perf_counter()
            with terminal(self.push_to_piku(tree, "answers"), self.piku_environment()) as pushing:
                took = first_answer(port, "127.0.0.1", text) - began
                pushing.finish()
            assert pushing.process.returncode == 0, pushing.said
            return {"piku answers": took}

        return push

    def push_to_piku(self, tree: Path, app: str) -> list[str]:
        return ["git", "-C", str(tree), "push", f"ssh://{USER}@127.0.0.1:{self.plain_port}/{app}", "main"]

    def piku_environment(self) -> Mapping[str, str]:
        return Door("openssh", self.bed.site, self.piku_key).git_environment()

    def tree(self, name: str, peer: Piku | None = None) -> Path:
        tree = self.place / name
        git("init", "-q", "-b", "main", tree)
        # Without a command for the release piku takes it for no kind of app that it knows.
        files = self.files | ({"Procfile": self.files["Procfile"] + "release: true\n"} if peer else {})
        commit(tree, files, "0")
        return tree

    def next(self, tree: Path) -> str:
        """One file changes; what the app of this commit says."""
        number = self.numbers[tree] = self.numbers.get(tree, 0) + 1
        commit(tree, {"app.py": self.files["app.py"].replace('"Hello"', f'"Hello {number}"')}, str(number))
        return f"Hello {number} from"


def time_to_banner(app: App, door: Door) -> float:
    """Seconds from the start of a push to the operation's ID on the pusher's terminal. Returns after the push."""
    began = time.perf_counter()
    with app.pushing(door) as pushing:
        pushing.operation()
        took = time.perf_counter() - began
        pushing.finish()
    assert pushing.process.returncode == 0, pushing.said
    return took
