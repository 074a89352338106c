"""The skeleton of a file is the file, but for weights that it points at; whatever is written is read back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_models import model, relu, small_conv, value
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgepack.errors import ModelError
from edgepack.graph import wire
from edgepack.graph.save import write_model
from edgepack.graph.wire import INLINE_BYTES, outputs, read_named, read_skeleton


def written(proto: onnx.ModelProto) -> bytes:
    file = io.BytesIO()
    write_model(proto, file)
    return file.getvalue()


def test_small_model_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(relu().SerializeToString())
    assert read_skeleton(path) == path.read_bytes()


def test_outputs_that_are_joined_with_a_model() -> None:
    joined = onnx.ModelProto.FromString(relu().SerializeToString() + outputs(["a", "b/ü" * 60]))
    assert [one.name for one in joined.graph.output] == ["y", "a", "b/ü" * 60]
    assert joined.graph.node == relu().graph.node
    alone = onnx.GraphProto(output=[helper.make_empty_tensor_value_info("x")])
    assert outputs(["x"]) == onnx.ModelProto(graph=alone).SerializeToString()


def elsewhere(location: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=location, dims=[1], data_type=1, data_location=1)
    for key, text in (("offset", "0"), ("location", location)):
        tensor.external_data.add(key=key, value=text)
    return tensor


def test_files_that_tensors_name_are_found_wherever_these_stand(tmp_path: Path) -> None:
    """One tensor at every place that onnx.proto has for one, and all of that in a graph within a graph."""
    sparse = onnx.SparseTensorProto(values=elsewhere("values"), indices=elsewhere("indices"))
    inner = onnx.GraphProto(initializer=[elsewhere("inner")])
    attribute = onnx.AttributeProto(
        t=elsewhere("t"), tensors=[elsewhere("tensors")], g=inner, graphs=[inner], sparse_tensor=sparse,
        sparse_tensors=[onnx.SparseTensorProto(values=elsewhere("many"))],
    )  # fmt: skip
    graph = onnx.GraphProto(
        node=[onnx.NodeProto(attribute=[attribute])],
        initializer=[elsewhere("initializer")],
        sparse_initializer=[sparse],
    )
    outer = onnx.GraphProto(
        initializer=[elsewhere("weight")], node=[onnx.NodeProto(attribute=[onnx.AttributeProto(graphs=[graph])])]
    )
    function = onnx.FunctionProto(
        node=[onnx.NodeProto(attribute=[onnx.AttributeProto(t=elsewhere("in a function"))])],
        attribute_proto=[onnx.AttributeProto(t=elsewhere("a default"))],
    )
    training = onnx.TrainingInfoProto(
        initialization=onnx.GraphProto(initializer=[elsewhere("first")]),
        algorithm=onnx.GraphProto(initializer=[elsewhere("step")]),
    )
    proto = onnx.ModelProto(graph=outer, functions=[function], training_info=[training])
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    named = read_named(tmp_path / "m.onnx")
    assert named.weights == {"weight"}
    assert named.others == {
        "values", "indices", "inner", "t", "tensors", "many", "initializer", "in a function", "a default", "first",
        "step",
    }  # fmt: skip
    assert named.files == named.weights | named.others


def test_operators_are_found_in_branches_and_functions(tmp_path: Path) -> None:
    inner = onnx.GraphProto(node=[onnx.NodeProto(op_type="Neg")])
    branch = onnx.NodeProto(op_type="If", attribute=[onnx.AttributeProto(g=inner, s=b"Abs")])
    proto = onnx.ModelProto(
        graph=onnx.GraphProto(node=[onnx.NodeProto(attribute=[onnx.AttributeProto(graphs=[onnx.GraphProto(
            node=[branch])])], op_type="Scan")]),
        functions=[onnx.FunctionProto(name="Exp", node=[onnx.NodeProto(op_type="Softmax", name="Log")])],
    )  # fmt: skip
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert read_named(tmp_path / "m.onnx") == ({"Scan", "If", "Neg", "Softmax"}, set(), set())


def leads_to_tensor(message: Any, above: tuple[str, ...] = ()) -> bool:
    if message is None or message.name in above:
        return False
    return message.name == "TensorProto" or any(
        leads_to_tensor(field.message_type, (*above, message.name)) for field in message.fields
    )


def inner_graphs(count: int) -> bytes:
    """Return a model with so many graphs in each other, each of three messages; protobuf's own reader takes 32."""
    graph = onnx.GraphProto(node=[onnx.NodeProto(op_type="Inner")]).SerializeToString()
    for _ in range(count):
        for number in (6, 5, 1):  # the graph of an attribute of a node
            graph = wire._message(number, graph)
    return wire._message(7, graph)


def test_messages_that_lie_deep_in_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(inner_graphs(32))
    assert read_named(path).operators == {"Inner"}
    path.write_bytes(inner_graphs(33))
    with pytest.raises(ModelError, match="more than 100 messages lie in each other"):
        read_named(path)


_KINDS = {"main": "graph", "weight": "tensor"}  # the main graph and its weights, as onnx.proto calls them


def as_onnx_says(name: str) -> dict[int, str]:
    return {number: _KINDS.get(kind, kind) for number, kind in wire.MESSAGES[name].items()}


def test_no_place_of_a_tensor_is_left_out() -> None:
    """Those of the installed onnx.proto, so that a version with a new one is seen here."""
    messages = {
        "model": onnx.ModelProto, "training": onnx.TrainingInfoProto, "function": onnx.FunctionProto,
        "graph": onnx.GraphProto, "node": onnx.NodeProto, "attribute": onnx.AttributeProto,
        "sparse": onnx.SparseTensorProto,
    }  # fmt: skip
    names = {kind.DESCRIPTOR.name: name for name, kind in messages.items()} | {"TensorProto": "tensor"}
    for name, kind in messages.items():
        places = {
            f.number: names[f.message_type.name] for f in kind.DESCRIPTOR.fields if leads_to_tensor(f.message_type)
        }
        assert {
            number: _KINDS.get(kind, kind) for number, kind in wire.MESSAGES[name].items() if kind != "operator"
        } == places
    assert {number: _KINDS.get(kind, kind) for number, kind in wire.MESSAGES["main"].items()} == wire.MESSAGES["graph"]
    assert wire.MESSAGES["weight"].keys() == wire.MESSAGES["tensor"].keys()


def test_offsets_point_at_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(small_conv().SerializeToString())
    skeleton = onnx.ModelProto.FromString(read_skeleton(path))
    weight = next(t for t in skeleton.graph.initializer if t.name == "conv.weight")
    place = {entry.key: entry.value for entry in weight.external_data}
    start, length = int(place["offset"]), int(place["length"])
    assert place["location"] == "m.onnx"
    original = next(t for t in small_conv().graph.initializer if t.name == "conv.weight")
    assert path.read_bytes()[start : start + length] == original.raw_data
    assert len(read_skeleton(path)) < path.stat().st_size - INLINE_BYTES


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), max_size=6),
    names=st.lists(st.text(max_size=200), max_size=4),
    raw=st.booleans(),
)
def test_what_is_written_is_read_back(sizes: list[int], names: list[str], raw: bool) -> None:
    weights = [numpy_helper.from_array(np.arange(size, dtype=np.float32), f"w{i}") for i, size in enumerate(sizes)]
    if not raw:
        weights = [
            helper.make_tensor(t.name, t.data_type, t.dims, numpy_helper.to_array(t).ravel().tolist()) for t in weights
        ]
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    proto.graph.initializer.extend(weights)
    for index, name in enumerate(names):
        proto.metadata_props.add(key=str(index), value=name)
    data = written(proto)
    assert onnx.ModelProto.FromString(data) == proto
    assert written(onnx.ModelProto.FromString(data)) == data


@settings(max_examples=200, deadline=None)
@given(data=st.binary(min_size=1, max_size=300))
def test_any_bytes_end_as_an_error_or_a_message(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    try:
        read_skeleton(path)
    except ModelError as error:
        assert error.message  # noqa: PT017  (most random bytes are refused, some are not)
