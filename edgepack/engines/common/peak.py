"""One timed kernel of a peak probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepack.specs.types import Precision


@dataclass(frozen=True)
class Trial:
    """Something to time: ``call`` does ``amount`` operations in a precision, or moves ``amount`` bytes of a set."""

    kernel: str
    amount: int
    call: Callable[[], Any]
    precision: Precision | None = None
    working_set_bytes: int | None = None
