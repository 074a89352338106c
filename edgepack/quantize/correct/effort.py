"""How much work the corrections may do: ``--effort``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from edgepack.base.documents import suggestion
from edgepack.errors import ConfigError
from edgepack.specs.types import Effort


@dataclass(frozen=True)
class Budget:
    """What one effort allows.

    At most ``fitting`` samples are fitted on and ``judging`` others judge. ``second_order``: integers are searched by
    second moments. ``branches`` are how many ways of combining the steps go on beside each other; with ``outlook`` a
    step is judged with the biases corrected behind it, as some bring nothing without. ``groups`` of operators around a
    tensor are measured, and the beginning and the end of the network; the worst ones are left in float, as many at a
    time as ``sizes`` says, where corrections do not suffice.
    """

    fitting: int
    judging: int
    second_order: bool
    branches: int
    outlook: bool
    groups: int
    sizes: tuple[int, ...]


EFFORTS: Mapping[Effort, Budget] = {
    "low": Budget(16, 16, second_order=False, branches=1, outlook=False, groups=0, sizes=(1,)),
    "medium": Budget(32, 32, second_order=True, branches=1, outlook=True, groups=12, sizes=(1, 2, 4)),
    "high": Budget(128, 64, second_order=True, branches=4, outlook=True, groups=32, sizes=(1, 2, 3, 4, 6, 8, 12)),
}


def find_budget(effort: str) -> Budget:
    """Return the budget of an effort. Raises ``ConfigError`` for a word that is none."""
    for name, budget in EFFORTS.items():
        if name == effort:
            return budget
    raise ConfigError(f"unknown effort {effort!r}", hint=suggestion(effort, get_args(Effort)))
