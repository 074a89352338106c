"""What the report says of a model."""

from __future__ import annotations

from pathlib import Path

from small_bundles import small_onnx

from edgepack.graph.load import load_model
from edgepack.pipeline.stages.describe import model_facts


def test_parameters_and_multiply_adds_are_those_of_the_graph(tmp_path: Path) -> None:
    """A convolution of 3x3 from 3 to 8 channels with biases at 8x8 places, and a product of 8 with 5."""
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    facts = model_facts(model, tmp_path)
    assert facts.parameters == 3 * 9 * 8 + 8 + 8 * 5
    assert facts.macs == 3 * 9 * 8 * 8 * 8 + 8 * 5
    assert (facts.opset, facts.inputs, facts.outputs) == (model.opset, model.inputs, model.outputs)
