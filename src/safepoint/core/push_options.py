"""What a pusher may ask for with `git push -o`. Pure; every word of it is hostile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from safepoint.core.names import shown
from safepoint.core.queueing import OnBusy
from safepoint.errors import UsageError
from safepoint.record import Record

MAX_REASON = 500
"""Characters."""

_KNOWN = "on-busy=queue, on-busy=supersede, on-busy=reject, no-wait, attach, reason=TEXT"


class PushOptions(Record):
    on_busy: OnBusy | None = None
    """None: as the app says."""
    no_wait: bool = False
    """End the push as soon as the deploy is detached."""
    attach: bool = False
    """Cancel the deploy when its client is lost."""
    reason: str = ""


def from_environment(environment: Mapping[str, str]) -> list[str]:
    """What git tells its hooks (githooks(5), GIT_PUSH_OPTION_COUNT). Raises UsageError."""
    count = environment.get("GIT_PUSH_OPTION_COUNT", "0")
    if len(count) > 3 or not count.isascii() or not count.isdigit() or int(count) > 100:
        raise UsageError("there are too many push options")
    return [environment.get(f"GIT_PUSH_OPTION_{number}", "") for number in range(int(count))]


def parse(options: Iterable[str]) -> PushOptions:
    """Raises UsageError, with the list of what there is."""
    on_busy, no_wait, attach, reason = None, False, False, ""
    for option in options:
        name, _, value = option.partition("=")
        if option == "no-wait":
            no_wait = True
        elif option == "attach":
            attach = True
        elif name == "on-busy" and value in tuple(OnBusy):
            on_busy = OnBusy(value)
        elif name == "reason" and value.strip():
            reason = " ".join(value.split())[:MAX_REASON]
        else:
            raise UsageError(f"there is no push option {shown(option)}", f"there are: {_KNOWN}")
    if no_wait and attach:
        raise UsageError("the push options no-wait and attach exclude each other", "choose one of them")
    return PushOptions(on_busy, no_wait, attach, reason)
