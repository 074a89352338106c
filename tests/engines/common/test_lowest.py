"""The Max that changes no value."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.engines.common.lowest import is_max, make_max, store_lowest


def test_no_value_changes() -> None:
    values = np.float32([-np.inf, -3e38, -0.0, 1, np.inf, np.nan])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [6]) for name in ("x", "y")]
    graph = helper.make_graph([make_max("x", "y", "n")], "g", ends[:1], ends[1:])
    for _ in range(2):
        store_lowest(graph)
    assert len(graph.initializer) == 1
    assert is_max(graph.node[0])
    assert not is_max(helper.make_node("Max", ["x", "x"], ["y"]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (found,) = ReferenceEvaluator(model).run(None, {"x": values})
    np.testing.assert_array_equal(found, values)
