"""What must stay in fp32, by what samples show of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import ModelError
from edgepack.graph.load import load_model
from edgepack.graph.overflow import find_losses, invented, made_floats
from edgepack.graph.passes import infer_shapes
from edgepack.specs.types import no_progress


def parsed(body: str, shape: str = "1,4", **constants: Any) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[{shape}] x) => (float[{shape}] y) {{ {body} }}'
    )
    for name, array in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for node in proto.graph.node:
        node.name = node.op_type
    infer_shapes(proto)
    return proto


def losses(tmp_path: Path, proto: onnx.ModelProto, *xs: Any, precision: Any = "fp16") -> dict[str, str]:
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    known = {value.name for value in shown.graph.output}
    for name in made_floats(proto):
        if name not in known:
            shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(shown, tmp_path / "shown.onnx")
    nodes = frozenset(node.name for node in proto.graph.node)
    feeds = [{"x": np.float32(x)} for x in xs]
    return find_losses(proto, tmp_path / "shown.onnx", nodes, feeds, precision, no_progress)


PLAIN = "a = Mul(x, w) y = Relu(a)"
W = np.float32([1, 2, 3, 4])


def test_usual_values_lose_nothing(tmp_path: Path) -> None:
    assert losses(tmp_path, parsed(PLAIN, w=W), [[1, 2, 3, 4]]) == {}


@pytest.mark.parametrize(("largest", "stays"), [(8000, False), (8300, True)])
def test_half_of_the_range_is_the_limit_in_fp16(tmp_path: Path, largest: float, stays: bool) -> None:
    found = losses(tmp_path, parsed(PLAIN, w=W), [[1, 2, 3, largest]])
    assert ("Mul" in found) == stays
    if stays:
        assert found["Mul"] == f"a reaches {largest * 4:.3g}, fp16 ends at 65504"
        assert found["Relu"].startswith("a reaches")


def test_the_largest_of_all_samples_counts(tmp_path: Path) -> None:
    assert "Mul" in losses(tmp_path, parsed(PLAIN, w=W), [[1, 2, 3, 4]], [[1, 2, 3, 9000]], [[0, 0, 0, 0]])


def test_bf16_has_the_range_of_float32(tmp_path: Path) -> None:
    assert losses(tmp_path, parsed(PLAIN, w=W), [[1, 2, 3, 1e30]], precision="bf16") == {}


def test_digits_are_lost_below_the_normal_range(tmp_path: Path) -> None:
    found = losses(tmp_path, parsed(PLAIN, w=W), [[1e-7, 2e-7, 3.3e-7, 4e-7]])
    assert "below the normal range of fp16" in found["Mul"]
    assert losses(tmp_path, parsed(PLAIN, w=W), [[1e-7, 2e-7, 3.3e-7, 4e-7]], precision="bf16") == {}


def test_infinities_are_infinite_in_every_precision(tmp_path: Path) -> None:
    assert losses(tmp_path, parsed("y = Relu(x)"), [[1, 2, 3, np.inf]]) == {}


def test_a_sum_that_overflows_inside_stays(tmp_path: Path) -> None:
    """No tensor comes near the end of the range, but the squares do."""
    found = losses(tmp_path, parsed("y = ReduceSumSquare<axes=[1], keepdims=1>(x)", "1,64"), np.full((1, 64), 20.0))
    assert found == {}
    body = "m = ReduceL2<axes=[1], keepdims=1>(x) y = Div(x, m)"
    found = losses(tmp_path, parsed(body, "1,64"), np.full((1, 64), 300.0))
    assert "ReduceL2" in found


def test_an_operator_without_sums_is_judged_by_its_tensors_alone(tmp_path: Path) -> None:
    assert losses(tmp_path, parsed("y = Sigmoid(x)"), [[-1, 0, 1, 2]]) == {}


def test_tensors_are_those_that_nodes_make_in_float32() -> None:
    proto = parsed("s = Shape(x) a = Relu(x) y = Neg(a)")
    assert made_floats(proto) == ["a", "y"]


def test_without_samples_one_input_is_invented(tmp_path: Path) -> None:
    onnx.save(parsed("y = Relu(x)"), tmp_path / "m.onnx")
    (feed,) = invented(load_model(tmp_path / "m.onnx"))
    assert feed["x"].shape == (1, 4)


def test_a_model_that_takes_no_invented_input_is_refused(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (string[1] x) => (string[1] y) { y = Identity(x) }'
    )
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="no random inputs were found") as caught:
        invented(load_model(tmp_path / "m.onnx"))
    assert "--data" in str(caught.value.hint)
