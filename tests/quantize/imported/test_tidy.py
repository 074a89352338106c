"""Q/DQ graphs of other tools in one form: the same numbers, weights as integers, a pair on both sides of what moves."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imported_models import float_network, operators, run
from onnx import numpy_helper

from edgepack.quantize.imported.tidy import store_constants, wrap_moves

_MOVES = {
    "MaxPool": "m = MaxPool<kernel_shape=[2,2], strides=[2,2], pads=[1,0,0,1]>(q)",
    "Transpose": "m = Transpose<perm=[0,2,3,1]>(q)",
    "Reshape": "m = Reshape(q, shape)",
    "Flatten": "m = Flatten(q)",
    "Slice": "m = Slice(q, starts, ends)",
    "Pad with the zero point": "m = Pad(q, pads, zero)",
    "two in a row": "f = Flatten(q) m = Transpose(f)",
}


def moving(body: str, kind: str = "uint8", zero: int = 7) -> onnx.ModelProto:
    """Return a picture that is quantized, moved as integers, and dequantized."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,4,4] x) => (float y) {{
        q = QuantizeLinear(x, scale, zero)
        {body}
        y = DequantizeLinear(m, scale, zero) }}"""
    proto = onnx.parser.parse_model(text)
    arrays = {
        "scale": np.float32(0.03), "zero": np.asarray(zero, kind), "other": np.asarray(0, kind),
        "shape": np.array([2, 48], np.int64), "starts": np.array([0, 1], np.int64), "ends": np.array([2, 3], np.int64),
        "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64),
    }  # fmt: skip
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items() if n in used)
    return proto


def picture() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)}


@pytest.mark.parametrize("name", _MOVES)
def test_what_moves_integers_is_put_between_pairs(name: str) -> None:
    proto = moving(_MOVES[name])
    (expected,) = run(proto, picture())
    count = wrap_moves(proto)
    assert count == name.count(" in a row") + 1
    assert operators(proto).count("DequantizeLinear") == operators(proto).count("QuantizeLinear") == count + 1
    np.testing.assert_array_equal(run(proto, picture())[0], expected)


@pytest.mark.parametrize(
    "body",
    ["m = Pad(q, pads, other)", "m = Pad(q, pads)", "i = Identity(q) m = Flatten(i) z = Cast<to=1>(m)"],
    ids=["a Pad with another value than zero", "a Pad with 0, which is not the zero point", "read otherwise too"],
)
def test_what_would_change_by_it_stays(body: str) -> None:
    proto = moving(body)
    before = proto.SerializeToString()
    assert wrap_moves(proto) == 0
    assert proto.SerializeToString() == before


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), kind=st.sampled_from(["uint8", "int8"]), axis=st.sampled_from([None, 0, 1]))
def test_constants_are_stored_as_the_integers_that_onnx_runtime_makes(seed: int, kind: str, axis: int | None) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(4, 5)).astype(np.float32)
    count = () if axis is None else (weight.shape[axis],)
    at = "" if axis is None else f"<axis={axis}>"
    proto = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => (float y) {{
        q = QuantizeLinear{at}(w, scale, zero)
        c = Clip(q, low, high)
        d = DequantizeLinear{at}(c, scale, zero)
        y = MatMul(x, d) }}""")
    limits = np.iinfo(kind)
    arrays = {
        "w": weight, "scale": random.uniform(0.004, 0.02, count).astype(np.float32),
        "zero": random.integers(limits.min, limits.max, count).astype(kind),
        "low": np.asarray(limits.min + 1, kind), "high": np.asarray(limits.max - 9, kind),
    }  # fmt: skip
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    feeds = {"x": random.normal(size=(2, 4)).astype(np.float32)}
    (expected,) = run(proto, feeds)
    assert store_constants(proto) == 2
    assert operators(proto) == ["DequantizeLinear", "MatMul"]
    np.testing.assert_array_equal(run(proto, feeds)[0], expected)


def test_a_float_graph_has_nothing_to_store() -> None:
    assert store_constants(float_network()) == 0
