"""What puts int64 in order is computed as ONNX says in ONNX Runtime, with numpy as the truth; other nodes stay."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.compare import run_model
from edgepack.graph.int64_order import misordered, order_int64
from edgepack.graph.load import save_proto
from edgepack.graph.prepare import prepare
from edgepack.specs.types import Array

INT64 = TensorProto.INT64
EDGES = (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 3 * 10**9, 2**33, 2**62, 2**63 - 1)
VALUES = np.array(sorted({*EDGES, *(-edge for edge in EDGES), -(2**63), 1369616873}))
make_node = helper.make_node
Inputs: TypeAlias = tuple[tuple[str, int, list[int | str]], ...]


def model(
    *nodes: onnx.NodeProto,
    inputs: Inputs = (("x", INT64, ["n"]),),
    stored: dict[str, Array] | None = None,
    opset: int = 18,
    out: int = INT64,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info("y", out, None)],
        [numpy_helper.from_array(value, name) for name, value in (stored or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def answer(proto: onnx.ModelProto, folder: Path, *, optimize: bool = False, **feeds: Array) -> Array:
    """Return what a bare ONNX Runtime makes of the graph as it is."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = "ORT_ENABLE_ALL" if optimize else "ORT_DISABLE_ALL"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    path = save_proto(proto, folder).path
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.array(session.run(["y"], feeds)[0])


@pytest.mark.parametrize("operator", ["Min", "Max"])
@pytest.mark.parametrize("end", EDGES)
def test_extremes_beside_a_constant(tmp_path: Path, operator: str, end: int) -> None:
    proto = model(make_node(operator, ["x", "c"], ["y"]), stored={"c": np.array(end)})
    order_int64(proto)
    expected = (np.minimum if operator == "Min" else np.maximum)(VALUES, end)
    for optimize in (False, True):
        assert answer(proto, tmp_path, optimize=optimize, x=VALUES).tolist() == expected.tolist()


@pytest.mark.parametrize("operator", ["Min", "Max"])
def test_extremes_of_three_that_are_broadcast(tmp_path: Path, operator: str) -> None:
    inputs: Inputs = (("x", INT64, ["a", 1]), ("z", INT64, ["b"]), ("w", INT64, []))
    proto = model(make_node(operator, ["x", "z", "w"], ["y"]), inputs=inputs)
    assert order_int64(proto) == 1
    choose = np.minimum if operator == "Min" else np.maximum
    x, z, w = VALUES[:, None], VALUES[::-1].copy(), np.array(3 * 10**9)
    assert np.array_equal(answer(proto, tmp_path, x=x, z=z, w=w), choose(choose(x, z), w))


@pytest.mark.parametrize(("low", "high"), [(-3 * 10**9, 3 * 10**9), (0, None), (None, 2**31), (0, 2**63 - 1), (5, -5)])
def test_clips(tmp_path: Path, low: int | None, high: int | None) -> None:
    stored = {name: np.array(end) for name, end in (("low", low), ("high", high)) if end is not None}
    names = ["x", *(name if name in stored else "" for name in ("low", "high"))]
    proto = model(make_node("Clip", names, ["y"]), stored=stored)
    assert order_int64(proto) == 1
    floor = VALUES if low is None else np.maximum(VALUES, low)
    assert np.array_equal(answer(proto, tmp_path, x=VALUES), floor if high is None else np.minimum(floor, high))


def test_signs(tmp_path: Path) -> None:
    proto = model(make_node("Sign", ["x"], ["y"]))
    assert order_int64(proto) == 1
    assert np.array_equal(answer(proto, tmp_path, x=VALUES), np.sign(VALUES))


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("axes", [None, [0], [1], [-1], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [13, 18])
def test_extremes_over_axes(tmp_path: Path, operator: str, axes: list[int] | None, keepdims: int, opset: int) -> None:
    stored = {"axes": np.array(axes)} if axes and opset == 18 else {}
    extra = {"axes": axes} if axes and opset == 13 else {}
    node = make_node(operator, ["x", *stored], ["y"], keepdims=keepdims, **extra)
    proto = model(node, inputs=(("x", INT64, ["n", 5, 7]),), stored=stored, opset=opset)
    assert order_int64(proto) == 1
    x = np.random.default_rng(0).integers(-(2**33), 2**33, (3, 5, 7))
    reduce = np.max if operator == "ReduceMax" else np.min
    expected = reduce(x, axis=None if axes is None else tuple(axes), keepdims=bool(keepdims))
    found = answer(proto, tmp_path, x=x)
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


def test_no_axes_are_no_work(tmp_path: Path) -> None:
    proto = model(make_node("ReduceMax", ["x"], ["y"], noop_with_empty_axes=1))
    order_int64(proto)
    assert np.array_equal(answer(proto, tmp_path, x=VALUES), VALUES)


@pytest.mark.parametrize(
    ("opset", "inputs"), [(12, (("x", INT64, ["n"]),)), (18, (("x", INT64, ["n"]), ("axes", INT64, [1])))]
)
def test_what_cannot_be_written_is_named(opset: int, inputs: Inputs) -> None:
    proto = model(make_node("ReduceMax", [name for name, _, _ in inputs], ["y"], "most"), inputs=inputs, opset=opset)
    assert order_int64(proto) == 0
    assert [node.name for node in misordered(proto)] == ["most"]


def test_branches_too(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("b", INT64, None)
    body = helper.make_graph([make_node("Max", ["x", "c"], ["b"])], "body", [], [value])
    other = helper.make_graph(
        [make_node("Min", ["x", "c"], ["o"])], "other", [], [helper.make_tensor_value_info("o", INT64, None)]
    )
    chosen = make_node("If", ["k"], ["y"], then_branch=body, else_branch=other)
    inputs: Inputs = (("x", INT64, ["n"]), ("k", TensorProto.BOOL, []))
    proto = model(chosen, inputs=inputs, stored={"c": np.array(2**31)})
    assert order_int64(proto) == 2
    for k, choose in ((True, np.maximum), (False, np.minimum)):
        assert np.array_equal(answer(proto, tmp_path, x=VALUES, k=np.array(k)), choose(VALUES, 2**31))


@pytest.mark.parametrize(
    "proto",
    [
        pytest.param(
            model(
                make_node("Shape", ["x"], ["s"]), make_node("Gather", ["s", "i"], ["g"]),
                make_node("Add", ["g", "i"], ["a"]),
                make_node("Max", ["a", "i"], ["m"]), make_node("Min", ["m", "most"], ["y"]),
                inputs=(("x", TensorProto.FLOAT, ["n", "m"]),), stored={"i": np.array(1), "most": np.array(2**63 - 1)},
            ), id="sizes and the largest int64",
        ),
        pytest.param(
            model(make_node("Clip", ["x", "c"], ["y"]), stored={"c": np.array(0, np.float32)},
                  inputs=(("x", TensorProto.FLOAT, ["n"]),), out=TensorProto.FLOAT), id="floats",
        ),
        pytest.param(
            model(make_node("Cast", ["x"], ["w"], to=INT64), make_node("Min", ["w", "c"], ["y"]),
                  inputs=(("x", TensorProto.INT32, ["n"]),), stored={"c": np.array(2**31 - 1)}), id="int32",
        ),
        pytest.param(
            model(make_node("Cast", ["x"], ["w"], to=INT64), make_node("ReduceMax", ["w"], ["y"]),
                  inputs=(("x", TensorProto.UINT8, ["n"]),)), id="bytes",
        ),
        pytest.param(
            model(make_node("Gather", ["t", "x"], ["r"]), make_node("Clip", ["x", "a", "b"], ["y"]),
                  stored={"t": np.zeros((9, 2), np.float32), "a": np.array(0), "b": np.array(8)}), id="rows of a table",
        ),
        pytest.param(
            model(make_node("Min", ["x", "c"], ["y"]), inputs=(("x", TensorProto.UINT64, ["n"]),),
                  out=TensorProto.UINT64, stored={"c": np.array(2**31, np.uint64)}), id="unsigned",
        ),
    ],
)  # fmt: skip
def test_what_is_right_stays(proto: onnx.ModelProto) -> None:
    before = proto.SerializeToString()
    assert order_int64(proto) == 0
    assert proto.SerializeToString() == before


def test_a_large_constant_beside_sizes_is_written(tmp_path: Path) -> None:
    nodes = make_node("Shape", ["x"], ["s"]), make_node("Min", ["s", "c"], ["y"])
    proto = model(*nodes, inputs=(("x", TensorProto.FLOAT, ["n"]),), stored={"c": np.array(3 * 10**9)})
    assert order_int64(proto) == 1
    assert answer(proto, tmp_path, x=np.zeros(7, np.float32)).tolist() == [7]


@pytest.mark.parametrize("opset", [12, 18])
def test_prepared_models_and_the_reference_are_right(tmp_path: Path, opset: int) -> None:
    nodes = make_node("Min", ["x", "c"], ["m"]), make_node("Sign", ["m"], ["s"]), make_node("Mul", ["s", "m"], ["y"])
    proto = model(*nodes, stored={"c": np.array(3 * 10**9)}, opset=opset)
    source = save_proto(proto, tmp_path / "source")
    expected = np.abs(np.minimum(VALUES[1:], 3 * 10**9))
    assert np.array_equal(run_model(source, {"x": VALUES[1:]}, optimize=False)["y"], expected)
    prepared = prepare(source, tmp_path / "prepared")
    assert list(misordered(onnx.load(prepared.path))) == []
    assert np.array_equal(answer(onnx.load(prepared.path), tmp_path, optimize=True, x=VALUES[1:]), expected)


@pytest.mark.parametrize(("low", "high"), [(0, 2**63 - 1), (-(2**63), 9), (-(2**63), 2**63 - 1)])
def test_ends_at_the_types_own_are_left_out(tmp_path: Path, low: int, high: int) -> None:
    stored = {"low": np.array(low), "high": np.array(high)}
    proto = model(make_node("Clip", ["x", "low", "high"], ["y"]), stored=stored)
    assert order_int64(proto) == 1
    ends = (low != -(2**63)) + (high != 2**63 - 1)
    assert sum(node.op_type == "Where" for node in proto.graph.node) == ends
    assert np.array_equal(answer(proto, tmp_path, x=VALUES), np.clip(VALUES, low, high))
