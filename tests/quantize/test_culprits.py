"""What loses most is found with everything that must leave int8 together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from quantize_models import node, save

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples, read_samples
from edgepack.graph.load import read_proto
from edgepack.quantize import quantize
from edgepack.quantize.correct import ENOUGH_DB, quantize_corrected
from edgepack.quantize.culprits import Culprits, _noises, _sites, find_culprits
from edgepack.quantize.graph.index import index_graph
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

pytestmark = pytest.mark.slow

RULES = QuantizationRules(engine="onnxruntime")


def normal(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def made(tmp_path: Path) -> tuple[OnnxModel, SampleSet, Ranges]:
    """A difference of two large, nearly equal signals (the step 'cancel') that nothing but float can tell, which a
    network of seven more layers reads.
    """
    kernel = normal(4, 4, 3, 3)
    constants = {
        "w0": np.concatenate([np.ones((4, 1, 1, 1)), np.ones((4, 1, 1, 1)) + 1e-3 * normal(4, 1, 1, 1)]).astype("f"),
        "w1": np.concatenate([np.eye(4), -np.eye(4)], axis=1)[:, :, None, None].astype(np.float32) * 300,
        **{f"w{i}": kernel / 6 for i in range(2, 9)},
    }
    nodes = [node("Conv", "x w0", "twins"), node("Conv", "twins w1", "cancel")]
    last = "cancel"
    for i in range(2, 9):
        nodes += [node("Conv", f"{last} w{i}", f"c{i}", pads=[1] * 4), node("Relu", f"c{i}", f"r{i}")]
        last = f"r{i}"
    nodes.append(node("GlobalAveragePool", last, "y"))
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 1, 12, 12)})
    np.savez(tmp_path / "x.npz", x=normal(16, 1, 12, 12))
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    return model, samples, calibrate(model, samples, "minmax", 99.99, tmp_path / "ranges")


def culprits(made: tuple[OnnxModel, SampleSet, Ranges], tmp_path: Path, measured: int = 12) -> Culprits:
    model, samples, ranges = made
    plain = quantize(model, ranges, RULES, tmp_path / "plain")
    return find_culprits(model, model, plain, ranges, RULES, samples, measured, tmp_path / "culprits")


def test_both_layers_around_the_tensor_are_the_worst_group(
    made: tuple[OnnxModel, SampleSet, Ranges], tmp_path: Path
) -> None:
    found = culprits(made, tmp_path)
    worst = next(group for group in found.groups if not group.tensor.startswith("the "))
    assert worst.tensor in ("twins", "cancel")
    assert {"twins", "cancel"} <= set(worst.nodes)
    assert worst.noise is not None
    assert worst.noise > 0.5 * found.noise


@pytest.mark.parametrize("effort", ["low", "medium"])
def test_layers_that_corrections_cannot_save_are_left_in_float(
    made: tuple[OnnxModel, SampleSet, Ranges], tmp_path: Path, effort: str
) -> None:
    model, samples, ranges = made
    found = quantize_corrected(model, ranges, RULES, samples, effort, tmp_path / "out")
    steps = {step.name: step for step in found.steps}
    left = [name for name in steps if name.endswith("left in float")]
    assert max(s.sqnr_db or -99 for n, s in steps.items() if n not in left) < ENOUGH_DB
    kept = [steps[name] for name in left if steps[name].kept]
    assert len(kept) == 1
    assert kept[0].sqnr_db is not None
    assert kept[0].sqnr_db > ENOUGH_DB


def test_the_beginning_and_the_end_are_groups_too(made: tuple[OnnxModel, SampleSet, Ranges], tmp_path: Path) -> None:
    names = {group.tensor for group in culprits(made, tmp_path).groups}
    assert {"the first 2 layers", "the last 2 layers"} <= names
    alone = {group.tensor for group in culprits(made, tmp_path, 0).groups}
    assert alone == {name for name in names if name.startswith("the ")}


def test_what_an_activation_cannot_tell_apart_is_no_noise(tmp_path: Path) -> None:
    """Far below -3 a hard-swish is 0: that it is stored as -3 is nothing to leave in float."""
    constants = {"w": normal(4, 4, 1, 1) / 2, "b": np.float32([-60, -40, -2, 0]), "v": normal(4, 4, 1, 1, seed=2)}
    nodes = [
        node("Conv", "x w b", "c", kernel_shape=[1, 1]), node("HardSwish", "c", "h"), node("Conv", "h v", "d"),
        node("Relu", "d", "r"), node("Conv", "r v", "y"),
    ]  # fmt: skip
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 4, 9, 9)})
    np.savez(tmp_path / "x.npz", x=normal(16, 4, 9, 9))
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    ranges = calibrate(model, samples, "minmax", 99.99, tmp_path / "ranges")
    plain = quantize(model, ranges, RULES, tmp_path / "again")
    feeds = list(read_samples(samples, model.inputs))
    known = {name for each in read_proto(model).graph.node for name in each.output}
    sites = _sites(index_graph(read_proto(plain)), known)
    noises = _noises(read_proto(model), read_proto(plain), sites, feeds)
    assert noises[next(site.rough for site in sites if site.tensor == "c")] < 1e-3


def test_noises_are_of_the_outputs_and_layers_have_their_size(
    made: tuple[OnnxModel, SampleSet, Ranges], tmp_path: Path
) -> None:
    found = culprits(made, tmp_path)
    assert found.macs["c2"] == 4 * 4 * 9 * 12 * 12
    assert all(group.noise is None or group.noise <= found.noise + 1e-6 for group in found.groups)
