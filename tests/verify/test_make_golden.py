"""Golden vectors made by ONNX Runtime from real samples, alone and several at once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from golden_samples import samples_of
from small_bundles import onnx_outputs, small_onnx

from edgepack.data.samples import find_samples
from edgepack.errors import ConfigError, DataError, ModelError
from edgepack.graph.load import load_model
from edgepack.specs.model import TensorSpec
from edgepack.verify.golden import read_golden
from edgepack.verify.make_golden import make_golden, mixes_batch

if TYPE_CHECKING:
    from pathlib import Path


def test_outputs_are_those_of_onnx_runtime(tmp_path):
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    path = make_golden(model, samples_of(tmp_path, 10), 3, tmp_path / "out")
    assert path == tmp_path / "out" / "golden.npz"
    vectors = read_golden(path)
    assert len(vectors.inputs) == 3
    assert vectors.tolerance is None
    for feed, outputs in zip(vectors.inputs, vectors.outputs, strict=True):
        assert feed["image"].shape == (1, 3, 8, 8)
        np.testing.assert_allclose(outputs["scores"], onnx_outputs(model.path, dict(feed))["scores"], rtol=1e-5)


def test_the_same_samples_give_the_same_bytes(tmp_path):
    model, samples = load_model(small_onnx(tmp_path / "model.onnx")), samples_of(tmp_path, 10)
    first, second = (make_golden(model, samples, 4, tmp_path / name).read_bytes() for name in "ab")
    assert first == second


def test_the_samples_are_spread_over_the_source(tmp_path):
    """A source is often sorted by class, so the first samples would all be alike."""
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    pictures = np.arange(100, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 8, 8), np.float32)
    vectors = read_golden(make_golden(model, samples_of(tmp_path, 0, image=pictures), 4, tmp_path))
    seen = [feed["image"].flat[0] for feed in vectors.inputs]
    assert max(seen) - min(seen) > 20


def test_fewer_are_kept_where_they_would_outweigh_the_model(tmp_path):
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    large = np.random.default_rng(1).standard_normal((4, 3, 400, 300), np.float32)  # 1.4 MB each
    inputs = (TensorSpec("image", "float32", ("N", 3, "H", "W")),)
    wide = dataclasses.replace(model, inputs=inputs)
    np.savez(tmp_path / "large.npz", image=large)

    import onnx

    proto = onnx.load(model.path)
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "HW"[axis - 2]
    onnx.save(proto, model.path)
    vectors = read_golden(make_golden(wide, find_samples(str(tmp_path / "large.npz"), inputs, None), 4, tmp_path))
    assert len(vectors.inputs) == 1


def test_fewer_samples_than_asked_for(tmp_path):
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    assert len(read_golden(make_golden(model, samples_of(tmp_path, 2), 4, tmp_path)).inputs) == 2


def test_no_samples_and_no_count(tmp_path):
    model, samples = load_model(small_onnx(tmp_path / "model.onnx")), samples_of(tmp_path, 2)
    with pytest.raises(ConfigError, match="0 golden vectors"):
        make_golden(model, samples, 0, tmp_path)
    with pytest.raises(DataError, match="no samples"):
        make_golden(model, dataclasses.replace(samples, indices=()), 1, tmp_path)


def onnx_of(path: Path, text: str):
    import onnx

    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}'), path)
    return load_model(path)


def test_a_model_whose_outputs_are_all_nan(tmp_path):
    model = onnx_of(tmp_path / "m.onnx", "(float[N,2] x) => (float[N,2] y) { y = Log(x) }")
    samples = samples_of(tmp_path, 0, model.inputs, x=np.full((3, 2), -1, np.float32))
    with pytest.raises(ModelError, match="'y' has no finite value"):
        make_golden(model, samples, 2, tmp_path)


def test_inputs_without_a_batch_and_outputs_that_are_decisions(tmp_path):
    text = "(float[N,4] x) => (int64[N] best, bool[N,4] positive) { best = ArgMax<axis=1,keepdims=0>(x) "
    model = onnx_of(tmp_path / "m.onnx", text + "zero = Constant<value = float {0}>() positive = Greater(x, zero) }")
    samples = samples_of(tmp_path, 0, model.inputs, x=np.eye(4, dtype=np.float32))
    outputs = read_golden(make_golden(model, samples, 4, tmp_path)).outputs
    assert sorted(int(sample["best"][0]) for sample in outputs) == [0, 1, 2, 3]
    assert outputs[0]["positive"].dtype == bool


def test_the_samples_are_run_at_once_too_in_another_order(tmp_path):
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    vectors = read_golden(make_golden(model, samples_of(tmp_path, 10), 4, tmp_path))
    (batch,) = vectors.batches
    assert batch.samples == (3, 2, 1, 0)
    expected = np.concatenate([vectors.outputs[i]["scores"] for i in batch.samples])
    np.testing.assert_allclose(batch.outputs["scores"], expected, rtol=1e-4, atol=1e-6)
    assert not mixes_batch(vectors)


def test_a_single_sample_is_run_twice_at_once(tmp_path):
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    vectors = read_golden(make_golden(model, samples_of(tmp_path, 1), 4, tmp_path))
    assert vectors.batches[0].samples == (0, 0)
    assert vectors.batches[0].outputs["scores"].shape == (2, 5)


@pytest.mark.slow
@pytest.mark.parametrize(("values", "at_once"), [(100_000, (3, 2, 1, 0)), (400_000, (3, 2)), (20_000_000, None)])
def test_fewer_large_samples_are_run_at_once(tmp_path, monkeypatch, values, at_once):
    """A device must have the memory for it."""
    monkeypatch.setattr("edgepack.verify.make_golden._SMALL_BYTES", 1 << 30)
    model = onnx_of(
        tmp_path / "m.onnx", f"(float[N,{values}] x) => (float[N] y) {{ y = ReduceMax<axes=[1],keepdims=0>(x) }}"
    )
    x = np.random.default_rng(0).standard_normal((4 if at_once else 1, values)).astype(np.float32)
    vectors = read_golden(make_golden(model, samples_of(tmp_path, 0, model.inputs, x=x), 4, tmp_path))
    assert [batch.samples for batch in vectors.batches] == ([at_once] if at_once else [])


@pytest.mark.parametrize(
    "text",
    [
        "(float[1,4] x) => (float[1,4] y) { y = Relu(x) }",
        "(float[N,4] x) => (float[2,2] y) { s = Constant<value = int64[2] {2, 2}>() y = Reshape(x, s) }",
    ],
)
def test_a_model_that_takes_one_sample_only_has_no_batch(tmp_path, text):
    model = onnx_of(tmp_path / "m.onnx", text)
    samples = samples_of(tmp_path, 0, model.inputs, x=np.ones((5, 4), np.float32))
    assert read_golden(make_golden(model, samples, 4, tmp_path)).batches == ()


MIXING = """(float[N,4] x) => (float[N,4] y) {
    six = Constant<value = float {6}>() most = ReduceMax<keepdims=0>(x) large = Greater(most, six)
    k = Constant<value = float {255}>() small = Div(x, k) y = Where(large, small, x) }"""


def test_samples_that_depend_on_each_other_are_looked_for(tmp_path):
    """Of 40 samples few are large, and only beside one of those is the answer to a small one another."""
    model = onnx_of(tmp_path / "m.onnx", MIXING)
    values = np.random.default_rng(1).uniform(1, 5, (40, 4)).astype(np.float32)
    assert not mixes_batch(
        read_golden(make_golden(model, samples_of(tmp_path, 0, model.inputs, x=values), 4, tmp_path))
    )
    values[::5] *= 50
    vectors = read_golden(make_golden(model, samples_of(tmp_path, 0, model.inputs, x=values), 4, tmp_path))
    assert mixes_batch(vectors)
    whole = np.concatenate([vectors.inputs[i]["x"] for i in vectors.batches[0].samples])
    assert whole.max() > 6 > whole.min()
    np.testing.assert_allclose(vectors.batches[0].outputs["y"], whole / 255, rtol=1e-5)
