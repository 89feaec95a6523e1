"""An app, as the server knows it."""

from __future__ import annotations

from safepoint.core.queueing import OnBusy
from safepoint.record import Record


class App(Record):
    name: str
    branch: str
    """The deploy branch; on the server it is always exactly what runs."""
    created: float
    on_busy: OnBusy = OnBusy.QUEUE
    """What becomes of a deploy while another operation runs."""
