"""Integers that OpenVINO computes in 32 bits are refused, by value at the inputs and by name inside; others pass."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from backend_models import BOOL, FLOAT, INT64, UINT8, make, save
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgepack.engines.openvino.engine import check, compile_model, load_model
from edgepack.errors import DataError
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgepack.specs.types import Array

pytestmark = pytest.mark.slow

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")

CPU = Target("test", "test", "openvino", "x86_64")
UINT32, UINT64 = TensorProto.UINT32, TensorProto.UINT64
INT32 = TensorProto.INT32
HALF = 2**30
node = helper.make_node


def whole(*values: int, kind: Any = np.int64) -> Array:
    return np.array(values, kind)


def run(proto: onnx.ModelProto, feeds: dict[str, Array], tmp_path: Path) -> Array:
    compiled = compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "out")
    runner = load_model(compiled, RunOptions(threads=1))
    found = np.array(runner.infer(feeds)["y"])
    runner.close()
    return found


def pair(operator: str, kind: int, result: int | None = None) -> onnx.ModelProto:
    made = node(operator, ["x", "z"], ["y"], "wide")
    return make([made], [("x", kind, ["N"]), ("z", kind, ["N"])], [("y", result or kind, ["N"])])


def with_constant(operator: str, constant: Array, kind: int = INT64, result: int | None = None) -> onnx.ModelProto:
    made = node(operator, ["x", "c"], ["y"], "wide")
    return make([made], [("x", kind, ["N"])], [("y", result or kind, ["N"])], {"c": constant})


def table() -> onnx.ModelProto:
    made = node("Gather", ["table", "x"], ["y"], "wide")
    return make([made], [("x", INT64, ["N"])], [("y", INT64, ["N"])], {"table": whole(3_000_000_000, 5)})


def hashed() -> onnx.ModelProto:
    """CANINE's way of hashing, with a prime that is too large for 32 bits."""
    nodes = [node("Mul", ["x", "prime"], ["wide"], "wide"), node("Mod", ["wide", "buckets"], ["y"], "mod")]
    weights = {"prime": whole(1_000_003), "buckets": whole(16384)}
    return make(nodes, [("x", INT64, ["N"])], [("y", INT64, ["N"])], weights)


def chosen() -> onnx.ModelProto:
    nodes = [node("Less", ["x", "c"], ["less"]), node("Where", ["less", "x", "d"], ["y"], "wide")]
    return make(nodes, [("x", INT64, ["N"])], [("y", INT64, ["N"])], {"c": whole(6), "d": whole(2**40)})


def handed_on() -> onnx.ModelProto:
    nodes = [node("Identity", ["c"], ["big"]), node("Concat", ["x", "big"], ["y"], "wide", axis=0)]
    return make(nodes, [("x", INT64, ["N"])], [("y", INT64, ["M"])], {"c": whole(-(2**40))})


def below_zero() -> onnx.ModelProto:
    nodes = [node("Sub", ["x", "z"], ["less"]), node("Div", ["less", "z"], ["y"], "wide")]
    return make(nodes, [("x", UINT32, ["N"]), ("z", UINT32, ["N"])], [("y", UINT32, ["N"])])


def compared(kind: int = INT64) -> onnx.ModelProto:
    """Compare keys made of two numbers, as models of graphs and tables do."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        node("Mul", ["x", "rows"], ["starts"]),
        node("Equal", ["starts", "key"], ["y"], "wide"),
    ]
    weights = {"rows": np.array([1009], dtype), "key": np.array([100_000_001], dtype)}
    return make(nodes, [("x", kind, ["N"])], [("y", BOOL, ["N"])], weights)


def remainder() -> onnx.ModelProto:
    nodes = [node("Mul", ["x", "prime"], ["wide"]), node("Mod", ["wide", "buckets"], ["y"], "wide")]
    weights = {"prime": whole(103), "buckets": whole(16384)}
    return make(nodes, [("x", INT64, ["N"])], [("y", INT64, ["N"])], weights)


def beside_unknown(operator: str, kind: int = INT64) -> onnx.ModelProto:
    """Compute with a large constant and with what no rule tells the size of."""
    nodes = [node("Sign", ["x"], ["sign"]), node(operator, ["sign", "c"], ["y"], "wide")]
    constant = whole(3_000_000_000, kind=helper.tensor_dtype_to_np_dtype(kind))
    return make(nodes, [("x", kind, ["N"])], [("y", kind, ["N"])], {"c": constant}, opset=18)


def written(operator: str, place: Array) -> onnx.ModelProto:
    made = node(operator, ["x", "place", "c"], ["y"], "wide")
    weights = {"place": place, "c": whole(3_000_000_000)}
    return make([made], [("x", INT64, ["N"])], [("y", INT64, ["N"])], weights)


U32 = {"kind": np.uint32}
WRONG = {
    "product": (pair("Mul", INT64), {"x": whole(70_000), "z": whole(70_000)}),
    "power": (with_constant("Pow", whole(3)), {"x": whole(2000, 3)}),
    "a large summand": (with_constant("Add", whole(3_000_000_000)), {"x": whole(7, 5)}),
    "a large factor": (hashed(), {"x": whole(30_000, 900_000)}),
    "a large maximum": (with_constant("Max", whole(3_000_000_000)), {"x": whole(7, 5)}),
    "a table of large numbers": (table(), {"x": whole(0, 1)}),
    "a large choice": (chosen(), {"x": whole(7, 5)}),
    "large numbers handed on": (handed_on(), {"x": whole(7, 5)}),
    "a hash": (remainder(), {"x": whole(1_000_003, 917_999)}),
    "a large factor of a sign": (beside_unknown("Mul"), {"x": whole(7, -5)}),
    "the most of a sign and a large number": (beside_unknown("Max"), {"x": whole(7, -5)}),
    "bits of a large number": (beside_unknown("BitwiseXor"), {"x": whole(7, -5)}),
    "a large number written": (written("ScatterElements", whole(1)), {"x": whole(7, 5)}),
    "a large number written by rows": (written("ScatterND", whole(1)[None]), {"x": whole(7, 5)}),
    "uint32 constant": (
        with_constant("Add", whole(3_000_000_000, **U32), UINT32),
        {"x": whole(7, **U32)},
    ),
    "what is below zero without a sign": (below_zero(), {"x": whole(3, 9, **U32), "z": whole(4, 5, **U32)}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_be_cut_off_is_named(name: str, tmp_path: Path) -> None:
    proto, feeds = WRONG[name]
    (found,) = check(save(proto, tmp_path / "checked.onnx"), CPU)
    assert (found.severity, found.node) == ("error", "wide")
    assert "in 32 bits" in found.message or "in float32" in found.message
    with np.errstate(over="ignore"):
        wanted = ReferenceEvaluator(proto).run(None, feeds)[0]
    assert not np.array_equal(run(proto, feeds, tmp_path), wanted), "it is right now: the refusal can go"


def positions() -> onnx.ModelProto:
    """Return the positions of texts as OPT and RoBERTa count them: a running sum of the mask, times the mask."""
    nodes = [
        node("CumSum", ["attention_mask", "axis"], ["sums"]),
        node("Mul", ["sums", "attention_mask"], ["kept"]),
        node("Add", ["kept", "two"], ["places"]),
        node("ReduceSum", ["places", "axes"], ["y"], keepdims=0),
    ]
    weights = {"axis": np.array(1), "two": whole(2), "axes": whole(1)}
    return make(nodes, [("attention_mask", INT64, ["N", "T"])], [("y", INT64, ["N"])], weights)


def flat_indices() -> onnx.ModelProto:
    """Return rows taken by one number made of two: what is greatest, and the size of an axis."""
    nodes = [
        node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        node("Shape", ["x"], ["sizes"]),
        node("Gather", ["sizes", "one"], ["width"]),
        node("Gather", ["sizes", "none"], ["rows"]),
        node("Range", ["none", "rows", "one"], ["order"]),
        node("Mul", ["order", "width"], ["starts"]),
        node("Add", ["starts", "best"], ["y"]),
    ]
    weights = {"one": np.array(1), "none": np.array(0)}
    return make(nodes, [("x", FLOAT, ["N", "T"])], [("y", INT64, ["N"])], weights)


def to_the_end() -> onnx.ModelProto:
    weights = {"start": whole(1), "end": whole(2**63 - 1)}
    return make([node("Slice", ["x", "start", "end"], ["y"])], [("x", INT64, ["N"])], [("y", INT64, ["M"])], weights)


def ends() -> onnx.ModelProto:
    made = node("Clip", ["x", "low", "high"], ["y"])
    weights = {"low": np.array(-(2**63)), "high": np.array(2**63 - 1)}
    return make([made], [("x", INT64, ["N"])], [("y", INT64, ["N"])], weights)


def unknown_to_the_end() -> onnx.ModelProto:
    """Bound and cut what no rule tells the size of by numbers that mean "no bound"."""
    nodes = [
        node("Sign", ["x"], ["sign"]),
        node("Clip", ["sign", "low", "high"], ["bounded"]),
        node("Slice", ["bounded", "start", "end"], ["y"]),
    ]
    weights = {"low": np.array(0), "high": np.array(2**63 - 1), "start": whole(1), "end": whole(2**63 - 1)}
    return make(nodes, [("x", INT64, ["N"])], [("y", INT64, ["M"])], weights)


def branches() -> onnx.ModelProto:
    """Return two branches that have their own constants, by the same name; only what is compared with is large."""

    def branch(operator: str, constant: int) -> onnx.GraphProto:
        nodes = [node(operator, ["x", "c"], ["t"]), node("Cast", ["t"], ["r"], to=INT64)]
        result = helper.make_tensor_value_info("r", INT64, ["N"])
        return helper.make_graph(nodes, operator, [], [result], [numpy_helper.from_array(whole(constant), "c")])

    made = node("If", ["chosen"], ["y"], then_branch=branch("Less", 2**40), else_branch=branch("Add", 7))
    inputs = [("x", INT64, ["N"]), ("chosen", BOOL, [])]
    return make([made], inputs, [("y", INT64, ["N"])])


def squares() -> onnx.ModelProto:
    """Return 40 squares, each of the one before: a bound that did not wrap would have 2^44 bits."""
    names = ["x", *(f"s{n}" for n in range(39)), "y"]
    nodes = [node("Mul", [before, before], [after]) for before, after in itertools.pairwise(names)]
    return make(nodes, [("x", INT32, ["N"])], [("y", INT32, ["N"])])


def pixels() -> onnx.ModelProto:
    nodes = [node("Cast", ["x"], ["wide"], to=UINT32), node("Div", ["wide", "two"], ["y"])]
    return make(nodes, [("x", UINT8, ["N"])], [("y", UINT32, ["N"])], {"two": whole(2, **U32)})


RIGHT = {
    "ids and a small number": (with_constant("Add", whole(-1000)), {"x": whole(-(2**31) + 1000, 2**31 - 1)}),
    "a difference": (pair("Sub", INT64), {"x": whole(HALF, -HALF), "z": whole(-HALF + 1, HALF)}),
    "CANINE's small primes": (with_constant("Mul", whole(103)), {"x": whole(1_114_111, 3)}),
    "positions": (positions(), {"attention_mask": np.tri(3, 6, 2, dtype=np.int64)}),
    "flat indices": (flat_indices(), {"x": np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)}),
    "a slice to the end": (to_the_end(), {"x": whole(4, 2**31 - 1, -(2**31))}),
    "the ends of 64 bits": (ends(), {"x": whole(4, 2**24, -(2**24))}),
    "below a large number": (with_constant("Less", whole(2**40), result=BOOL), {"x": whole(5, 2**24)}),
    "the least of it and a large number": (with_constant("Min", whole(2**40)), {"x": whole(5, 2**31 - 1)}),
    "sums of uint32": (pair("Add", UINT32), {"x": whole(2**32 - 1, **U32), "z": whole(7, **U32)}),
    "the least of a sign and a large number": (beside_unknown("Min"), {"x": whole(4, 9, -3)}),
    "no bound": (unknown_to_the_end(), {"x": whole(4, 9, -3)}),
    "branches": (branches(), {"x": whole(4, 9, -3), "chosen": np.array(True)}),
    "squares": (squares(), {"x": whole(1, 3, -1, 0, kind=np.int32)}),
    "pixels": (pixels(), {"x": whole(0, 7, 255, kind=np.uint8)}),
    "int32": (pair("Mul", INT32), {"x": whole(70_000, kind=np.int32), "z": whole(70_000, kind=np.int32)}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_32_bits_hold_passes_and_is_right(name: str, tmp_path: Path) -> None:
    proto, feeds = RIGHT[name]
    assert check(save(proto, tmp_path / "checked.onnx"), CPU) == []
    with np.errstate(over="ignore"):
        wanted = ReferenceEvaluator(proto).run(None, feeds)[0]
    np.testing.assert_array_equal(run(proto, feeds, tmp_path), wanted)


@pytest.mark.parametrize(("dtype", "kind"), [("int64", INT64), ("uint64", UINT64)])
def test_inputs_that_32_bits_do_not_hold_are_refused(dtype: str, kind: int, tmp_path: Path) -> None:
    proto = with_constant("Add", whole(0, kind=dtype), kind)
    with pytest.raises(DataError) as caught:
        run(proto, {"x": whole(1, 2**31, kind=dtype)}, tmp_path)
    assert caught.value.message == f"input 'x' holds 2147483648, and OpenVINO computes its {dtype} in 32 bits"
    assert "ONNX Runtime" in caught.value.hint
    most = whole(1, 2**31 - 1, kind=dtype)
    np.testing.assert_array_equal(run(proto, {"x": most}, tmp_path), most)


@pytest.mark.parametrize("operator", ["Div", "Max", "Less", "Mod", "Greater"])
def test_unsigned_numbers_that_would_be_read_as_signed_are_refused(operator: str, tmp_path: Path) -> None:
    proto = pair(operator, UINT32, BOOL if operator in ("Less", "Greater") else None)
    assert check(save(proto, tmp_path / "checked.onnx"), CPU) == []
    small = {"x": whole(2**24, 7, **U32), "z": whole(3, 8, **U32)}
    wanted = ReferenceEvaluator(proto).run(None, small)[0]
    np.testing.assert_array_equal(run(proto, small, tmp_path), wanted)
    with pytest.raises(DataError, match="holds 3000000000"):
        run(proto, {"x": whole(3_000_000_000, **U32), "z": whole(3, **U32)}, tmp_path)


@pytest.mark.parametrize(("dtype", "kind"), [("int64", INT64), ("int32", INT32), ("uint32", UINT32)])
def test_inputs_that_float32_does_not_hold_are_refused_where_they_are_compared(
    dtype: str, kind: int, tmp_path: Path
) -> None:
    nodes = [node("Add", ["x", "one"], ["next"]), node("Equal", ["next", "one"], ["y"])]
    weights = {"one": whole(2**24 + 2, kind=dtype)}
    proto = make(nodes, [("x", kind, ["N"])], [("y", BOOL, ["N"])], weights)
    with pytest.raises(DataError) as caught:
        run(proto, {"x": whole(1, 2**24 + 1, kind=dtype)}, tmp_path)
    assert caught.value.message == f"input 'x' holds 16777217, and OpenVINO computes its {dtype} in float32"
    assert "16777216" in caught.value.hint


def test_other_batches_and_wrong_types_are_told_too(tmp_path: Path) -> None:
    proto = make([node("Neg", ["x"], ["y"])], [("x", INT64, ["N", 1])], [("y", INT64, ["N", 1])])
    compiled = compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "out")
    runner = load_model(compiled, RunOptions(threads=1))
    with pytest.raises(DataError, match="holds -2147483649"):
        runner.infer({"x": whole(1, 2, -(2**31) - 1)[:, None]})
    with pytest.raises(DataError, match="has type uint64"):
        runner.infer({"x": whole(2**40, kind=np.uint64)[:, None]})
    with pytest.raises(DataError, match="holds 3000000000"):
        runner.another().infer({"x": whole(3_000_000_000)[:, None]})
    np.testing.assert_array_equal(runner.infer({"x": whole(1, 2, 3)[:, None]})["y"], -whole(1, 2, 3)[:, None])
    runner.close()


@pytest.fixture(scope="module")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a loaded model that computes what most models do of ids, and the same in ONNX's reference."""
    nodes = [
        node("Add", ["x", "five"], ["sum"]),
        node("Div", ["sum", "seven"], ["quotient"]),
        node("Max", ["quotient", "x"], ["most"]),
        node("Less", ["most", "x"], ["less"]),
        node("Where", ["less", "sum", "most"], ["y"]),
    ]
    weights = {"five": whole(5), "seven": whole(7)}
    proto = make(nodes, [("x", INT64, ["N"])], [("y", INT64, ["N"])], weights)
    folder = tmp_path_factory.mktemp("arithmetic")
    model = save(proto, folder / "m.onnx")
    assert check(model, CPU) == []
    runner = load_model(compile_model(model, CPU, "fp32", folder / "out"), RunOptions(threads=1))
    yield runner, ReferenceEvaluator(proto)
    runner.close()


@given(
    st.lists(st.one_of(st.integers(-(2**24) - 9, 2**24 + 9), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=9)
)
@settings(deadline=None)
def test_any_numbers_are_right_or_refused(arithmetic: Any, values: list[int]) -> None:
    runner, reference = arithmetic
    x = np.array(values, np.int64)
    fits = min(values) >= -(2**24) and max(values) <= 2**24
    if not fits:
        with pytest.raises(DataError, match="in float32"):
            runner.infer({"x": x})
    else:
        np.testing.assert_array_equal(runner.infer({"x": x})["y"], reference.run(None, {"x": x})[0])
