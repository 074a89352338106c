"""What shapes a model's outputs have where inputs of free sizes get one: by running it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgepack.graph.compare import run_model
from edgepack.graph.feeds import random_feeds
from edgepack.graph.input_ranges import input_ranges, narrower
from edgepack.specs.model import OnnxModel, TensorSpec

if TYPE_CHECKING:
    from edgepack.specs.types import Array

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Sized:
    """Inputs and outputs of a model that ran with sizes: ``inputs`` as it was fed, ``outputs`` as it answered."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def first_that_runs(model: OnnxModel, name: str, shapes: tuple[Shape, ...]) -> Sized | None:
    """Return the model's shapes with the first of ``shapes`` for the input ``name`` with which it runs; else None.

    Other free sizes are 1. Whether the answers mean anything is not looked at.
    """
    for shape in shapes:
        inputs = tuple(replace(spec, shape=shape) if spec.name == name else spec for spec in model.inputs)
        if (outputs := _run(model, inputs)) is not None:
            specs = (replace(spec, shape=outputs[spec.name].shape) for spec in model.outputs)
            return Sized(inputs, tuple(specs))
    return None


def _run(model: OnnxModel, inputs: tuple[TensorSpec, ...]) -> dict[str, Array] | None:
    for ranges in narrower(input_ranges(model)):
        try:
            return run_model(model, random_feeds(inputs, ranges=ranges))
        except Exception:  # whatever ONNX Runtime raises for a size that the model does not take
            continue
    return None
