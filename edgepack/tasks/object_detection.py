"""object-detection: the things in a picture, with boxes in pixels of the picture itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.answer import Answer, Boxes
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.boxes import points_to_picture, suppress, to_picture
from edgepack.tasks.decoders import DECODERS, Candidates, Wanted
from edgepack.tasks.draw import draw_boxes
from edgepack.tasks.pictures import prepare_picture

_MOST = 100_000
_FAR = 1e9  # pixels: no side of a box is further away


@dataclass(frozen=True)
class Settings:
    """Which boxes are answers.

    A box is shown from ``score`` on, and counts for a metric from ``measured_score`` on; at most ``most`` are, of
    ``candidates`` that are looked at. Boxes of one class that overlap by more than ``iou`` are of one thing;
    ``agnostic`` means those of any class. ``every_class`` lets one place count for several classes when a metric is
    measured, as some training programs do.
    """

    score: float = 0.25
    measured_score: float = 0.001
    iou: float = 0.6
    most: int = 100
    candidates: int = 3000
    agnostic: bool = False
    every_class: bool = False


def find_boxes(task: Task, outputs: Mapping[str, Array], frame: Frame, measuring: bool) -> Boxes:
    """Return the boxes of one picture, best first."""
    settings = read_settings(Settings, task.settings)
    decoder = DECODERS.get(task.decoder)
    made = read_settings(decoder.parameters, task.parameters, "parameters")
    least = settings.measured_score if measuring else settings.score
    found = decoder.decode(outputs, made, frame, Wanted(least, settings.every_class and measuring))
    _check_classes(task, found.classes)
    chosen = _chosen(found, settings, final=decoder.final)
    points = None if found.points is None else points_to_picture(found.points[chosen], frame)
    if points is not None:
        points[~(np.abs(points) < _FAR).all(axis=2)] = 0  # a point that is nowhere has no score
    return Boxes(
        corners=to_picture(found.corners[chosen], frame),
        scores=found.scores[chosen].astype(np.float64),
        numbers=found.numbers[chosen],
        height=frame.height,
        width=frame.width,
        names=task.classes,
        points=points,
    )


def _check_classes(task: Task, classes: int | None) -> None:
    """Raise ``DataError`` where the task names other classes than the model has: its answers would have wrong names."""
    if task.classes and classes is not None and classes != len(task.classes):
        raise DataError(
            f"the model has {classes} classes, and the task names {len(task.classes)}",
            hint="list the model's own in [task] classes of a recipe; 'edgepack recipes new' begins one",
        )


def _chosen(found: Candidates, settings: Settings, *, final: bool) -> Array:
    """Return the indices of the boxes that are kept, best first; boxes that are not finite are none."""
    near = (np.abs(found.corners) < _FAR).all(axis=1)
    usable = np.flatnonzero(near & np.isfinite(found.scores) & (found.numbers >= 0))
    order = usable[np.argsort(-found.scores[usable], kind="stable")][: settings.candidates]
    if final:
        return order[: settings.most]
    numbers = None if settings.agnostic else found.numbers[order]
    return order[suppress(found.corners[order], found.scores[order], numbers, settings.iou, settings.most)]


def check_detection(task: Task) -> None:
    """Raise ``ConfigError`` for a decoder, parameters or settings that cannot be meant."""
    no_more(task, decoder=True, parameters=True)
    if not task.decoder:
        raise ConfigError(
            f"{task.kind} needs a decoder",
            hint=f"write decoder = ..., or --task {task.kind}:{next(iter(DECODERS.own))}",
        )
    decoder = DECODERS.get(task.decoder)
    made = read_settings(decoder.parameters, task.parameters, "parameters")
    if decoder.check is not None:
        decoder.check(made)
    settings = read_settings(Settings, task.settings)
    for name in ("score", "measured_score", "iou"):
        value: Any = getattr(settings, name)
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} = {value}", hint="write 0 to 1")
    if not 1 <= settings.most <= _MOST or not 1 <= settings.candidates <= _MOST:
        raise ConfigError(f"most = {settings.most}, candidates = {settings.candidates}", hint=f"write 1 to {_MOST}")


def _answer(task: Task, outputs: Mapping[str, Array], frame: Frame, measuring: bool) -> Answer:
    return find_boxes(task, outputs, frame, measuring)


TASK = TaskKind(
    "the things in a picture",
    "a picture",
    prepare_picture,
    _answer,
    check_detection,
    ("map", "map50", "mar"),
    draw_boxes,
)
