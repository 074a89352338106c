"""What the report says of the model itself."""

from __future__ import annotations

from pathlib import Path

from edgepack.base.stage import stage
from edgepack.graph.describe import describe
from edgepack.specs.build import ModelFacts
from edgepack.specs.model import OnnxModel


@stage("describe")
def model_facts(model: OnnxModel, out: Path) -> ModelFacts:  # noqa: ARG001 - a stage has a folder
    """Return parameters, multiply-adds of one sample, opset, inputs and outputs of a model."""
    found = describe(model)
    return ModelFacts(found.parameters, found.macs, found.opset, model.inputs, model.outputs)
