"""The steps: each `do` with its `undo` beside it.

A `do` gets what `prepare` returned, as it was journalled before. An `undo` gets the same, and must accept work that
was not, half or fully done, any number of times. Both return warnings for the closing lines, raise StepError for what
a person can mend, and Interrupted when the latch was set; an undo and what follows the commit never look at the latch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from safepoint.core import plan as p
from safepoint.core import wording
from safepoint.core.command import Command
from safepoint.core.events import Data
from safepoint.core.failures import StepError
from safepoint.core.release import Release
from safepoint.core.settings import BeforeRelease
from safepoint.engine.context import Context, wait
from safepoint.engine.environment import Identity, for_commands
from safepoint.engine.groups import names, process_group, web_port
from safepoint.engine.latch import CancelLatch
from safepoint.engine.ports_of_apps import choose
from safepoint.engine.vigil import Vigil
from safepoint.record import Record
from safepoint.trees import remove_tree

Warnings = tuple[str, ...]

DRAIN_SECONDS = 30.0
KEPT_RELEASES = 5


class Handler(Record):
    do: Callable[[Context, Data], Warnings]
    undo: Callable[[Context, Data], Warnings] = lambda _context, _data: ()
    prepare: Callable[[Context], Data] = lambda _context: {}
    """What the step and its undo need to know; journalled before the step begins. Changes nothing."""


def do_receive(ctx: Context, _data: Data) -> Warnings:
    also = [ctx.received.fileno(), *([] if ctx.receiver is None else [ctx.receiver])]
    if ctx.receiver is not None:
        wait(ctx.latch, None, also)
    if not ctx.received.is_set():
        raise StepError("the push ended before everything had arrived")
    if not ctx.repository.has(ctx.plan.commit):
        raise StepError(f"commit {ctx.plan.commit[:8]} has not arrived")
    return ()


def undo_receive(ctx: Context, _data: Data) -> Warnings:
    ctx.repository.sweep()
    return ()


def do_export(ctx: Context, _data: Data) -> Warnings:
    ctx.places.release.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove(ctx.places.release)  # nothing is there, unless somebody put it there by hand
    ctx.source.export(ctx.places.repository, ctx.plan.commit, ctx.places.release, ctx.latch)
    return ()


def undo_export(ctx: Context, _data: Data) -> Warnings:
    _remove(ctx.places.release)
    ctx.source.forget(ctx.places.release)
    return ()


def do_build(ctx: Context, _data: Data) -> Warnings:
    deadline = time.monotonic() + ctx.plan.settings.build.timeout
    for command in ctx.plan.build:
        left = deadline - time.monotonic()
        _run(ctx, "build", command, left=left, timeout=ctx.plan.settings.build.timeout, latch=ctx.latch)
    return ()


def undo_build(ctx: Context, _data: Data) -> Warnings:
    """What it made is in the release's directory, which the undo of export removes."""
    _end(ctx, "build")
    return ()


def do_before_release(ctx: Context, step: str) -> Warnings:
    declared = _declared(ctx, step)
    latch = ctx.latch if declared.on_cancel == p.OnCancel.INTERRUPT else ctx.never
    _run(ctx, step, declared.command, left=declared.timeout, timeout=declared.timeout, latch=latch)
    return ()


def undo_before_release(ctx: Context, step: str) -> Warnings:
    _end(ctx, step)
    _end(ctx, f"{step}.undo")
    declared = _declared(ctx, step)
    if not declared.undo:
        return (wording.not_undone(ctx.plan, step),)
    timeout = declared.timeout
    _run(ctx, f"{step}.undo", declared.undo, left=timeout, timeout=timeout, latch=ctx.never)
    return ()


def prepare_start(ctx: Context) -> Data:
    return {"ports": choose(names(ctx.plan.processes), ctx.releases.ports_in_use())}


def do_start(ctx: Context, data: Data) -> Warnings:
    if ctx.plan.kind is p.Kind.DEPLOY:  # now it is complete: the commands before the release write to it as well
        ctx.source.settle(ctx.places.release)
    group = process_group(
        _identity(ctx),
        processes=ctx.plan.processes,
        ports=data["ports"],
        host=ctx.host,
        config=ctx.environment,
        grace=ctx.plan.settings.grace,
    )
    ctx.runtime.start(group)
    return ()


def undo_start(ctx: Context, _data: Data) -> Warnings:
    ctx.runtime.stop(ctx.plan.app, ctx.plan.release)
    if ctx.plan.kind is p.Kind.DEPLOY:  # its number is used again; what it said is in the operation's output
        ctx.runtime.forget(ctx.plan.app, ctx.plan.release)
    return ()


def do_health(ctx: Context, _data: Data) -> Warnings:
    with _vigil(ctx) as vigil:
        took = vigil.until_healthy(ctx.plan.settings.health.timeout)
    ctx.output.say(f"Healthy after {wording.seconds(took)}")
    return ()


def prepare_switch(ctx: Context) -> Data:
    """Where the traffic goes now, and where it will."""
    new = web_port(_ports_of_start(ctx))
    return {"port": new, "previous_port": _previous_port(ctx)}


def do_switch(ctx: Context, data: Data) -> Warnings:
    if data["port"] is not None or data["previous_port"] is not None:
        ctx.router.switch(ctx.plan.app, data["port"])
    return ()


def undo_switch(ctx: Context, data: Data) -> Warnings:
    """Back to the old release, which is still warm; the new one answers what it has begun."""
    if data["port"] is None and data["previous_port"] is None:
        return ()
    # Its port of now: a `serve` that had to start it again, after a reboot say, may have had to give it another one.
    ctx.router.switch(ctx.plan.app, _previous_port(ctx))
    if data["port"] is not None and not ctx.latch.force:
        ctx.router.drain(data["port"], ctx.plan.settings.grace)
    return ()


def do_watch(ctx: Context, _data: Data) -> Warnings:
    if ctx.plan.settings.watch:
        with _vigil(ctx) as vigil:
            vigil.watch(ctx.plan.settings.watch)
    return ()


def do_publish(ctx: Context, _data: Data) -> Warnings:
    """The release is current since the commit record; now the branch says so too."""
    found = ctx.repository.branch(ctx.plan.branch)
    ctx.repository.move(ctx.plan.branch, ctx.plan.commit)
    if found not in (ctx.plan.previous_commit, ctx.plan.commit):
        return (f"{ctx.plan.branch} had been moved to {found[:8]} by somebody else; it is what runs again",)
    return ()


def do_retire(ctx: Context, _data: Data) -> Warnings:
    """The one that is not current any more answers what it has begun, and stops."""
    release = _previous(ctx)
    if release is None or release.state == "current":
        return ()
    port = web_port(release.ports)
    drained = port is None or ctx.router.drain(port, DRAIN_SECONDS)
    ctx.runtime.stop(ctx.plan.app, release.number)
    if drained:
        return ()
    return (f"v{release.number} was stopped with requests that had not ended after {DRAIN_SECONDS:.0f} s",)


def do_prune(ctx: Context, _data: Data) -> Warnings:
    ctx.repository.sweep()
    ctx.repository.pack()
    for kept, release in enumerate(ctx.releases.kept_releases(ctx.plan.app), 1):
        if kept > KEPT_RELEASES and release.state != "current":
            _remove(ctx.places.release_of(release.number))
            ctx.source.forget(ctx.places.release_of(release.number))
            ctx.runtime.forget(ctx.plan.app, release.number)
            ctx.releases.mark_pruned(ctx.plan.app, release.number)
    return ()


_STEPS: Mapping[str, Handler] = {
    p.RECEIVE: Handler(do_receive, undo_receive),
    p.EXPORT: Handler(do_export, undo_export),
    p.BUILD: Handler(do_build, undo_build),
    p.START: Handler(do_start, undo_start, prepare_start),
    p.HEALTH: Handler(do_health),
    p.SWITCH: Handler(do_switch, undo_switch, prepare_switch),
    p.WATCH: Handler(do_watch),
    p.PUBLISH: Handler(do_publish),
    p.RETIRE: Handler(do_retire),
    p.PRUNE: Handler(do_prune),
}


def handler(step: str) -> Handler:
    if step.startswith(p.BEFORE_RELEASE):
        return Handler(
            lambda ctx, _data: do_before_release(ctx, step), lambda ctx, _data: undo_before_release(ctx, step)
        )
    return _STEPS[step]


def _run(ctx: Context, step: str, command: str, *, left: float, timeout: float, latch: CancelLatch) -> None:
    """Run one command of the app's in its release, with its output in the operation's."""
    places = ctx.places
    for directory in (places.scratch, places.cache, places.data):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    job = Command(
        scope=_scope(ctx, step),
        argv=("/bin/sh", "-e", "-c", command),  # of several lines, the first that fails is the end
        directory=places.release,
        environment=for_commands(_identity(ctx), ctx.host, ctx.environment, cache=places.cache, scratch=places.scratch),
        timeout=max(0.001, left),
        grace=ctx.plan.settings.grace,
        app=ctx.plan.app,
        directories=(places.release, places.cache, places.data, places.scratch),
    )
    try:
        status = ctx.commands.run(job, ctx.output.write, latch)
    except TimeoutError:
        raise StepError(f"`{command}` was ended after its timeout of {wording.seconds(timeout)}") from None
    finally:
        ctx.output.end()
        remove_tree(ctx.places.scratch)
    if status < 0:
        raise StepError(f"`{command}` was killed by signal {-status}")
    if status > 0:
        raise StepError(f"`{command}` exited with status {status}")


def _remove(directory: Path) -> None:
    """Raises StepError: what is in the way is for a person to mend."""
    try:
        remove_tree(directory)
    except OSError as error:
        raise StepError(f"cannot remove {error.filename}: {error.strerror}") from None


def _end(ctx: Context, step: str) -> None:
    """What `_run` leaves where it is killed half way."""
    ctx.commands.end(_scope(ctx, step))
    remove_tree(ctx.places.scratch)


def _scope(ctx: Context, step: str) -> str:
    return f"{ctx.operation}.{step}"


def _declared(ctx: Context, step: str) -> BeforeRelease:
    return ctx.plan.settings.before_release[p.before_release_index(step)]


def _identity(ctx: Context) -> Identity:
    return Identity(ctx.plan.app, ctx.plan.release, ctx.plan.commit, ctx.places.release, ctx.places.data)


def _vigil(ctx: Context) -> Vigil:
    return Vigil(ctx, web_port(_ports_of_start(ctx)))


def _ports_of_start(ctx: Context) -> Mapping[str, int]:
    ports: Mapping[str, int] = ctx.data_of(p.START)["ports"]
    return ports


def _previous(ctx: Context) -> Release | None:
    number = ctx.plan.previous_release
    return None if number is None else ctx.releases.release(ctx.plan.app, number)


def _previous_port(ctx: Context) -> int | None:
    release = _previous(ctx)
    return None if release is None else web_port(release.ports)
