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
from golden_samples import samples_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_bundles import INPUTS, OUTPUTS, onnx_outputs, small_onnx

from edgepack.errors import BundleError, ConfigError, DataError, VerificationError
from edgepack.graph.load import load_model
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import OutputDistance, Verification
from edgepack.verify.golden import (
    Golden,
    GoldenBatch,
    batched_inputs,
    check_golden,
    read_golden,
    refuse_wrong,
    run_golden,
    with_policy,
    with_tolerance,
    write_golden,
)
from edgepack.verify.make_golden import make_golden
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
    for one, other in zip(first.batches, second.batches, strict=True):
        if one.samples != other.samples or any(
            one.outputs[n].tobytes() != other.outputs[n].tobytes() for n in one.outputs
        ):
            return False
    return first.tolerance == second.tolerance


def verification(*outputs: OutputDistance) -> Verification:
    return Verification(True, outputs, 1, "onnxruntime", {}, ())


# --- running ----------------------------------------------------------------------------------------------------------


def golden_with_batch(tmp_path):
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    vectors = read_golden(make_golden(model, samples_of(tmp_path, 10), 4, tmp_path))

    def infer(feeds):
        return onnx_outputs(model.path, dict(feeds))

    return with_policy(vectors, "fp32"), infer


def test_an_engine_that_is_right_for_one_sample_only_is_wrong(tmp_path):
    vectors, infer = golden_with_batch(tmp_path)
    right = run_golden(infer, vectors, INPUTS, "x", {})
    assert right.passed
    assert [output.batch for output in right.outputs] == [1, 4]

    def mixed_up(feeds):  # a batch comes out in another order
        return {name: value[::-1] for name, value in infer(feeds).items()}

    wrong = run_golden(mixed_up, vectors, INPUTS, "x", {})
    assert not wrong.passed
    assert [output.passed for output in wrong.outputs] == [True, False]
    with pytest.raises(
        VerificationError, match=r"'scores' of 4 samples at once is wrong: its SQNR .* 60.0 dB are needed"
    ):
        refuse_wrong(wrong, "fp32")


def test_an_engine_may_refuse_a_batch_but_not_a_sample(tmp_path):
    vectors, infer = golden_with_batch(tmp_path)

    def one_only(feeds):
        if len(feeds["image"]) > 1:
            raise DataError("it takes one")
        return infer(feeds)

    found = run_golden(one_only, vectors, INPUTS, "x", {})
    assert found.passed
    assert found.note == "4 samples at once are refused: it takes one"
    fixed = (TensorSpec("image", "float32", (1, 3, 8, 8)),)
    assert run_golden(one_only, vectors, fixed, "x", {}).note is None
    with pytest.raises(DataError):
        run_golden(lambda _: one_only({"image": np.zeros((2, 3, 8, 8))}), vectors, INPUTS, "x", {})


def test_a_batch_is_held_to_what_single_samples_measured(golden, tmp_path):
    """24 dB alone and 1 dB together is wrong, though 1 dB alone would be kept."""
    alone = OutputDistance("scores", 24.4, 0.99, 0.1, None, passed=True)
    together = dataclasses.replace(alone, sqnr_db=1.0, batch=3)
    with pytest.raises(
        VerificationError, match=r"of 3 samples at once is wrong: its SQNR .* is 1.0 dB, and at least 18.4"
    ):
        with_tolerance(golden, verification(alone, together), "int8", tmp_path / "out")
    with_tolerance(golden, verification(dataclasses.replace(alone, sqnr_db=1.0)), "int8", tmp_path / "out")


@pytest.mark.parametrize("batch_db", [30.0, 25.0])
def test_single_samples_that_happen_to_be_exact_do_not_fail_a_batch_that_is_rounded(golden, tmp_path, batch_db):
    alone = OutputDistance("scores", None, 1.0, 0.0, None, passed=True)
    together = dataclasses.replace(alone, sqnr_db=batch_db, max_abs=0.01, batch=3)
    path = with_tolerance(golden, verification(alone, together), "int8", tmp_path / "out")
    assert read_golden(path).tolerance["scores"].sqnr_db == pytest.approx(24.05, abs=0.01)
    wrong = dataclasses.replace(together, sqnr_db=12.0)
    with pytest.raises(VerificationError, match=r"12.0 dB, and at least 24.0"):
        with_tolerance(golden, verification(alone, wrong), "int8", tmp_path / "out")


def test_a_device_that_keeps_only_what_all_samples_have_in_common_is_wrong(tmp_path):
    """40 dB, far above what int8 is asked for at most where nothing is in common."""
    random = np.random.default_rng(0)
    outputs = tuple({"y": np.float32(100 + random.standard_normal((1, 64)))} for _ in range(4))
    feeds = tuple({"x": np.float32([i])} for i in range(4))
    plain = write_golden(Golden(feeds, outputs), tmp_path / "plain" / "golden.npz")

    def device(noise: float):
        answers = iter(np.float32(y["y"] + noise * random.standard_normal((1, 64))) for y in outputs)
        return lambda _: {"y": next(answers)}

    built = run_golden(device(0.1), with_policy(read_golden(plain), "int8"), (), "x", {})
    vectors = read_golden(with_tolerance(plain, built, "int8", tmp_path / "out"))
    assert run_golden(device(0.15), vectors, (), "x", {}).passed
    lost = run_golden(lambda _: {"y": np.full((1, 64), 100, np.float32)}, vectors, (), "x", {})
    assert lost.outputs[0].sqnr_db == pytest.approx(40.0, abs=1.0)
    assert not lost.passed


@pytest.mark.parametrize(("bounded", "found", "right"), [
    (True, 0.003, True),  # -9 dB, but within two steps of int8
    (False, 0.003, False),  # of what has no bound nobody knows what is small
    (True, 0.02, False),
])  # fmt: skip
def test_an_output_below_a_step_of_int8_is_judged_by_its_difference(golden, tmp_path, bounded, found, right):
    expected = {"scores": np.full((1, 5), 0.001, np.float32)}
    vectors = dataclasses.replace(read_golden(golden), outputs=(expected,))
    vectors = with_policy(vectors, "int8", {"scores"} if bounded else ())
    result = run_golden(lambda _: {"scores": np.full((1, 5), found, np.float32)}, vectors, (), "x", {})
    (output,) = result.outputs
    assert (output.passed, output.nearly_zero) == (right, right)
    if right:
        assert "nearly zero, at most 0.001: the largest difference is 0.002" in (output.note or "")
        refuse_wrong(result, "int8")
        kept = read_golden(with_tolerance(golden, result, "int8", tmp_path / "out")).tolerance
        assert kept["scores"].zero_within == 1 / 255


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_build_is_held_to_the_policy_before_it_has_measured(precision):
    """Every value wrong, or three of four decisions, or noise where fp32 is zero."""
    expected = {"sum": np.arange(160) + 2**40, "best": np.arange(4), "zero": np.zeros(4, np.float32)}
    found = {"sum": np.arange(160), "best": np.array([0, 7, 7, 7]), "zero": np.full(4, 255, np.float32)}
    vectors = with_policy(Golden(({"x": np.ones(1)},), (expected,)), precision)
    result = run_golden(lambda _: found, vectors, (), "x", {})
    assert [output.passed for output in result.outputs] == [False, False, False]
    with pytest.raises(VerificationError, match="'sum' is wrong: compared by equality: 160 of 160 differ"):
        refuse_wrong(result, precision)


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
    with pytest.raises(VerificationError, match="'scores' is wrong: its SQNR"):
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


ALLOWED = {"scores": Tolerance(60.0, 0.0, 0.0)}


@pytest.fixture
def vectors(golden) -> Golden:
    plain = read_golden(golden)
    whole = {"scores": np.ones((2, 5), np.float32)}
    return dataclasses.replace(plain, tolerance=ALLOWED, batches=(GoldenBatch((0, 0), whole),))


def test_vectors_of_another_model(golden, vectors):
    check_golden(vectors, INPUTS, OUTPUTS, "fp32", "x")
    with pytest.raises(BundleError, match="have no tolerances"):
        check_golden(read_golden(golden), INPUTS, OUTPUTS, "fp32", "x")
    with pytest.raises(BundleError, match="other inputs or outputs"):
        check_golden(vectors, (TensorSpec("pixels", "float32", ("N", 3, 8, 8)),), OUTPUTS, "fp32", "x")
    with pytest.raises(BundleError, match="do not fit the model"):
        check_golden(vectors, (TensorSpec("image", "float32", ("N", 1, 8, 8)),), OUTPUTS, "fp32", "x")
    with pytest.raises(BundleError, match="'scores' is float32, the model's is int64"):
        check_golden(vectors, INPUTS, (TensorSpec("scores", "int64", ("N", 5)),), "fp32", "x")


def test_forged_vectors_that_any_answer_would_agree_with(vectors):
    nothing = np.zeros((0, 5), np.float32)
    nan = np.full((1, 5), np.nan, np.float32)
    empty = np.zeros((0, 3, 8, 8), np.float32)
    forged = [
        dataclasses.replace(vectors, inputs=({"image": empty},), outputs=({"scores": nothing},), batches=()),
        dataclasses.replace(vectors, outputs=({"scores": nothing},)),
        dataclasses.replace(vectors, outputs=({"scores": nan},)),
        dataclasses.replace(vectors, outputs=({"scores": np.full_like(nan, np.inf)},)),
        dataclasses.replace(vectors, outputs=({"scores": nan.astype(np.float16)},)),
        dataclasses.replace(vectors, outputs=({"scores": np.zeros((1, 5), bool)},)),
        dataclasses.replace(vectors, batches=(GoldenBatch((0, 0), {"scores": nan}),)),
        *(
            dataclasses.replace(vectors, tolerance={"scores": Tolerance(*figures)})
            for figures in [
                (-1e300, 0, 0),
                (1e300, 0, 0),
                (59.9, 0, 0),
                (60.0, 1e300, 0),
                (60.0, 0, 1.0),
                (60.0, 0, -1),
            ]
        ),
    ]
    for one in forged:
        with pytest.raises(BundleError):
            check_golden(one, INPUTS, OUTPUTS, "fp32", "x")
    int8 = dataclasses.replace(vectors, tolerance={"scores": Tolerance(12.0, 0.1, 0.45)})
    check_golden(int8, INPUTS, OUTPUTS, "int8", "x")
    with pytest.raises(BundleError, match=r"allow the output 'scores' an SQNR of 12 dB, where fp32 needs 60"):
        check_golden(int8, INPUTS, OUTPUTS, "fp32", "x")


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
    batches = (GoldenBatch((1, 0), outputs),)
    vectors = Golden((feed, feed), (outputs, outputs), allowed, batches)
    write_golden(vectors, path)
    little = [{n: a.astype(a.dtype.newbyteorder("<")) for n, a in arrays.items()} for arrays in (feed, outputs)]
    assert same(
        read_golden(path), Golden((little[0],) * 2, (little[1],) * 2, allowed, (GoldenBatch((1, 0), little[1]),))
    )


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
        npz(input__0__x=ONE, output__0__y=ONE, batch__0__samples=npy(np.array([0, 0]))),
        npz(input__0__x=ONE, output__0__y=ONE, batch__0__output__y=ONE),
        npz(input__0__x=ONE, output__0__y=ONE, batch__1__output__y=ONE, batch__1__samples=npy(np.array([0, 0]))),
        npz(input__0__x=ONE, output__0__y=ONE, batch__0__output__z=ONE, batch__0__samples=npy(np.array([0, 0]))),
        npz(input__0__x=ONE, output__0__y=ONE, batch__0__output__y=ONE, batch__0__samples=npy(np.array([0, 1]))),
        npz(input__0__x=ONE, output__0__y=ONE, batch__0__output__y=ONE, batch__0__samples=npy(np.array([0, -1]))),
        npz(input__0__x=ONE, output__0__y=ONE, batch__0__output__y=ONE, batch__0__samples=npy(np.array([0]))),
        npz(input__0__x=ONE, output__0__y=ONE, batch__0__output__y=ONE, batch__0__samples=npy(np.zeros(17, np.int64))),
        npz(input__0__x=ONE, output__0__y=ONE, batch__0__output__y=ONE, batch__0__samples=ONE),
        npz(input__0__x=ONE, output__0__y=HUGE),
        npz(input__0__x=ONE, output__0__y=ONE + b"more"),
        npz(input__0__x=ONE, output__0__y=ONE.replace(b"(3,)", b"(-3,)")),
        npz(input__0__x=ONE, output__0__y=npy(np.array([{}], object), allow_pickle=True)),
        npz(input__0__x=ONE, output__0__y=npy(np.zeros(2, "S4"))),
        npz(input__0__x=ONE, output__0__y=npy(np.zeros(1, "f4")).replace(b"(1,), }   ", b"(True,), }")),
        npz(input__0__x=ONE, output__0__y=npy(np.zeros(2, "f4,i4"))),
        npz(input__0__x=ONE, output__0__y=npy(np.zeros(2, "M8[s]"))),
        npz(input__0__x=ONE, output__0__y=npy(np.asfortranarray(np.ones((2, 2))))),
        npz(input__0__x=ONE, output__0__y=ONE.replace(b"'<f4'", b"exit()")),
        npz(input__0__x=ONE, output__0__y=b"\x93NUMPY\x07\x00" + ONE[8:]),
    ],
)
def test_files_that_hold_no_golden_vectors(data):
    with pytest.raises(BundleError) as caught:
        read_golden(data)
    assert caught.value.message.count("golden.npz") == 1


def test_compressed_members_are_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input/0/x.npy", npy(np.zeros(10_000_000, np.uint8)))
    with pytest.raises(BundleError, match="compressed"):
        read_golden(buffer.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for value in range(2):
            archive.writestr("input/0/x.npy", npy(np.full(3, value, np.uint8)))
            archive.writestr("output/0/y.npy", npy(np.full(3, value, np.uint8)))
    with pytest.raises(BundleError, match=r"'input/0/x\.npy' is there twice"):
        read_golden(buffer.getvalue())


def test_damaged_files_end_as_errors(golden):
    good, chance = golden.read_bytes(), random.Random(5)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(BundleError):
            read_golden(bytes(data[: chance.choice([len(data), chance.randrange(len(data))])]))


def test_a_batch_that_is_another_axis_too_is_not_joined() -> None:
    """As of a recurrent network: samples [B, n] and a state [layers, B, size]."""
    sentence = (TensorSpec("ids", "int64", ("N", "L")), TensorSpec("mask", "int64", ("N", "L")))
    assert batched_inputs(sentence) == {"ids", "mask"}
    stream = (TensorSpec("x", "float32", ("B", "n")), TensorSpec("state", "float32", (2, "B", 4)))
    assert batched_inputs(stream) == set()
    assert batched_inputs((TensorSpec("frames", "float32", ("*frames", 40)),)) == set()
    assert batched_inputs((TensorSpec("x", "float32", ("...", 3)), TensorSpec("y", "float32", ()))) == set()
