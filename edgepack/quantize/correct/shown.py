"""Counts the boxes of fp32 that an int8 model shows as well, which the balanced SQNR of a detector does not tell.

A box is shown from some score on, and many have one just above it, which little noise hides: detectors of 15 to 16 dB
showed 91 to 93 % of the boxes of fp32 again, those of 23 dB 96 and 97 % (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.errors import EdgepackError
from edgepack.specs.answer import Boxes
from edgepack.tasks import TASKS, TENSORS, answer
from edgepack.verify.found_again import kind_of_answer

if TYPE_CHECKING:
    from edgepack.specs.task import Frame, Task
    from edgepack.specs.types import Array

    Outputs = Mapping[str, Array]

# Of fewer boxes one alone is three points.
FEWEST_BOXES = 32


@dataclass(frozen=True)
class Shown:
    """The boxes that fp32 shows in each sample, and where each sample lies in the model's input."""

    task: Task
    frames: tuple[Frame, ...]
    boxes: tuple[Boxes, ...]

    @property
    def count(self) -> int:
        """How many boxes there are in all samples."""
        return sum(map(len, self.boxes))

    def share(self, found: Sequence[Outputs]) -> float:
        """Return the share of the boxes that ``found``, the outputs for the same samples, show again."""
        lost = 0
        for boxes, frame, outputs in zip(self.boxes, self.frames, found, strict=True):
            kind = kind_of_answer(boxes)
            assert kind is not None, "boxes are compared by their overlap"
            shown = answer(self.task, outputs, frame)
            lost += kind.compare(boxes, shown, shown).lost
        return 1 - lost / self.count


def find_shown(task: Task | None, frames: Sequence[Frame], expected: Sequence[Outputs]) -> Shown | None:
    """Return what fp32's outputs show; None where the task's answers are not boxes, or where it cannot read them."""
    if task is None or task.kind == TENSORS or TASKS.get(task.kind).stream is not None:
        return None
    boxes = []
    for frame, outputs in zip(frames, expected, strict=True):
        try:
            found = answer(task, outputs, frame)
        except EdgepackError:  # the evaluation says why
            return None
        if not isinstance(found, Boxes):
            return None
        boxes.append(found)
    return Shown(task, tuple(frames), tuple(boxes))
