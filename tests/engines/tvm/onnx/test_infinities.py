"""IsInf of one sign computes the same when it is written with a comparison."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.engines.tvm.onnx.infinities import tell_signs

X = np.array([1, np.inf, -np.inf, np.nan, 0, -3])


def graph(kind: int, **attributes: int) -> onnx.ModelProto:
    node = helper.make_node("IsInf", ["x"], ["y"], name="infinite", **attributes)
    inputs = [helper.make_tensor_value_info("x", kind, [6])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.BOOL, [6])]
    return helper.make_model(
        helper.make_graph([node], "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 20)]
    )


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("signs", [(0, 1), (1, 0), (0, 0)])
def test_one_sign(signs: tuple[int, int], kind: int) -> None:
    proto = graph(kind, detect_negative=signs[0], detect_positive=signs[1])
    assert tell_signs(proto, {"x": kind}) == 1
    onnx.checker.check_model(proto, full_check=True)
    assert not any(node.attribute for node in proto.graph.node)
    (found,) = ReferenceEvaluator(proto).run(None, {"x": X.astype(helper.tensor_dtype_to_np_dtype(kind))})
    np.testing.assert_array_equal(found, (np.isposinf(X) & bool(signs[1])) | (np.isneginf(X) & bool(signs[0])))


def test_both_signs_are_left_as_they_are() -> None:
    proto = graph(TensorProto.FLOAT)
    before = proto.SerializeToString()
    assert tell_signs(proto, {}) == 0
    assert proto.SerializeToString() == before
