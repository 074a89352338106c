"""SQNR of every layer's output, in the whole int8 model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from quantize_models import minmax_ranges, save

from edgepack.data.samples import find_samples
from edgepack.quantize import layer_sqnr as module
from edgepack.quantize import quantize
from edgepack.quantize.layer_sqnr import layer_sqnr
from edgepack.specs.bundle import LayerRecords
from edgepack.specs.target import QuantizationRules


@pytest.fixture
def measured(tmp_path: Path) -> Any:
    """Quantize "one" (a Relu behind it), "two" and "left", and measure on so many samples."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w2"], ["b"], name="two"),
        helper.make_node("Conv", ["b", "w3"], ["y"], name="left"),
    ]
    constants = {f"w{n}": random.standard_normal((4, 4, 1, 1)).astype(np.float32) for n in (1, 2, 3)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ["N", 4, 5, 5]})

    def measure(count: int = 10, **more: Any) -> LayerRecords:
        x = random.standard_normal((count, 4, 5, 5)).astype(np.float32)
        np.savez(tmp_path / "data.npz", x=x)
        samples = find_samples(str(tmp_path / "data.npz"), model.inputs, None)
        rules = QuantizationRules(leave=("left",))
        changed = quantize(model, minmax_ranges(model, [{"x": x}]), rules, tmp_path / "q")
        return layer_sqnr(model, changed, samples, tmp_path / "unused", **more)

    return measure


def test_layers_with_weights_have_a_figure_and_the_others_do_not(measured: Any) -> None:
    found = measured()
    figures = {layer.name: layer.sqnr_db for layer in found.layers}
    assert list(figures) == ["one", "relu", "two", "left"]
    assert figures["relu"] is None
    assert all(20 < figures[name] < 80 for name in ("one", "two", "left"))
    # The noise of all layers before is in it.
    assert figures["one"] > figures["two"]


def test_records_say_what_was_asked_and_what_it_costs(measured: Any) -> None:
    layers = {layer.name: layer for layer in measured().layers}
    assert (layers["one"].asked, layers["left"].asked) == ("int8", "fp32")
    assert layers["left"].left == "left in float by the rules"
    assert (layers["one"].weighted, layers["relu"].weighted) == (True, False)
    assert layers["one"].macs == 4 * 4 * 25
    assert layers["one"].reads == "x_dequantized"


@pytest.mark.parametrize(("count", "used"), [(3, 3), (20, module.SAMPLES)])
def test_at_most_eight_samples_are_run(measured: Any, count: int, used: int) -> None:
    found = measured(count)
    assert found.samples == used
    assert found.engine.startswith("onnxruntime ")


def test_several_passes_give_the_same(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    whole = {layer.name: layer.sqnr_db is None for layer in measured(1).layers}
    monkeypatch.setattr(module, "_LAYERS_A_PASS", 1)
    parts = measured(1, progress=lambda *what: told.append(what))
    assert {layer.name: layer.sqnr_db is None for layer in parts.layers} == whole
    assert told == [("layers", n, 3) for n in range(4)]


def test_equal_outputs_are_identical_and_have_no_figure(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
    model = save(nodes, {"w": np.eye(3, dtype=np.float32)}, tmp_path / "m.onnx", inputs={"x": ["N", 3]})
    np.savez(tmp_path / "data.npz", x=np.ones((2, 3), np.float32))
    samples = find_samples(str(tmp_path / "data.npz"), model.inputs, None)
    (layer,) = layer_sqnr(model, model, samples, tmp_path).layers
    assert layer.identical
    assert layer.sqnr_db is None


def test_a_layer_that_is_always_zero_has_no_figure(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
    model = save(nodes, {"w": np.zeros((3, 3), np.float32)}, tmp_path / "m.onnx", inputs={"x": ["N", 3]})
    np.savez(tmp_path / "data.npz", x=np.ones((2, 3), np.float32))
    samples = find_samples(str(tmp_path / "data.npz"), model.inputs, None)
    (layer,) = layer_sqnr(model, model, samples, tmp_path).layers
    assert not layer.identical
    assert layer.sqnr_db is None


def test_the_figure_is_ten_times_the_logarithm_of_the_energies(tmp_path: Path) -> None:
    paths = []
    for name, factor in (("a", 1.0), ("b", 0.9)):
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
        weights = {"w": np.float32(factor) * np.eye(3, dtype=np.float32)}
        paths.append(save(nodes, weights, tmp_path / f"{name}.onnx", inputs={"x": ["N", 3]}))
    np.savez(tmp_path / "data.npz", x=np.float32([[1, 2, 3], [4, 5, 6]]))
    samples = find_samples(str(tmp_path / "data.npz"), paths[0].inputs, None)
    (layer,) = layer_sqnr(paths[0], paths[1], samples, tmp_path).layers
    assert layer.sqnr_db == pytest.approx(20, abs=1e-4)
    assert onnx.load(paths[1].path).graph.output[0].name == "y"


def test_a_small_channel_that_is_lost_is_not_hidden_by_a_large_one(tmp_path: Path) -> None:
    """Of four channels one is a thousand times the others, and one of these is zero in the second model."""
    paths = []
    for name, third in (("a", 1.0), ("b", 0.0)):
        nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
        weights = np.diag(np.float32([1000, 1, third, 1]))[:, :, None, None]
        paths.append(save(nodes, {"w": weights}, tmp_path / f"{name}.onnx", inputs={"x": ["N", 4, 2, 2]}))
    np.savez(tmp_path / "data.npz", x=np.ones((3, 4, 2, 2), np.float32))
    samples = find_samples(str(tmp_path / "data.npz"), paths[0].inputs, None)
    (layer,) = layer_sqnr(paths[0], paths[1], samples, tmp_path).layers
    assert layer.sqnr_db == pytest.approx(-10 * np.log10(1 / 4), abs=1e-4)


def test_a_channel_counts_as_lost_at_most(tmp_path: Path) -> None:
    """A channel whose error is many times its values is as lost as one of zeros; one without signal does not count."""
    paths = []
    for name, small in (("a", 0.001), ("b", 5.0)):
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
        weights = np.diag(np.float32([1, small, 0]))
        paths.append(save(nodes, {"w": weights}, tmp_path / f"{name}.onnx", inputs={"x": ["N", 3]}))
    np.savez(tmp_path / "data.npz", x=np.ones((2, 3), np.float32))
    samples = find_samples(str(tmp_path / "data.npz"), paths[0].inputs, None)
    (layer,) = layer_sqnr(paths[0], paths[1], samples, tmp_path).layers
    assert layer.sqnr_db == pytest.approx(-10 * np.log10(1 / 2), abs=1e-4)


def test_a_channels_mean_is_no_signal(tmp_path: Path) -> None:
    """A large bias hides that what varies is half lost: -10 log10(1/4), and 46 dB with the mean as signal."""
    paths = []
    for name, share in (("a", 1.0), ("b", 0.5)):
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")]
        constants = {"w": np.eye(3, dtype=np.float32) * np.float32(share), "b": np.full(3, 100, np.float32)}
        paths.append(save(nodes, constants, tmp_path / f"{name}.onnx", inputs={"x": ["N", 3]}))
    random = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=random - random.mean(axis=0))
    samples = find_samples(str(tmp_path / "data.npz"), paths[0].inputs, None)
    (layer,) = layer_sqnr(paths[0], paths[1], samples, tmp_path).layers
    assert layer.sqnr_db == pytest.approx(-10 * np.log10(1 / 4), abs=1e-3)


def test_noise_where_there_is_no_signal_is_neither_identical_nor_a_figure(tmp_path: Path) -> None:
    paths = []
    for name, third in (("a", 0.0), ("b", 1.0)):
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
        weights = np.diag(np.float32([1, 1, third]))
        paths.append(save(nodes, {"w": weights}, tmp_path / f"{name}.onnx", inputs={"x": ["N", 3]}))
    np.savez(tmp_path / "data.npz", x=np.ones((2, 3), np.float32))
    samples = find_samples(str(tmp_path / "data.npz"), paths[0].inputs, None)
    (layer,) = layer_sqnr(paths[0], paths[1], samples, tmp_path).layers
    assert (layer.identical, layer.sqnr_db) == (False, None)


def test_samples_with_other_numbers_of_channels_count_as_one() -> None:
    energies: dict[str, Any] = {}
    pairs = {"scores": module._Pair("a", "b", -1)}
    for size in (2, 3):
        ones = np.ones((1, 4, size), np.float32)
        module._add(energies, pairs, {"a": ones}, {"b": ones * np.float32(0.5)})
    assert energies["scores"].tolist() == [[20.0], [5.0], [20.0], [20.0]]  # squares, noise, values, their count
