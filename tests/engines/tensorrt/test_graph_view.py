"""A model's nodes, types and constants, as the checks see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from violations import FLOAT, make

from edgepack.engines.tensorrt.graph_view import attribute, read_view
from edgepack.errors import CompileError
from edgepack.graph.load import load_model
from edgepack.graph.walk import describe_node

Save = Any
LARGE = np.arange(4 * 2048, dtype=np.float32).reshape(4, 2048)


def test_large_weights_are_let_go_of_and_read_when_asked(save: Save) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "b"], ["y"])]
    view = read_view(save(make(nodes, {"w": LARGE, "b": np.ones(2048, np.float32)[:1]}, inputs=[("x", FLOAT, (1, 4))],
                               outputs=[("y", FLOAT, (1, 2048))])))  # fmt: skip
    assert not view.constants["w"].raw_data
    np.testing.assert_array_equal(view.values("w"), LARGE)
    np.testing.assert_array_equal(view.values("b"), [1])
    assert view.values("x") is None
    assert (view.is_constant("w"), view.is_constant("x")) == (True, False)


def test_weights_of_their_own_files_are_read_too(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    proto = make([node], {"w": LARGE}, inputs=[("x", FLOAT, (1, 4))], outputs=[("y", FLOAT, (1, 2048))])
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    np.testing.assert_array_equal(read_view(load_model(tmp_path / "m.onnx")).values("w"), LARGE)


def test_types_ranks_and_users_are_known(save: Save) -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Cast", ["s"], ["y"], to=FLOAT)]
    view = read_view(save(make(nodes, inputs=[("x", FLOAT, (1, 4, 5))], outputs=[("y", FLOAT, (3,))])))
    assert (view.types["x"], view.types["s"]) == (TensorProto.FLOAT, TensorProto.INT64)
    assert (view.ranks["x"], view.ranks["s"]) == (3, 1)
    user = view.first_user("s")
    assert user is not None
    assert user.op_type == "Cast"
    assert view.first_user("y") is None
    assert view.type_name(TensorProto.INT64) == "int64"


def test_nodes_of_branches_and_constants_of_nodes_are_in_it(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[1] x, bool c) => (float[1] y) {
            k = Constant<value = float[1] {3}>()
            y = If (c) <then_branch = one () => (float[1] p) { p = Add(x, k) },
                        else_branch = two () => (float[1] q) { q = Relu(x) }>
        }"""
    )
    onnx.save(proto, tmp_path / "m.onnx")
    view = read_view(load_model(tmp_path / "m.onnx"))
    assert sorted(node.op_type for node in view.nodes) == ["Add", "Constant", "If", "Relu"]
    assert {node.name for node in view.nodes} == {"k", "y", "p", "q"}  # named by what they make
    np.testing.assert_array_equal(view.values("k"), [3])


def test_a_damaged_file_is_named(save: Save, tmp_path: Path) -> None:
    model = save(make([helper.make_node("Relu", ["x"], ["y"])]))
    model.path.write_bytes(b"\xff" * 20)
    with pytest.raises(CompileError, match=r"cannot read model\.onnx"):
        read_view(model)


def test_attributes_are_text_or_their_default() -> None:
    node = helper.make_node("Resize", ["x"], ["y"], mode="linear", axes=[1, 2])
    assert (attribute(node, "mode", "nearest"), attribute(node, "axes", []), attribute(node, "exclude", 0)) == (
        "linear", [1, 2], 0,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "outputs", "shown"), [("n", ["y"], "n"), ("", ["", "z"], "z"), ("", [], "(unnamed)")])
def test_a_node_is_called_by_its_name_or_output(name: str, outputs: list[str], shown: str) -> None:
    assert describe_node(helper.make_node("Relu", ["x"], outputs, name=name)) == shown


def test_words_have_no_values(save: Save) -> None:
    proto = make([helper.make_node("Relu", ["x"], ["y"])])
    proto.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [1], [b"a"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((0, 3), np.float32), "none"))
    view = read_view(save(proto))
    assert view.values("words") is None
    found = view.values("none")
    assert found is not None
    assert found.shape == (0, 3)
