"""An operation as people and as scripts see it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from safepoint.core import wording
from safepoint.core.audit import Entry
from safepoint.core.doors import kind_and_address
from safepoint.core.events import Ending
from safepoint.core.operation import Operation, StepRecord
from safepoint.core.slots import slot_of
from safepoint.processes import identity
from safepoint.state import pidfile
from safepoint.state.paths import Home


def as_json(home: Home, op: Operation) -> dict[str, Any]:
    running = op.running
    return {
        "id": op.id,
        "app": op.app,
        "kind": op.plan.kind.value,
        "commit": op.plan.commit,
        "release": op.plan.release,
        "previous_release": op.plan.previous_release,
        "by": op.header.by,
        "door": kind_and_address(op.header.door)[0],
        "address": kind_and_address(op.header.door)[1] or None,
        "reason": op.header.reason,
        "state": op.state.value,
        "step": running.name if running else None,
        "pid": worker_pid(home, op),
        "opened": time_text(op.header.opened),
        "committed": time_text(op.committed),
        "ended": time_text(op.ended),
        "failure": op.failure or None,
        "cancel": None
        if op.cancel is None
        else {
            "by": op.cancel.by,
            "reason": op.cancel.reason,
            "at": time_text(op.cancel.at),
            "verdict": op.cancel.verdict.value,
            "force": op.cancel.force,
        },
        "warnings": list(op.warnings),
        "left": list(wording.left(op)) if op.ending is Ending.STUCK else [],
        "summary": wording.closing(op),
        "steps": [_step(step) for step in op.steps],
    }


def _step(step: StepRecord) -> dict[str, Any]:
    return {
        "name": step.name,
        "state": step.state.value,
        "started": time_text(step.started),
        "ended": time_text(step.ended),
        "seconds": None if step.started is None or step.ended is None else round(step.ended - step.started, 3),
        "reason": step.reason or None,
    }


def worker_pid(home: Home, op: Operation) -> int | None:
    """The pid of the worker that runs it now."""
    signed = pidfile.read(home.pidfile(slot_of(op))) if op.ending is None else None
    if signed is None or signed[1] != op.id or not identity.alive(signed[0]):
        return None
    return signed[0].pid


def time_text(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def local_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def entry_as_json(entry: Entry) -> dict[str, Any]:
    door, address = kind_and_address(entry.door)
    return {
        "at": time_text(entry.at),
        "by": entry.by,
        "door": door or None,
        "address": address or None,
        "app": entry.app or None,
        "operation": entry.operation,
        "what": entry.what,
        "verdict": entry.verdict,
        "reason": entry.reason or None,
        "requested": time_text(entry.requested),
        "effective": time_text(entry.effective),
    }


def entry_line(entry: Entry) -> str:
    """One line of the audit, without its subject."""
    who = f"{entry.by} ({entry.door.replace(' ', ' from ')})" if entry.door else entry.by
    late = entry.effective is not None and entry.effective > entry.at
    done = f", effective {local_time(entry.effective)}" if late and entry.effective is not None else ""
    why = f": {entry.reason}" if entry.reason else ""
    return wording.printable(f"{local_time(entry.at)}  {who}  {entry.what}  {entry.verdict}{done}{why}")


def lines(home: Home, op: Operation, story: list[Entry], now: float) -> list[str]:
    """`operation:show` for people; `story` is what the audit has of it."""
    plan = op.plan
    found = [
        f"operation {op.id}: {plan.kind} of {op.app} v{plan.release} ({plan.commit[:8]})",
        f"by        {op.header.by} ({op.header.door.replace(' ', ' from ')}), {local_time(op.header.opened)}",
        f"state     {op.state}",
    ]
    if op.header.reason:
        found.append(f"reason    {op.header.reason}")
    if (pid := worker_pid(home, op)) is not None:
        found.append(f"process   {pid}")
    found += [f"asked     {entry_line(entry)}" for entry in story[1:] if entry.requested is not None]
    if op.failure:
        found.append(wording.printable(f"failure   {op.failure}"))
    found += ["", *(_step_line(step, now) for step in op.steps), ""]
    if op.ending is Ending.STUCK:
        return [*found, wording.closing(op), *wording.what_is_left(op)]
    return [*found, *(wording.ending_lines(op) if op.ending else (wording.closing(op),))]


def _step_line(step: StepRecord, now: float) -> str:
    took = "" if step.started is None else wording.seconds((step.ended or now) - step.started)
    return f"  {step.name:<18} {step.state.value:<12} {took:<12} {wording.printable(step.reason)}".rstrip()
