"""What the operator decides for the whole server, by variables in the environment of `serve`.

It keeps them in the store, and workers take them from there: they hold whichever door an operation comes by, as
sessions of ssh have none of these variables and a push to a path has those of its pusher.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from safepoint.core import output_limit
from safepoint.errors import UsageError
from safepoint.processes import containment
from safepoint.state.store import Store

VARIABLES = (output_limit.VARIABLE, containment.FORCED)


def keep(store: Store, environment: Mapping[str, str]) -> None:
    """From now on these hold. Raises UserError where one of them cannot."""
    output_limit.output_limit(environment.get(output_limit.VARIABLE, ""))
    containment.best(store.home.root)
    for name in VARIABLES:
        store.set_setting(name, environment.get(name, ""))


def adopt(store: Store, environment: MutableMapping[str, str]) -> None:
    """Into the environment of a worker. Where no `serve` ever was, what is there stays."""
    for name in VARIABLES:
        if (value := store.setting(name)) is not None:
            environment[name] = value


def kept_output(store: Store) -> int:
    """Bytes of output that are kept of an operation."""
    try:
        return output_limit.output_limit(store.setting(output_limit.VARIABLE) or "")
    except UsageError:  # somebody wrote into the database
        return output_limit.DEFAULT
