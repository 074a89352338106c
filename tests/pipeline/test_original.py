"""The original of a build: the exported model, simplified where that changes no answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from in_process import InProcess
from onnx import TensorProto, helper

from edgepack.data.samples import find_samples
from edgepack.graph.load import save_proto
from edgepack.graph.prepare import NOTE
from edgepack.pipeline.original import answering_as
from edgepack.specs.model import OnnxModel


def test_a_model_that_simplifying_would_change_stays_as_it_was_exported(tmp_path: Path) -> None:
    source, wrong = (one_operator(tmp_path / name, name) for name in ("Relu", "Identity"))
    np.savez(tmp_path / "data.npz", x=np.linspace(-3, 9, 20).reshape(5, 4).astype(np.float32))
    samples = find_samples(str(tmp_path / "data.npz"), source.inputs, None)
    runner = InProcess(tmp_path / "stages")
    assert answering_as(source, source, samples, runner) is source  # type: ignore[arg-type]
    assert runner.events.notes == []
    found = answering_as(source, wrong, samples, runner)  # type: ignore[arg-type]
    proto = onnx.load(found.path)
    assert [node.op_type for node in proto.graph.node] == ["Relu"]
    assert {entry.key: entry.value for entry in proto.metadata_props}[NOTE] == "not simplified"
    assert runner.events.notes[0].startswith("the model is not simplified, which would change its answers")


def one_operator(folder: Path, operator: str) -> OnnxModel:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", values[:1], values[1:])
    return save_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder)
