"""The names of `typing` that annotations are written with, for what starts with every push: `typing` takes 3 ms.

Annotations are never evaluated here (PEP 563), so the names need not mean anything where a program runs.
"""

from __future__ import annotations

__all__ = ["IO", "TYPE_CHECKING", "Any", "BinaryIO", "ClassVar", "NoReturn", "Protocol", "Self"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, BinaryIO, ClassVar, NoReturn, Protocol, Self
else:
    IO = Any = BinaryIO = ClassVar = NoReturn = Self = object
    Protocol = object
