"""An app, as the server knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class App:
    name: str
    branch: str
    """The deploy branch; on the server it is always exactly what runs."""
    created: float
