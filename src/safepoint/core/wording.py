"""Every sentence that a person reads about an operation: one voice, in one place. Pure."""

from __future__ import annotations

from safepoint.core import plan as p
from safepoint.core.doors import AFTER_PUSH, kind_and_address
from safepoint.core.events import Ending, Verdict
from safepoint.core.operation import Operation, StepState, next_undo, verdict
from safepoint.core.output_limit import size
from safepoint.core.plan import Kind, Plan

PREFIX = "safepoint | "


def printable(text: str) -> str:
    """`text` as one line that no terminal obeys anything of: commands and reasons may be pushed text."""
    return "".join(c if c.isprintable() else " " for c in text)


def own_line(line: str) -> str:
    """A line of Safepoint's own for a terminal, with its end; an empty one separates."""
    return f"{PREFIX}{printable(line)}".rstrip() + "\n" if line else "\n"


def authorizing() -> str:
    return "Authorizing..."


def initiating(kind: Kind) -> str:
    return f"Initiating {kind}..."


def deploying(commit: str, app: str, release: int, operation: int) -> str:
    return f"Deploying {commit[:8]}... (operation {operation}: {app} v{release})"


def queued(number: int, running: Operation | None, app: str) -> str:
    behind = f"operation {running.id}" if running is not None else "another operation"
    return f"Queued: {app} is busy with {behind}; operation {number} waits for its turn"


def waiting(op: Operation, running: Operation | None) -> str:
    behind = f"operation {running.id} ({running.header.by})" if running is not None else "the one before"
    return f"Waiting for {behind} to end..."


def fetch_first(plan: Plan, current: Operation | None) -> str:
    """Why a push that has waited is refused: what it would replace is not what its pusher has seen."""
    whose = f"operation {current.id} ({current.header.by}) moved" if current is not None else "somebody moved"
    return (
        f"fetch first: {whose} {plan.branch} to {plan.previous_commit[:8]} meanwhile, "
        f"and {plan.commit[:8]} does not have it"
    )


def begun(op: Operation) -> str:
    return f"Its turn has come: {op.plan.kind} of {op.plan.commit[:8]} as v{op.plan.release}"


def detached(cancel_command: str) -> tuple[str, ...]:
    """Said once it is true: the objects are in place, and nothing of the push is needed any more."""
    return (
        "",
        "Pressing CTRL + C now will NOT interrupt this deploy",
        "(it will continue in the background)",
        "",
        "However, you can cancel this deploy with:",
        f"    {cancel_command}",
        "",
    )


def attached(cancel_command: str) -> tuple[str, ...]:
    """The banner of a push that was made with `-o attach`."""
    return (
        "",
        "This deploy is attached: pressing CTRL + C, or losing the connection, cancels it",
        "",
        "From another terminal you can cancel it with:",
        f"    {cancel_command}",
        "",
    )


def not_waiting(follow_command: str) -> str:
    return f"Not waiting for its end; follow it with: {follow_command}"


def launched(follow_command: str, cancel_command: str) -> tuple[str, ...]:
    """The banner of a push into a repository that is hosted elsewhere."""
    return (
        "",
        "This push does not wait for the deploy, which goes on in the background",
        "",
        "On the server you can follow it, and cancel it, with:",
        f"    {follow_command}",
        f"    {cancel_command}",
        "",
    )


def try_again(app: str, branch: str, commit: str) -> str:
    """After a push into a repository that is hosted elsewhere: pushing again would change nothing."""
    return f"{branch} has moved all the same; to try {commit[:8]} again: `deploy {app} {commit}`"


def doing(plan: Plan, step: str) -> str:
    """What a step says as it begins; empty: nothing."""
    match step:
        case p.EXPORT:
            return f"Exporting {plan.commit[:8]} as v{plan.release}..."
        case p.BUILD:
            return "Building..." if plan.build else ""
        case p.START:
            return f"Starting v{plan.release}: {', '.join(plan.processes)}..."
        case p.HEALTH:
            return _health(plan)
        case p.SWITCH:
            return f"Switching {plan.app} from {_name(plan.previous_release)} to v{plan.release}..."
        case p.WATCH:
            return f"Watching v{plan.release} for {seconds(plan.settings.watch)}..." if plan.settings.watch else ""
        case p.RETIRE:
            return f"Stopping {_name(plan.previous_release)}..." if plan.previous_release else ""
        case _ if step.startswith(p.BEFORE_RELEASE):
            return f"Running {command(plan, step)}..."
    return ""


def _health(plan: Plan) -> str:
    if "web" not in plan.processes:
        return f"Waiting until v{plan.release} has settled..."
    expected = "any answer" if plan.settings.health.expect == "any" else "2xx"
    return f"Checking the health of v{plan.release}: GET {plan.settings.health.path}, {expected} is healthy..."


def undoing(plan: Plan, step: str) -> str:
    """What an undo says as it begins; empty: nothing."""
    match step:
        case p.EXPORT:
            return f"Removing v{plan.release}..."
        case p.START:
            return f"Stopping v{plan.release}..."
        case p.SWITCH:
            return f"Switching {plan.app} back from v{plan.release} to {_name(plan.previous_release)}..."
        case _ if step.startswith(p.BEFORE_RELEASE) and (undo := declared_undo(plan, step)):
            return f"Undoing {command(plan, step)}: {undo}..."
    return ""


def committed(plan: Plan) -> str:
    return f"v{plan.release} is current; from here on nothing is undone"


def command(plan: Plan, step: str) -> str:
    return printable(f"`{plan.settings.before_release[p.before_release_index(step)].command}`")


def declared_undo(plan: Plan, step: str) -> str:
    """The command that undoes a before_release step, or an empty text."""
    return printable(plan.settings.before_release[p.before_release_index(step)].undo)


def not_undone(plan: Plan, step: str) -> str:
    return f"not undone: {command(plan, step)} (it declares no undo)"


def output_limit_reached(limit: int) -> str:
    return f"The output has reached its limit of {size(limit)}: of what this command says from here on, the end is kept"


def output_left_out(count: int) -> str:
    return f"{size(count)} of output are left out here; the end of it:"


def output_missing(count: int, why: str) -> str:
    return f"{size(count)} of output are missing here: {why}"


def cannot_go_on(why: str) -> str:
    """Of an operation that is under way, whose journal cannot be written. Nobody may go on without that."""
    return f"Stopping here: {why}"


def stopped(op: Operation, why: str) -> tuple[str, str]:
    """Of an operation that cannot go on now, and what becomes of it."""
    way = "finished" if op.committed is not None or op.queued else "undone"
    return (
        f"operation {op.id} stops here: {why}",
        f"once that is mended it is {way}, by `safepoint serve` or by `recover {op.id}`",
    )


def closing(op: Operation) -> str:
    """The one sentence with which everybody's terminal ends, and git's reason where a push is rejected."""
    return printable(_closing(op))


def _closing(op: Operation) -> str:
    plan = op.plan
    if op.queued and op.ending is not None:
        return _never_begun(op)
    match op.ending:
        case Ending.SUCCEEDED:
            return f"operation {op.id} succeeded: {plan.app} now runs v{plan.release}"
        case Ending.CANCELLED:
            assert op.cancel is not None
            why = f" ({op.cancel.reason})" if op.cancel.reason else ""
            return f"operation {op.id} cancelled by {op.cancel.by}{why}; {still(plan)}"
        case Ending.FAILED:
            where = f" in {op.failed_step}" if op.failed_step else ""
            return f"operation {op.id} failed{where}: {op.failure}; {still(plan)}"
        case Ending.STUCK:
            way_out = f"{plan.app} is locked until `recover {op.id}` succeeds"
            return f"operation {op.id} is stuck: {_in_the_way(op)}; {way_out}"
    return f"operation {op.id} is {op.state}"


def _in_the_way(op: Operation) -> str:
    failed = next(step for step in op.steps if step.state is StepState.UNDO_FAILED)
    return f"undoing {failed.name} failed: {failed.reason}"


def left(op: Operation) -> tuple[str, ...]:
    """The steps of a stuck operation that are still to be undone, in the order in which they will be."""
    begun = reversed(op.steps[: len(op.plan.steps)])
    return tuple(step.name for step in begun if step.state not in (StepState.PENDING, StepState.UNDONE))


def what_is_left(op: Operation) -> tuple[str, ...]:
    """Of a stuck operation, for who is to mend it."""
    return (
        f"still to be undone: {', '.join(left(op))}",
        f"mend what is in the way, then `recover {op.id}` goes on from there",
    )


def locked(op: Operation) -> str:
    """Why nothing else can begin after a stuck operation."""
    return printable(f"{op.app} is locked: operation {op.id} is stuck ({_in_the_way(op)})")


def _never_begun(op: Operation) -> str:
    """Of an operation whose turn never came."""
    if op.superseded is not None:
        return f"operation {op.id} superseded by operation {op.superseded}, without having begun"
    if op.cancel is not None:
        why = f" ({op.cancel.reason})" if op.cancel.reason else ""
        return f"operation {op.id} cancelled by {op.cancel.by}{why}, without having begun"
    return f"operation {op.id} failed: {op.failure}; it has not begun"


def still(plan: Plan) -> str:
    if plan.previous_release is None:
        return f"{plan.app} has no release, as before"
    return f"{plan.app} still runs v{plan.previous_release}"


def ending_lines(op: Operation) -> tuple[str, ...]:
    """The closing sentence with its warnings before it, and what to do next where there is something."""
    lines = tuple(printable(f"warning: {text}") for text in op.warnings)
    if op.ending in (Ending.FAILED, Ending.CANCELLED) and kind_and_address(op.header.door)[0] == AFTER_PUSH:
        return (*lines, closing(op), try_again(op.app, op.plan.branch, op.plan.commit))
    if op.ending is Ending.STUCK:
        return (*lines, closing(op), f"see what is left with `operation:show {op.id}`, mend it, then `recover {op.id}`")
    return (*lines, closing(op))


def busy(op: Operation, cancel_command: str) -> tuple[str, str]:
    """Why a second operation cannot begin now, and what to do."""
    if op.ending is Ending.STUCK:
        return locked(op), f"see `operation:show {op.id}`, then `recover {op.id}`"
    running = op.running
    step = f" ({_now(op, running.name)})" if running else ""
    return f"{op.app} is busy: operation {op.id} is {op.state}{step}", f"wait for it, or cancel it: {cancel_command}"


def answer(op: Operation, given: Verdict) -> str:
    """What a canceller is told, before it happens."""
    match given:
        case Verdict.NOW:
            running = op.running
            if running is None:
                return f"Cancelling operation {op.id} now"
            return f"Cancelling operation {op.id} now: {running.name} is interrupted"
        case Verdict.AFTER_STEP:
            running = op.running
            assert running is not None
            return f"Cancelling operation {op.id} after {running.name}, which is finished first"
        case Verdict.ALREADY_CANCELLING:
            by = op.cancel.by if op.cancel else "somebody"
            return f"Operation {op.id} is already cancelling, as {by} asked"
        case Verdict.TOO_LATE if op.committed is not None:
            return f"Too late: operation {op.id} has committed, {op.app} runs v{op.plan.release}{_way_back(op)}"
        case Verdict.TOO_LATE:
            return f"Too late: operation {op.id} has failed and is being undone"
        case Verdict.ALREADY_ENDED if op.ending is Ending.SUCCEEDED:
            return f"Operation {op.id} has already ended: {op.app} got v{op.plan.release}{_way_back(op)}"
        case Verdict.ALREADY_ENDED:
            return f"Operation {op.id} has already ended: {closing(op)}"
    raise AssertionError(given)


def asked(op: Operation) -> str:
    """What the pusher's terminal says when somebody's cancel was accepted."""
    assert op.cancel is not None
    why = f" ({op.cancel.reason})" if op.cancel.reason else ""
    running = op.running
    if running is None:
        return f"Cancel requested by {op.cancel.by}{why}"
    how = "is interrupted" if op.cancel.verdict is Verdict.NOW else "is finished first"
    return f"Cancel requested by {op.cancel.by}{why}: {running.name} {how}"


def _way_back(op: Operation) -> str:
    previous = op.plan.previous_release
    return f"; take it back with: releases:rollback {op.app} v{previous}" if previous else ""


def forecast(op: Operation, now: float) -> tuple[str, ...]:
    """What a cancel would do at this moment, in the order in which it would."""
    given = verdict(op)
    lines = [_would(op, given) if given.accepted else answer(op, given)]
    running = op.running
    if running is not None and running.started is not None and given.accepted:
        lines.append(f"{running.name} has run for {seconds(now - running.started)}")
    if given.accepted:
        begun = [s.name for s in reversed(op.steps[: len(op.plan.steps)]) if s.state is not StepState.PENDING]
        for step in begun:
            if step.startswith(p.BEFORE_RELEASE) and not declared_undo(op.plan, step):
                lines.append(f"cannot be undone: {command(op.plan, step)} (it declares no undo)")
            elif text := undoing(op.plan, step):
                lines.append(f"will undo {step}: {text.rstrip('.')}")
        lines.append(still(op.plan))
    elif given is Verdict.ALREADY_CANCELLING and (undo := next_undo(op)):
        lines.append(f"{undo} is next to be undone")
    return tuple(lines)


def _would(op: Operation, given: Verdict) -> str:
    running = op.running
    if running is None:
        return f"A cancel would end operation {op.id} now"
    if given is Verdict.NOW:
        return f"A cancel would interrupt {running.name} of operation {op.id} now"
    return f"A cancel would end operation {op.id} after {running.name}, which is finished first"


def _now(op: Operation, step: str) -> str:
    return f"undoing {step}" if op.turned else f"in {step}"


def _name(release: int | None) -> str:
    return "nothing" if release is None else f"v{release}"


def seconds(value: float) -> str:
    """A duration for people: `0.4 s`, `12 s`, `3 min 5 s`. A clock that was set back meanwhile makes it none."""
    value = max(0.0, value)
    if value < 10:
        return f"{value:.1f} s".replace(".0 s", " s")
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min" + (f" {rest} s" if rest else "")
