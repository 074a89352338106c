"""What each quantized layer costs in noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from quantize_models import minmax_ranges, random_feeds, run_onnxruntime, save

from edgepack.data.samples import find_samples
from edgepack.quantize import quantize
from edgepack.quantize.sensitivity import balanced_noise, quantized_layers, run_model, sensitivity
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules
from edgepack.verify.parts import Parts

RULES = QuantizationRules()


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    """The weights of "rough" lie between the integers of their scale; those of "exact" are integers."""
    random = np.random.default_rng(0)
    exact = random.integers(-127, 128, (4, 4, 1, 1)).astype(np.float32)
    exact[:, 0] = 127
    rough = random.standard_normal((4, 4, 1, 1)).astype(np.float32) * 0.01
    rough[:, 0] = 1
    nodes = [
        helper.make_node("Conv", ["x", "exact_w"], ["a"], name="exact"),
        helper.make_node("Conv", ["a", "rough_w"], ["y"], name="rough[0]"),  # a name with a pattern's letters
    ]
    constants = {"exact_w": exact / 127, "rough_w": rough}
    return save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ["N", 4, 5, 5]})


def test_the_layer_that_is_stored_badly_costs_most(model: OnnxModel, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((20, 4, 5, 5), np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    samples = find_samples(str(tmp_path / "data.npz"), model.inputs, None)
    told: list[tuple[str, int, int]] = []
    ranges = minmax_ranges(model, [{"x": x}])
    found = sensitivity(model, ranges, RULES, samples, tmp_path / "out", lambda *what: told.append(what))
    assert list(found.noises) == ["exact", "rough[0]"]
    assert found.noises["rough[0]"] > 0
    assert found.macs == {"exact": 16 * 25, "rough[0]": 16 * 25}
    assert told == [("sensitivity", 1, 2), ("sensitivity", 2, 2)]
    assert list((tmp_path / "out").iterdir()) == []


def test_layers_are_those_with_dequantized_weights(model: OnnxModel, tmp_path: Path) -> None:
    ranges = minmax_ranges(model, random_feeds(model, 3))
    whole = quantize(model, ranges, RULES, tmp_path / "q")
    part = quantize(model, ranges, QuantizationRules(leave=("exact",)), tmp_path / "p")
    assert quantized_layers(onnx.load(model.path)) == ()
    assert quantized_layers(onnx.load(whole.path)) == ("exact", "rough[0]")
    assert quantized_layers(onnx.load(part.path)) == ("rough[0]",)


def test_a_model_is_run_on_every_feed(model: OnnxModel) -> None:
    feeds = random_feeds(model, 3)
    found = run_model(model, [dict(feed) for feed in feeds])
    for outputs, expected in zip(found, run_onnxruntime(model, feeds), strict=True):
        np.testing.assert_allclose(outputs["y"], expected[0], rtol=1e-5, atol=1e-6)


def one(**values: Any) -> list[dict[str, Any]]:
    return [{name: np.asarray(value, np.float32) for name, value in values.items()}]


@pytest.mark.parametrize(
    ("expected", "found", "value"),
    [
        (one(y=[3, 4]), one(y=[3, 4]), 0.0),
        (one(y=[3, 4]), one(y=[3, 5]), 1 / 25),
        (one(y=[3, 4], z=[1, 0]), one(y=[3, 5], z=[0, 0]), (1 / 25 + 1) / 2),  # the mean over outputs
        (one(y=[3, 4], z=[0, 0]), one(y=[3, 5], z=[0, 2]), 1 / 25),  # one without a signal does not count
        (one(y=[3, 0]) + one(y=[0, 4]), one(y=[3, 0]) + one(y=[1, 4]), 1 / 25),
    ],
)
def test_noise_is_energy_over_energy(expected: Any, found: Any, value: float) -> None:
    assert balanced_noise(expected, found, {}) == pytest.approx(value)


def test_parts_of_an_output_count_alike() -> None:
    parts = {"y": Parts(np.array([0, 0, 1], np.int32), ("boxes", "scores"))}
    assert balanced_noise(one(y=[30, 40, 1]), one(y=[30, 40, 2]), parts) == pytest.approx(1 / 2)


def test_what_all_samples_have_in_common_is_no_signal() -> None:
    expected = [{"y": np.float32([100 + sign])} for sign in (-1, 1) * 4]
    lost = [{"y": np.float32([100])}] * 8
    assert balanced_noise(expected, lost, {}) == pytest.approx(7 / 8)  # the mean is of the eight themselves


@given(st.floats(0.01, 100), st.integers(0, 50))
def test_noise_does_not_depend_on_the_unit(factor: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((2, 8))
    expected, found = ([{"y": value * factor}] for value in (first, second))
    plain = balanced_noise([{"y": first}], [{"y": second}], {})
    assert balanced_noise(expected, found, {}) == pytest.approx(plain, rel=1e-6)
