"""Watching the processes of a new release: until they are healthy, and then for a while."""

from __future__ import annotations

import os
import time

from safepoint.core.failures import StepError
from safepoint.core.release import ProcessStatus
from safepoint.engine.context import Context
from safepoint.engine.groups import names
from safepoint.hints import Self

SETTLE_SECONDS = 3.0
"""For how long processes that nobody can ask have to stay up before they count as healthy."""
FIRST_INTERVAL = 0.05
"""An app that is up at once need not wait for a whole interval; the interval doubles up to the one that is set."""
REQUEST_SECONDS = 5.0
TAIL_LINES = 20
DEATH_SECONDS = 0.1
"""From the moment when a dying process answers no more to the one when it is dead."""


class Vigil:
    """Holds a pidfd of each process, so that the death of one is noticed when it happens, not when it is polled."""

    def __init__(self, ctx: Context, port: int | None) -> None:
        self._ctx = ctx
        self._port = port
        self._pids: dict[str, int] = {}
        self._pidfds: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._pidfds.values():
            os.close(fd)

    def until_healthy(self, timeout: float) -> float:
        """Seconds that it took. Raises StepError at once when a process dies, else after `timeout` seconds."""
        begun = time.monotonic()
        settled = begun + SETTLE_SECONDS
        interval, problem = FIRST_INTERVAL, "it has not answered"
        while (now := time.monotonic()) < begun + timeout:
            self._all_alive()
            if self._port is None:
                if now >= settled:
                    return now - begun
                self._ctx.pause(min(settled, begun + timeout) - now, self._pidfds.values())
                continue
            problem = self._check(min(REQUEST_SECONDS, begun + timeout - now))
            if not problem:
                return time.monotonic() - begun
            self._ctx.pause(min(interval, max(0.0, begun + timeout - time.monotonic())), self._pidfds.values())
            interval = min(interval * 2, self._ctx.plan.settings.health.interval)
        raise self._unhealthy(f"v{self._ctx.plan.release} was not healthy within {timeout:g} s: {problem}")

    def watch(self, duration: float) -> None:
        """Return after `duration` seconds in which it stayed healthy. Raises StepError as soon as it does not."""
        end = time.monotonic() + duration
        while time.monotonic() < end:
            self._all_alive()
            if self._port is not None and (problem := self._check(REQUEST_SECONDS)):
                self._look_for_a_death()
                raise self._unhealthy(f"v{self._ctx.plan.release} became unhealthy: {problem}")
            left = max(0.0, end - time.monotonic())
            self._ctx.pause(min(left, self._ctx.plan.settings.health.interval), self._pidfds.values())

    def _look_for_a_death(self) -> None:
        """Raises StepError: that a process died is a better reason than that it does not answer."""
        if self._ctx.pause(DEATH_SECONDS, self._pidfds.values()):
            self._all_alive()

    def _check(self, timeout: float) -> str:
        assert self._port is not None
        health = self._ctx.plan.settings.health
        return self._ctx.health.check(self._port, health.path, health.expect, timeout)

    def _all_alive(self) -> None:
        plan = self._ctx.plan
        found = {status.name: status for status in self._ctx.runtime.status(plan.app, plan.release)}
        for name in names(plan.processes):
            status = found.get(name)
            if status is None or self._died(status):
                detail = status.detail if status else "it does not run"
                raise self._unhealthy(f"{name} of v{plan.release} died: {detail}")

    def _died(self, status: ProcessStatus) -> bool:
        known = self._pids.setdefault(status.name, status.pid)
        if not status.running or status.restarts or status.pid != known:
            return True
        if status.name not in self._pidfds:
            try:
                self._pidfds[status.name] = os.pidfd_open(status.pid)
            except ProcessLookupError:
                return True
        return False

    def _unhealthy(self, reason: str) -> StepError:
        """With the last that the processes said, which tells their owner why."""
        plan, say = self._ctx.plan, self._ctx.output
        for name, lines in self._ctx.runtime.tail(plan.app, plan.release, TAIL_LINES).items():
            if lines:
                say.say(f"The last lines of {name}:")
                say.write("".join(f"    {line}\n" for line in lines).encode(errors="replace"))
                say.end()
        return StepError(reason)
