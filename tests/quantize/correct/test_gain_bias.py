"""Gains and biases, corrected layer by layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from quantize_models import minmax_ranges, normal, uneven

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples, read_samples
from edgepack.quantize.correct import gain_bias
from edgepack.quantize.correct.gain_bias import FloatOutputs, correct_outputs
from edgepack.quantize.graph.replay import Walk
from edgepack.quantize.plan import make_plan, nearest_integers
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path


RULES = QuantizationRules(engine="onnxruntime")


def test_gains_and_biases_bring_every_output_channel_to_its_mean_and_size(tmp_path: Path) -> None:
    """Integers that are all too small by 3 % and a bias that is off: both are made good behind them."""
    model = uneven(tmp_path)
    np.savez(tmp_path / "data.npz", x=normal(40, 3, 6, 6, seed=5))
    samples = find_samples(str(tmp_path / "data.npz"), model.inputs, None)
    plan = make_plan(model, calibrate(model, samples, "minmax", 99.99, tmp_path / "ranges"), RULES)
    plain = nearest_integers(plan)
    wrong = {
        name: dataclasses.replace(
            w, scale=(w.scale / 1.03).astype(np.float32), bias=None if w.bias is None else w.bias * 2
        )
        for name, w in plain.items()
    }
    feeds = list(read_samples(samples, model.inputs))
    found = correct_outputs(FloatOutputs(plan, feeds), wrong)
    assert (found["first"].values == plain["first"].values).all()
    np.testing.assert_allclose(found["first"].scale, plain["first"].scale, rtol=5e-3)
    allowed = 0.01 * np.abs(plain["first"].bias).max()
    np.testing.assert_allclose(found["first"].bias, plain["first"].bias, atol=float(allowed))


def test_the_float_models_means_are_those_of_its_outputs_in_passes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = uneven(tmp_path)
    feeds = [{"x": normal(1, 3, 6, 6, seed=seed)} for seed in range(5)]
    plan = make_plan(model, minmax_ranges(model, feeds), RULES)
    monkeypatch.setattr(gain_bias, "_LAYERS_A_PASS", 1)
    means = FloatOutputs(plan, feeds).means
    whole = Walk(plan.proto, feeds)
    whole.go(whole.places()["first"], "a")
    expected = [values["a"].mean(axis=(0, 2, 3)) for values in whole.live]
    np.testing.assert_allclose(means["first"], expected, rtol=1e-4, atol=1e-5)
    assert means["second"].shape == (5, 4)
