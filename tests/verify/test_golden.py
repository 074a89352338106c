"""Golden vectors: made by ONNX Runtime from real samples, read from files that nobody vouches for."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_bundles import INPUTS, OUTPUTS, onnx_outputs, small_onnx

from edgepack.data.samples import find_samples
from edgepack.errors import BundleError, ConfigError, DataError, ModelError, VerificationError
from edgepack.graph.load import load_model
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import OutputDistance, Verification
from edgepack.verify.golden import Golden, check_golden, make_golden, read_golden, with_tolerance, write_golden
from edgepack.verify.tolerance import Tolerance

if TYPE_CHECKING:
    from pathlib import Path


def same(first: Golden, second: Golden) -> bool:
    for a, b in ((first.inputs, second.inputs), (first.outputs, second.outputs)):
        if len(a) != len(b) or any(x.keys() != y.keys() for x, y in zip(a, b, strict=True)):
            return False
        pairs = [(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x]
        if any(x.dtype != y.dtype or x.shape != y.shape or x.tobytes() != y.tobytes() for x, y in pairs):
            return False
    return first.tolerance == second.tolerance


def samples_of(tmp_path: Path, count: int, inputs: tuple[TensorSpec, ...] = INPUTS, **arrays: np.ndarray):
    random_values = np.random.default_rng(1).standard_normal((count, 3, 8, 8), np.float32)
    np.savez(tmp_path / "data.npz", **(arrays or {"image": random_values}))
    return find_samples(str(tmp_path / "data.npz"), inputs, None)


def verification(*outputs: OutputDistance) -> Verification:
    return Verification(True, outputs, 1, "onnxruntime", {}, ())


# --- making -----------------------------------------------------------------------------------------------------------


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


# --- tolerance --------------------------------------------------------------------------------------------------------


@pytest.fixture
def golden(tmp_path) -> Path:
    feed, outputs = {"image": np.ones((1, 3, 8, 8), np.float32)}, {"scores": np.ones((1, 5), np.float32)}
    return write_golden(Golden((feed,), (outputs,)), tmp_path / "plain" / "golden.npz")


def test_the_measured_tolerance_is_written(golden, tmp_path):
    distance = OutputDistance("scores", 30.0, 0.99, 0.1, None, passed=True)
    path = with_tolerance(golden, verification(distance), "int8", tmp_path / "out")
    vectors = read_golden(path)
    assert vectors.tolerance is not None
    assert vectors.tolerance["scores"].sqnr_db == pytest.approx(23.979, abs=1e-3)
    assert same(dataclasses.replace(vectors, tolerance=None), read_golden(golden))


@pytest.mark.parametrize(("precision", "least"), [("fp32", 60), ("fp16", 35), ("bf16", 17), ("int8", 0)])
def test_a_build_that_does_not_keep_its_own_tolerance(golden, tmp_path, precision, least):
    bad = OutputDistance("scores", least - 1.5, 0.9, 0.1, None, passed=True)
    with pytest.raises(VerificationError, match="'scores' has an SQNR"):
        with_tolerance(golden, verification(bad), precision, tmp_path / "out")
    good = dataclasses.replace(bad, sqnr_db=least + 0.5)
    with_tolerance(golden, verification(good), precision, tmp_path / "out")


def test_outputs_that_are_wrong_altogether(golden, tmp_path):
    nan = OutputDistance("scores", 90.0, 1.0, 0.0, None, passed=False, nonfinite=3, note="3 values are NaN")
    with pytest.raises(VerificationError, match="3 values are NaN"):
        with_tolerance(golden, verification(nan), "fp32", tmp_path / "out")
    other = OutputDistance("logits", 90.0, 1.0, 0.0, None, passed=True)
    with pytest.raises(ConfigError, match="no output 'scores'"):
        with_tolerance(golden, verification(other), "fp32", tmp_path / "out")


def test_vectors_of_another_model(golden, tmp_path):
    allowed = {"scores": Tolerance(60.0, 0.0, 0.0)}
    vectors = dataclasses.replace(read_golden(golden), tolerance=allowed)
    check_golden(vectors, INPUTS, OUTPUTS, "x")
    with pytest.raises(BundleError, match="have no tolerances"):
        check_golden(read_golden(golden), INPUTS, OUTPUTS, "x")
    with pytest.raises(BundleError, match="other inputs or outputs"):
        check_golden(vectors, (TensorSpec("pixels", "float32", ("N", 3, 8, 8)),), OUTPUTS, "x")
    with pytest.raises(BundleError, match="do not fit the model"):
        check_golden(vectors, (TensorSpec("image", "float32", ("N", 1, 8, 8)),), OUTPUTS, "x")


# --- the file ---------------------------------------------------------------------------------------------------------

plain = hnp.arrays(
    dtype=st.sampled_from(["float32", "float16", "float64", "int64", "int8", "uint8", "bool", ">f4"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
names = st.text(min_size=1, max_size=12).filter(lambda s: "\0" not in s and s.isprintable())


@given(st.dictionaries(names, plain, min_size=1, max_size=3), st.dictionaries(names, plain, min_size=1, max_size=3))
def test_what_is_written_is_read(tmp_path_factory, feed, outputs):
    path = tmp_path_factory.getbasetemp() / "golden.npz"
    allowed = {name: Tolerance(1.5, 0.0, 0.25) for name in outputs}
    vectors = Golden((feed, feed), (outputs, outputs), allowed)
    write_golden(vectors, path)
    little = [{n: a.astype(a.dtype.newbyteorder("<")) for n, a in arrays.items()} for arrays in (feed, outputs)]
    assert same(read_golden(path), Golden((little[0],) * 2, (little[1],) * 2, allowed))


def test_numpy_reads_it_too(golden):
    with np.load(golden, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["input/0/image", "output/0/scores"]
        assert archive["input/0/image"].shape == (1, 3, 8, 8)


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/") + ".npy", data)
    return buffer.getvalue()


def npy(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), **options)
    return buffer.getvalue()


ONE = npy(np.ones(3, np.float32))
HUGE = ONE.replace(b"(3,)", b"(9999999999,)")  # 40 GB that are not there


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a zip",
        npz(),
        npz(input__0__x=ONE),
        npz(input__0__x=ONE, output__1__y=ONE),
        npz(input__1__x=ONE, output__1__y=ONE),
        npz(input__0__x=ONE, output__0__y=ONE, other=ONE),
        npz(input__0__x=ONE, output__0__y=ONE, tolerance=ONE),
        npz(input__0__x=ONE, output__0__y=ONE, tolerance=npy(np.frombuffer(b'{"outputs": {}}', np.uint8))),
        npz(input__0__x=ONE, output__0__y=ONE, input__1__z=ONE, output__1__y=ONE),
        npz(input__0__x=ONE, output__0__y=ONE[:-1]),
        npz(input__0__x=ONE, output__0__y=HUGE),
        npz(input__0__x=ONE, output__0__y=ONE + b"more"),
        npz(input__0__x=ONE, output__0__y=ONE.replace(b"(3,)", b"(-3,)")),
        npz(input__0__x=ONE, output__0__y=npy(np.array([{}], object), allow_pickle=True)),
        npz(input__0__x=ONE, output__0__y=npy(np.zeros(2, "S4"))),
        npz(input__0__x=ONE, output__0__y=npy(np.zeros(2, "f4,i4"))),
        npz(input__0__x=ONE, output__0__y=npy(np.zeros(2, "M8[s]"))),
        npz(input__0__x=ONE, output__0__y=npy(np.asfortranarray(np.ones((2, 2))))),
        npz(input__0__x=ONE, output__0__y=ONE.replace(b"'<f4'", b"exit()")),
        npz(input__0__x=ONE, output__0__y=b"\x93NUMPY\x07\x00" + ONE[8:]),
    ],
)
def test_files_that_hold_no_golden_vectors(data):
    with pytest.raises(BundleError):
        read_golden(data)


def test_compressed_members_are_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input/0/x.npy", npy(np.zeros(10_000_000, np.uint8)))
    with pytest.raises(BundleError, match="compressed"):
        read_golden(buffer.getvalue())


def test_damaged_files_end_as_errors(golden):
    good, chance = golden.read_bytes(), random.Random(5)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(BundleError):
            read_golden(bytes(data[: chance.choice([len(data), chance.randrange(len(data))])]))
