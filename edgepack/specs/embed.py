"""What of a task is computed in the engine's own graph, and how that was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepack.specs.types import Part


@dataclass(frozen=True)
class Way:
    """Median times of one way from a picture of the model's size to its answer, in ns; ``engine_ns`` of the engine."""

    total_ns: int
    engine_ns: int


@dataclass(frozen=True)
class EmbeddedCheck:
    """How a model with parts of its task in the graph compares with the same model without them.

    ``done`` says of each part what was done. Of ``samples`` pictures ``same`` have the same answer both ways, and
    ``things`` are how many boxes, classes, masks or outputs were compared for that. ``largest`` is the largest
    difference of what was compared: sides of boxes in pixels of the input, scores of classes, the share of a mask's
    pixels, or values of outputs over the largest one. ``outer`` and ``embedded`` are None where nothing was timed, each
    is over ``timed`` inferences, in turn with the other. All are of pictures of the input's size; ``enlarged`` is the
    mean share of a mask's pixels that differ where the picture has twice its sides, None for other answers.
    """

    done: Mapping[Part, str] = field(default_factory=dict)
    samples: int = 0
    same: int = 0
    largest: float = 0.0
    outer: Way | None = None
    embedded: Way | None = None
    timed: int = 0
    things: int = 0
    engine: str = ""
    enlarged: float | None = None
