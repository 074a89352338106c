"""Builds that must not pass: engines that compute something else, samples that depend on each other, wrong labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.bundle.archive import open_bundle, read_member
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings
from edgepack.runtime.load import load
from edgepack.specs.build import BuildRow
from edgepack.specs.run import Verification
from edgepack.verify.evaluate import _with_decisions
from edgepack.verify.golden import read_golden

pytestmark = pytest.mark.long

FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


def write(
    folder: Path, nodes: list[Any], kinds: tuple[int, int], shapes: tuple[list[Any], list[Any]], **stored: Any
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kinds[0], shapes[0])],
        [helper.make_tensor_value_info("y", kinds[1], shapes[1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def built(folder: Path, model: Path, target: str, precision: Any = "fp32", **more: Any) -> BuildRow:
    data = {key: more.pop(key) for key in ("x", "labels") if key in more}
    if data:
        np.savez(folder / "data.npz", **data)
        more["data"] = str(folder / "data.npz")
    settings = BuildSettings(
        model=str(model), targets=(target,), precisions=(precision,), out=str(folder / "out"), benchmark=False, **more
    )  # fmt: skip
    (row,) = build(settings, Store(folder / "store")).rows
    return row


def refused(row: BuildRow) -> str:
    """Return the reason of a row that is wrong; it has no bundle and ends with 5."""
    assert (row.status, row.exit_code, row.bundle) == ("failed", 5, None)
    assert row.reason is not None
    return row.reason


def test_sums_of_64_bits_that_an_engine_cuts_to_32(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    nodes = [helper.make_node("Add", ["x", "k"], ["y"])]
    model = write(tmp_path, nodes, (INT64, INT64), (["N", 4], ["N", 4]), k=np.full(4, 2**40))
    x = np.random.default_rng(0).integers(1, 1000, (20, 4))
    row = built(tmp_path, model, "host-openvino", x=x)
    assert (row.status, row.exit_code) == ("failed", 4)
    assert "OpenVINO computes Add of int64 in 32 bits" in str(row.reason)
    assert built(tmp_path, model, "host-onnxruntime", x=x).status == "ok"


def test_numbers_of_64_bits_that_an_engine_cuts_to_32_without_a_word(tmp_path: Path) -> None:
    """What a float becomes is not known before it is computed: the comparison finds it."""
    pytest.importorskip("openvino")
    nodes = [helper.make_node("Mul", ["x", "k"], ["m"]), helper.make_node("Cast", ["m"], ["y"], to=INT64)]
    model = write(tmp_path, nodes, (FLOAT, INT64), (["N", 4], ["N", 4]), k=np.full(4, 2**34, np.float32))
    x = np.random.default_rng(0).uniform(1, 2, (20, 4)).astype(np.float32)
    row = built(tmp_path, model, "host-openvino", x=x)
    assert "'y' is wrong: compared by equality: 16 of 16 differ" in refused(row)
    assert row.mismatch == 1.0
    assert built(tmp_path, model, "host-onnxruntime", x=x).status == "ok"


def test_an_output_that_is_zero_in_fp32_and_not_in_the_engine(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    nodes = [helper.make_node("Add", ["x", "k"], ["s"]), helper.make_node("Cast", ["s"], ["y"], to=FLOAT)]
    model = write(tmp_path, nodes, (UINT8, FLOAT), (["N", 4], ["N", 4]), k=np.full(4, 56, np.uint8))
    reason = refused(built(tmp_path, model, "host-openvino", x=np.full((20, 4), 200, np.uint8)))
    assert "all zero: the largest difference is 255, 0.0001 is allowed" in reason


def test_an_int8_model_that_decides_otherwise(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"], name="product"),
        helper.make_node("ArgMax", ["s"], ["y"], axis=1, keepdims=0),
    ]
    weights = (1 + 1e-3 * random.standard_normal((16, 64))).astype(np.float32)
    model = write(tmp_path, nodes, (FLOAT, INT64), (["N", 16], ["N"]), w=weights)
    x = random.standard_normal((200, 16)).astype(np.float32)
    row = built(tmp_path, model, "host-onnxruntime", "int8", x=x)
    assert "differ, 50 % may" in refused(row)
    assert row.mismatch is not None
    assert row.mismatch > 0.25
    assert built(tmp_path, model, "host-onnxruntime", x=x).status == "ok"


def test_few_wrong_decisions_are_found_on_all_samples() -> None:
    """Four golden vectors may hold none of them."""
    good = Verification(True, (), 4, "x", {}, ())
    assert _with_decisions(good, {"best": (40, 200)}, "int8", 200).passed
    bad = _with_decisions(good, {"best": (66, 200)}, "int8", 200)
    assert not bad.passed
    assert bad.outputs[0].note == "over all 200 samples 66 of 200 values differ, 25.5 % may"
    assert not _with_decisions(good, {"best": (1, 200)}, "fp32", 200).passed


MIXING = [
    helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
    helper.make_node("Greater", ["most", "six"], ["large"]),
    helper.make_node("Div", ["x", "k"], ["small"]),
    helper.make_node("Where", ["large", "small", "x"], ["y"]),
]


@pytest.mark.parametrize("target", ["host-tvm", "host-openvino", "host-onnxruntime"])
def test_samples_that_depend_on_each_other_are_run_at_once(tmp_path: Path, target: str) -> None:
    pytest.importorskip({"host-tvm": "tvm", "host-openvino": "openvino"}.get(target, "onnxruntime"))
    model = write(tmp_path, MIXING, (FLOAT, FLOAT), (["N", 4], ["N", 4]), six=np.float32(6), k=np.float32(255))
    x = np.random.default_rng(0).uniform(1, 5, (40, 4)).astype(np.float32)
    x[::3] *= 50
    row = built(tmp_path, model, target, x=x)
    assert row.status == "ok", row.reason
    assert row.bundle is not None
    vectors = read_golden(read_member(open_bundle(Path(row.bundle)), "golden.npz"))
    assert vectors.batches
    with load(Path(row.bundle)) as loaded:
        np.testing.assert_allclose(loaded.infer({"x": x})["y"], x / 255, rtol=1e-5)
        np.testing.assert_allclose(loaded.infer({"x": x[1:2]})["y"], x[1:2], rtol=1e-5)


def test_a_shift_of_bits_that_an_engine_rounds_is_named_before_it_is_compiled(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    nodes = [helper.make_node("BitShift", ["x", "k"], ["y"], direction="RIGHT")]
    model = write(tmp_path, nodes, (UINT8, UINT8), (["N", 4], ["N", 4]), k=np.full(4, 2, np.uint8))
    row = built(tmp_path, model, "host-openvino")
    assert (row.status, row.exit_code, row.bundle) == ("failed", 4, None)
    assert row.reason is not None
    assert "does not drop the bits that BitShift shifts out" in row.reason


def test_a_forbidden_class_has_minus_infinity_and_the_accuracy_stays(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"], name="product"),
        helper.make_node("Where", ["legal", "s", "no"], ["y"]),
    ]
    weights = random.standard_normal((16, 10)).astype(np.float32)
    model = write(
        tmp_path, nodes, (FLOAT, FLOAT), (["N", 16], ["N", 10]), w=weights, no=np.float32(-np.inf),
        legal=np.arange(10) != 3,
    )  # fmt: skip
    x = random.standard_normal((120, 16)).astype(np.float32)
    labels = np.where(np.arange(10) != 3, x @ weights, -np.inf).argmax(1)
    row = built(tmp_path, model, "host-onnxruntime", x=x, labels=labels, max_drop=0.01)
    assert row.status == "ok", row.reason
    assert row.accuracy is not None
    assert (row.accuracy.fp32, row.accuracy.value) == (1.0, 1.0)


@pytest.mark.parametrize("max_drop", [None, 0.01])
def test_labels_of_other_classes_miss_the_gate(tmp_path: Path, max_drop: float | None) -> None:
    random = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    weights = random.standard_normal((16, 10)).astype(np.float32)
    model = write(tmp_path, nodes, (FLOAT, FLOAT), (["N", 16], ["N", 10]), w=weights)
    x = random.standard_normal((400, 16)).astype(np.float32)
    labels = (x @ weights).argmax(1)
    row = built(tmp_path, model, "host-onnxruntime", x=x, labels=(labels + 1) % 10, max_drop=max_drop)
    assert (row.status, row.exit_code, row.bundle) == ("gate_missed", 5, None)
    assert "the labels are in another order than the model's classes" in (row.reason or "")
    assert built(tmp_path, model, "host-onnxruntime", x=x, labels=labels, max_drop=max_drop).status == "ok"
