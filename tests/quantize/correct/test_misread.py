"""Layers that an engine reads otherwise than they are written are found and left in float."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantize_models import node, save

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples
from edgepack.quantize.correct import quantize_corrected
from edgepack.quantize.correct.misread import find_misread
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from collections.abc import Set
    from pathlib import Path

LAYERS = [f"layer{i}" for i in range(13)]


def gap_of(wrong: Set[str], left: tuple[str, ...]) -> float:
    """30 dB are lost as long as one of the wrong layers is in int8."""
    return 30.0 * len(wrong - set(left))


@given(st.sets(st.sampled_from(LAYERS), min_size=1, max_size=3))
def test_every_layer_to_blame_is_found_and_no_other(wrong: set[str]) -> None:
    found = find_misread(LAYERS, lambda left: gap_of(wrong, left))
    assert found is not None
    assert set(found) == wrong


def test_more_than_three_or_none_of_the_layers_is_no_answer() -> None:
    assert find_misread(LAYERS, lambda left: gap_of(set(LAYERS[:4]), left)) is None
    assert find_misread(LAYERS, lambda _: 30.0) is None
    assert find_misread([], lambda _: 30.0) is None


def test_it_tries_about_twice_the_logarithm_of_the_layers() -> None:
    tried: list[tuple[str, ...]] = []

    def gap(left: tuple[str, ...]) -> float:
        tried.append(left)
        return gap_of({"layer7"}, left)

    find_misread(LAYERS, gap)
    assert len(tried) <= 2 * 4 + 2


@pytest.mark.slow
def test_openvinos_product_with_a_stack_of_matrices_stays_in_float(tmp_path: Path) -> None:
    """OpenVINO 2026.4 computes garbage for it in int8, followed by a factor for each channel."""
    random = np.random.default_rng(0)
    constants = {
        "w0": random.normal(0, 0.5, (8, 8)).astype(np.float32),
        "w1": random.normal(0, 0.25, (4, 8, 8)).astype(np.float32),
        "scale": random.uniform(0.5, 2, 8).astype(np.float32),
    }
    nodes = [
        node("MatMul", "x w0", "a"),
        node("Relu", "a", "r"),
        node("MatMul", "r w1", "b"),
        node("Mul", "b scale", "y"),
    ]
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ("n", 1, 12, 8)})
    np.savez(tmp_path / "x.npz", x=random.standard_normal((24, 1, 12, 8)).astype(np.float32))
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    ranges = calibrate(model, samples, "minmax", 99.99, tmp_path / "ranges")
    found = quantize_corrected(model, ranges, QuantizationRules(engine="openvino"), samples, "medium", tmp_path / "out")
    (step,) = (step for step in found.steps if step.name.startswith("in float, as the engine"))
    assert step.kept
    assert step.name.endswith(": b")
    assert step.sqnr_db is not None
    assert step.sqnr_db > 30
    of_onnxruntime = quantize_corrected(model, ranges, QuantizationRules(), samples, "medium", tmp_path / "ort")
    assert not [step for step in of_onnxruntime.steps if step.name.startswith("in float, as the engine")]
