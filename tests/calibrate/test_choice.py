"""The range of each tensor is the one that changes the layers reading it least."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from quantize_models import node, save

from edgepack.calibrate import calibrate
from edgepack.calibrate.choice import SAMPLES, _added
from edgepack.data.samples import find_samples, take_samples
from edgepack.specs.data import Ranges
from edgepack.specs.model import OnnxModel

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array


def model_of(tmp_path: Path, *, opset: int = 17) -> OnnxModel:
    weights = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "y")]
    return save(nodes, {"w": weights}, tmp_path / "m.onnx", inputs={"x": (1, 3, 8, 8)}, opset=opset)


def ranges_of(model: OnnxModel, values: Array, observer: str, tmp_path: Path) -> Ranges:
    np.savez(tmp_path / "x.npz", x=values)
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    return calibrate(model, samples, observer, 99.99, tmp_path / "out")


def normal(count: int = 6) -> Array:
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("opset", [13, 18])
def test_usual_values_keep_their_extremes(opset: int, tmp_path: Path) -> None:
    model = model_of(tmp_path, opset=opset)
    found = ranges_of(model, normal(), "auto", tmp_path)
    plain = ranges_of(model, normal(), "minmax", tmp_path)
    assert {r.chosen for r in found.tensors.values()} == {"minmax"}
    assert {n: (r.low, r.high, r.magnitude) for n, r in found.tensors.items()} == {
        n: (r.low, r.high, r.magnitude) for n, r in plain.tensors.items()
    }


def test_one_wild_value_does_not_take_the_levels_of_all_others(tmp_path: Path) -> None:
    values = normal()
    samples = np.concatenate([values] * 4)
    samples[-1, 0, 0, 0] = 1000.0  # not among the samples that ranges are tried on, or clipped beside thousands
    model = model_of(tmp_path)
    found = ranges_of(model, samples, "auto", tmp_path).tensors["x"]
    assert found.maximum == 1000.0
    assert found.chosen != "minmax"
    assert found.high < 50


def test_a_peak_that_layers_read_is_kept(tmp_path: Path) -> None:
    values = normal()
    values[:, :, 0, 0] = 60.0  # in every sample: what a detector looks for
    found = ranges_of(model_of(tmp_path), values, "auto", tmp_path).tensors["x"]
    assert found.high == pytest.approx(60.0, rel=0.1)


def test_a_peak_of_samples_that_ranges_are_not_chosen_on_is_kept(tmp_path: Path) -> None:
    """Most calibration pictures of a detector show background: what boxes are found by is in few of them."""
    model, values = model_of(tmp_path), normal(24)
    np.savez(tmp_path / "x.npz", x=values)
    few = take_samples(find_samples(str(tmp_path / "x.npz"), model.inputs, None), SAMPLES, 0)
    others = [n for n in range(len(values)) if n not in few.indices]
    values[others[::2], :, 0, 0] = 60.0
    found = ranges_of(model, values, "auto", tmp_path).tensors["x"]
    assert (found.chosen, found.high) == ("minmax", 60.0)


def test_the_same_samples_give_the_same_ranges(tmp_path: Path) -> None:
    model, values = model_of(tmp_path), normal()
    assert ranges_of(model, values, "auto", tmp_path) == ranges_of(model, values, "auto", tmp_path)


def test_tensors_that_no_layer_reads_are_judged_by_themselves(tmp_path: Path) -> None:
    model = save(
        [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")], {}, tmp_path / "m.onnx", inputs={"x": (1, 3, 8, 8)}
    )
    found = ranges_of(model, normal(), "auto", tmp_path)
    assert found.tensors["x"].chosen == "minmax"


def test_samples_of_other_lengths_are_summed_place_by_place() -> None:
    """Where the last axis is the sequence, as of attention, samples have as many channels as they are long."""
    sums = _added(None, np.array([1.0, 2.0]))
    sums = _added(sums, np.array([1.0, 1.0, 5.0]))
    assert _added(sums, np.array([1.0])).tolist() == [3.0, 3.0, 5.0]
