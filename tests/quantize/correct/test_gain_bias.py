"""Gains and biases, corrected layer by layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from quantize_models import minmax_ranges, node, normal, save, uneven

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples, read_samples
from edgepack.quantize.correct import gain_bias
from edgepack.quantize.correct.gain_bias import FloatOutputs, correct_outputs
from edgepack.quantize.graph.index import index_graph
from edgepack.quantize.graph.replay import Walk
from edgepack.quantize.insert import insert
from edgepack.quantize.plan import make_plan, nearest_integers
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.quantize.weights import IntegerWeights
    from edgepack.specs.types import Array


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


def _noisy(w: IntegerWeights, seed: int) -> IntegerWeights:
    """Weights with an error about an eighth as large as they are."""
    error = np.random.default_rng(seed).normal(0, 0.125 * w.values.std(), w.values.shape)
    values = np.clip(np.rint(w.values + error), -127, 127).astype(w.values.dtype)
    return dataclasses.replace(w, values=values)


def test_the_last_layers_alone_keep_how_much_their_outputs_vary(tmp_path: Path) -> None:
    """The nearest of all lines through noisy outputs is too flat, which is wanted inside and not at the end."""
    nodes = [node("Conv", "x w1 b1", "first"), node("Relu", "first", "r"), node("Conv", "r w2 b2", "last")]
    sizes = {"w1": (16, 8, 1, 1), "b1": (16,), "w2": (4, 16, 1, 1), "b2": (4,)}
    constants = {name: normal(*size, seed=seed) for seed, (name, size) in enumerate(sizes.items())}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ["N", 8, 6, 6]}, outputs=("last",))
    feeds = [{"x": normal(1, 8, 6, 6, seed=seed)} for seed in range(40)]
    plan = make_plan(model, minmax_ranges(model, feeds), RULES)
    wrong = {name: _noisy(w, seed) for seed, (name, w) in enumerate(nearest_integers(plan).items())}
    corrected = correct_outputs(FloatOutputs(plan, feeds), wrong)
    quantized = gain_bias.copy_proto(plan.proto)
    insert(quantized, index_graph(quantized), plan.placement, corrected, plan.rules)

    def slopes_and_spreads(layer: str) -> tuple[Array, Array]:
        runs = []
        for proto in (plan.proto, quantized):
            name = next(node.output[0] for node in proto.graph.node if node.name == layer)
            walk = Walk(proto, feeds)
            walk.go(walk.places()[layer], name)
            runs.append(np.stack([values[name] for values in walk.live])[:, 0])
        y, z = (np.moveaxis(run, 1, 0).reshape(run.shape[1], -1).astype(np.float64) for run in runs)
        slope = [np.polyfit(b, a, 1)[0] for a, b in zip(y, z, strict=True)]
        return np.array(slope), z.std(axis=1) / y.std(axis=1)

    slope, spread = slopes_and_spreads("first")
    np.testing.assert_allclose(slope, 1, atol=2e-4)
    assert (spread < 0.9995).all()
    slope, spread = slopes_and_spreads("last")
    np.testing.assert_allclose(spread, 1, atol=2e-4)
    assert (slope < 0.998).all()


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
