"""Samples far larger than the others are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from quantize_models import node, save

from edgepack.data.samples import find_samples
from edgepack.lint import lint
from edgepack.specs.data import Lint

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array


def found(values: Array, tmp_path: Path) -> Lint:
    model = save([node("Relu", "x", "y")], {}, tmp_path / "m.onnx", inputs={"x": ("n", 3, 8, 8)})
    np.savez(tmp_path / "x.npz", x=values)
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    return lint(model, samples, None, "auto", 99.99, tmp_path / "out")


def normal(count: int = 24) -> Array:
    return np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32)


def test_the_sample_is_named_with_its_size(tmp_path: Path) -> None:
    values = normal()
    values[17] *= 1000
    (finding,) = (f for f in found(values, tmp_path).findings if f.check == "outliers")
    assert finding.severity == "warning"
    assert "1 of 24 samples" in finding.message
    assert "sample 17" in finding.message
    assert finding.hint is not None
    assert "--observer auto" in finding.hint


@pytest.mark.parametrize("factor", [1.0, 5.0])
def test_usual_samples_are_not_blamed(factor: float, tmp_path: Path) -> None:
    values = normal()
    values[17] *= factor
    assert not [f for f in found(values, tmp_path).findings if f.check == "outliers"]


def test_data_of_two_kinds_are_no_outliers(tmp_path: Path) -> None:
    values = normal()
    values[::2] *= 1000
    assert not [f for f in found(values, tmp_path).findings if f.check == "outliers"]


def test_too_few_samples_say_nothing(tmp_path: Path) -> None:
    values = normal(3)
    values[1] *= 1000
    assert not [f for f in found(values, tmp_path).findings if f.check == "outliers"]
