"""What is to be put behind a model, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgepack.specs.task import Frame, Task


@dataclass(frozen=True)
class Wished:
    """What is to be put behind a model: its task, its outputs' shapes (a batch of 1), the size of its input.

    ``suppresses``: the engine has NonMaxSuppression. ``probabilities``: the first output was seen to be such.
    ``whole``: the first output is of integers.
    """

    task: Task
    outputs: Mapping[str, tuple[int, ...]]
    frame: Frame
    suppresses: bool
    probabilities: bool
    whole: bool = False


@dataclass(frozen=True)
class Answered:
    """How the new outputs are read, and what was done, in words."""

    task: Task
    done: str
