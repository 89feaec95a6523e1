"""The two places that an app has for operations that have not ended. Pure.

A slot's name names its lock and its control socket. App names have no dots, so no two slots share a name.
"""

from __future__ import annotations

from safepoint.core.operation import Operation


def running_slot(app: str) -> str:
    return app


def waiting_slot(app: str) -> str:
    return f"{app}.next"


def slots_of(app: str) -> tuple[str, str]:
    return running_slot(app), waiting_slot(app)


def app_of(slot: str) -> str:
    return slot.removesuffix(".next")


def slot_of(operation: Operation) -> str:
    """Where the worker of an open operation is found."""
    return waiting_slot(operation.app) if operation.queued else running_slot(operation.app)
