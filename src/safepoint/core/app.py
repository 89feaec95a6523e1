"""An app, as the server knows it."""

from __future__ import annotations

from dataclasses import dataclass

from safepoint.core.queueing import OnBusy


@dataclass(frozen=True, slots=True)
class App:
    name: str
    branch: str
    """The deploy branch; on the server it is always exactly what runs."""
    created: float
    on_busy: OnBusy = OnBusy.QUEUE
    """What becomes of a deploy while another operation runs."""
