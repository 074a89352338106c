"""Postprocessing as ONNX operators: what a model's task answers, in its graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias

from edgepack.embed.boxes import put_boxes
from edgepack.embed.decoding import refuse_decoder
from edgepack.embed.masks import put_mask
from edgepack.embed.operators import Operators
from edgepack.embed.wished import Answered, Wished
from edgepack.errors import ConfigError
from edgepack.specs.task import Task
from edgepack.tasks import PICTURE_CLASSES, read_settings
from edgepack.tasks.image_classification import Settings as ClassSettings

Put: TypeAlias = Callable[[Operators, Wished], Answered]


def check_postprocessing(task: Task | None) -> None:
    """Raise ``ConfigError`` for a task whose answers are not made in the graph."""
    if task is None:
        return  # class scores, or nothing that is known: the model's outputs say it
    if task.kind not in _PUT:
        raise ConfigError(
            f"--embed postprocessing: answers of {task.kind} are not made in the graph",
            hint=f"leave postprocessing out; it is for {', '.join(_PUT)}",
        )
    if task.decoder:
        refuse_decoder(task.decoder)


def put_answers(operators: Operators, wished: Wished) -> Answered:
    """Replace the outputs of a graph by answers. Raises ``ConfigError`` for those that have none in the graph."""
    check_postprocessing(wished.task)
    graph = operators.view.graph
    del graph.output[:]
    return _PUT[wished.task.kind](operators, wished)


def _put_classes(made: Operators, wished: Wished) -> Answered:
    """Append softmax or sigmoid where the scores are none yet, and the choice of the best classes."""
    settings = read_settings(ClassSettings, wished.task.settings)
    name, shape = next(iter(wished.outputs.items()))
    count = 1
    for size in shape[1:]:
        count *= size
    if len(shape) < 2 or count < 2:
        raise ConfigError(
            f"--embed postprocessing: the output {name!r} {list(shape)} is not a row of class scores",
            hint="leave postprocessing out, or name a task with --task",
        )
    flat = made.make("Reshape", [name, made.const([1, count], "int64")])
    activation = settings.activation
    activation = ("none" if wished.probabilities else "softmax") if activation == "auto" else activation
    if activation == "softmax":
        flat = made.make("Softmax", [flat], axis=1)
    elif activation == "sigmoid":
        flat = made.make("Sigmoid", [flat])
    top = min(settings.top, count)
    values, numbers = made.highest(flat, top, count)
    made.output(values, "scores", "float32", [1, top])
    made.output(numbers, "classes", "int32", [1, top])
    chosen = {**wished.task.settings, "activation": "none", "final": True}
    words = "" if activation == "none" else f"{activation} and "
    return Answered(dataclasses.replace(wished.task, settings=chosen), f"{words}the best {top} classes")


_PUT: Mapping[str, Put] = {
    PICTURE_CLASSES: _put_classes,
    "object-detection": put_boxes,
    "keypoints": put_boxes,
    "semantic-segmentation": put_mask,
}
