"""embed(): a model of one precision with parts of its task in its graph."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from edgepack.base.stage import stage
from edgepack.base.versions import is_older
from edgepack.data.preprocess import picture_shape
from edgepack.embed import operators
from edgepack.embed.answers import check_postprocessing, put_answers
from edgepack.embed.pixels import left_outside, take_pixels
from edgepack.embed.wished import Wished
from edgepack.engines import ENGINES
from edgepack.errors import ConfigError
from edgepack.graph.load import read_proto, save_proto
from edgepack.specs.data import Preprocessing, Recipe
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array, Part
from edgepack.tasks import PICTURE_CLASSES
from edgepack.verify.golden import read_golden

if TYPE_CHECKING:
    import onnx

_OF_ONE = 0.02  # class scores are probabilities where they add up to 1 within it


@dataclass(frozen=True)
class EmbeddedModel:
    """A model with parts of its task in the graph, how its input is made and its outputs are read, and what was done.

    ``preprocessing`` is what stays outside; ``task`` is None where nobody said any and none was needed.
    """

    model: OnnxModel
    preprocessing: Preprocessing | None
    task: Task | None
    done: Mapping[Part, str]


def check_parts(parts: Sequence[str], recipe: Recipe | None, task: Task | None) -> None:
    """Raise ``ConfigError`` for what cannot be embedded whatever the model is."""
    for part in parts:
        if part not in get_args(Part):
            raise ConfigError(
                f"--embed {part[:80]!r} is not a part to embed", hint=f"write {' or '.join(get_args(Part))}, or both"
            )
    if "preprocessing" in parts and recipe is not None:
        _check_preprocessing(recipe.preprocessing)
    if "postprocessing" in parts:
        check_postprocessing(task)


def _check_preprocessing(made: Preprocessing | None) -> None:
    if made is None:
        raise ConfigError(
            "--embed preprocessing is for models of pictures, and the recipe is for other things",
            hint="leave preprocessing out",
        )
    if made.dtype != "float32":
        raise ConfigError(
            "--embed preprocessing: the model takes pixels as they are already", hint="leave preprocessing out"
        )
    if any(isinstance(size, str) for size in picture_shape(made)):
        raise ConfigError(
            "--embed preprocessing: the recipe makes pictures of their own size",
            hint="give it a resize or a crop; resizing stays outside the engine",
        )


def refuse_engine(parts: Sequence[Part], target: Target) -> None:
    """Raise ``ConfigError`` where a target's engine does not read uint8."""
    engine = ENGINES.get(target.backend)
    if "preprocessing" in parts and not has(engine.pixels, target):
        since = f" before {engine.pixels}" if engine.pixels else ""
        raise ConfigError(
            f"--embed preprocessing: {engine.title}{since} does not read uint8 pixels",
            hint="leave preprocessing out for this target",
        )


def has(since: str, target: Target) -> bool:
    """Say whether a target's engine is of the version since which it has something; "" is none, "0" any."""
    known = target.engine.version
    return bool(since) and (known is None or not is_older(known, since))


@stage("embed")
def embed(
    model: OnnxModel,
    parts: tuple[Part, ...],
    made: Preprocessing | None,
    task: Task | None,
    golden: Path,
    suppresses: bool,
    integers: str,
    out: Path,
) -> EmbeddedModel:
    """Put ``parts`` into the graph of a model, which may be quantized or cast, and return it.

    ``made`` is how its input is made now, ``golden`` its golden vectors (the sizes of its outputs, and whether scores
    are probabilities), ``suppresses`` whether its engine has NonMaxSuppression and TopK, ``integers``
    how its int8 layers take bytes as they are. What a graph answers, it answers for
    one picture: the batch becomes 1 with postprocessing. Raises ``ConfigError``.
    """
    if made is None:
        raise ConfigError("--embed needs to know how pictures become inputs", hint="add --recipe")
    if len(model.inputs) != 1:
        raise ConfigError(f"--embed: the model has {len(model.inputs)} inputs", hint="it is for models of pictures")
    proto, written = operators.begin(read_proto(model), sorts=suppresses)
    done: dict[Part, str] = {}
    if "postprocessing" in parts:
        vectors = read_golden(golden)
        _one_picture(proto)
        answered = put_answers(written, _wished(model, made, task, vectors.outputs, suppresses))
        task, done["postprocessing"] = answered.task, answered.done
    if "preprocessing" in parts:
        done["preprocessing"] = take_pixels(proto, made, integers=integers)
        made = left_outside(made)
    operators.close(proto)
    return EmbeddedModel(save_proto(proto, out), made, task, dict(sorted(done.items())))


def _wished(
    model: OnnxModel,
    made: Preprocessing,
    task: Task | None,
    outputs: Sequence[Mapping[str, Array]],
    suppresses: bool,
) -> Wished:
    height, width = _sides(model, made)
    frame = Frame(height, width, height, width)
    shapes = {spec.name: outputs[0][spec.name].shape for spec in model.outputs}
    first = model.outputs[0].name
    return Wished(
        task or Task(PICTURE_CLASSES), shapes, frame, suppresses,
        probabilities=all(_adds_up(sample[first]) for sample in outputs), whole=outputs[0][first].dtype.kind in "iu",
    )  # fmt: skip


def _sides(model: OnnxModel, made: Preprocessing) -> tuple[int, int]:
    """Return height and width of the input. Raises ``ConfigError`` where these are free."""
    own, given = model.inputs[0].shape, picture_shape(made)
    sides = zip(own[2:4], given[1:3], strict=False) if made.layout == "NCHW" else zip(own[1:3], given[:2], strict=False)
    found = [side if isinstance(side, int) else size for side, size in sides]
    if len(found) != 2 or any(isinstance(side, str) for side in found):
        raise ConfigError(
            "--embed postprocessing: the size of the model's input is free",
            hint="fix it with --shape, or with resize or crop in the recipe",
        )
    return int(found[0]), int(found[1])


def _adds_up(scores: Array) -> bool:
    values = np.asarray(scores, np.float64).ravel()
    return bool(values.size and values.min() >= 0 and math.isclose(values.sum(), 1, abs_tol=_OF_ONE))


def _one_picture(proto: onnx.ModelProto) -> None:
    """Fix the batch to 1: the rows of boxes are those of one picture."""
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1


def with_classes(task: Task | None, classes: tuple[str, ...]) -> Task | None:
    """Return a task with the names of classes that the samples have, where it has none itself."""
    return dataclasses.replace(task, classes=classes) if task is not None and not task.classes else task
