"""Powers whose operands have different types become ones of one type, and compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.engines.tvm.onnx.powers import match_powers

F32, F64, I32, I64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64


def power(base: int, exponent: int) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", base, [3]), helper.make_tensor_value_info("e", exponent, [3])]
    outputs = [helper.make_tensor_value_info("y", base, [3])]
    graph = helper.make_graph([helper.make_node("Pow", ["x", "e"], ["y"], name="power")], "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])


@pytest.mark.parametrize(
    ("base", "exponent", "common"),
    [(F32, I64, F32), (F32, F64, F32), (F64, F32, F64), (I32, F32, F32), (I64, F64, F64), (I32, I64, F32)],
)
def test_both_operands_get_one_type_and_the_result_keeps_the_bases(base: int, exponent: int, common: int) -> None:
    proto = power(base, exponent)
    feeds = {
        "x": np.array([2, 3, 1], helper.tensor_dtype_to_np_dtype(base)),
        "e": np.array([3, 2, 0], helper.tensor_dtype_to_np_dtype(exponent)),
    }
    assert match_powers(proto, {"x": base, "e": exponent}) == 1
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    types = {i.name: i.type.tensor_type.elem_type for i in (*inferred.input, *inferred.value_info, *inferred.output)}
    (node,) = [node for node in proto.graph.node if node.op_type == "Pow"]
    assert [types[name] for name in node.input] == [common, common]
    (found,) = ReferenceEvaluator(proto).run(None, feeds)
    assert found.dtype == feeds["x"].dtype
    np.testing.assert_array_equal(found, [8, 9, 1])


@pytest.mark.parametrize("types", [{"x": F32, "e": F32}, {"x": F32}, {"e": I64}, {}])
def test_one_type_or_an_unknown_one_changes_nothing(types: dict[str, int]) -> None:
    proto = power(F32, F32)
    before = proto.SerializeToString()
    assert match_powers(proto, types) == 0
    assert proto.SerializeToString() == before


def test_other_operators_may_differ_in_their_inputs_types() -> None:
    proto = power(F32, I64)
    proto.graph.node[0].op_type = "Gather"
    assert match_powers(proto, {"x": F32, "e": I64}) == 0
