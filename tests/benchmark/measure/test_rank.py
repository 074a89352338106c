from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from edgepack.benchmark.measure.rank import latencies_in_turn
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
from edgepack.verify.golden import Golden, write_golden


def network(folder: Path, layers: int) -> CompiledModel:
    """Compile a row of matrix products [1, 256] with ONNX Runtime."""
    folder.mkdir()
    weight = (np.eye(256) * 1.01).astype(np.float32)
    nodes = [helper.make_node("MatMul", [f"t{i}" if i else "x", "w"], [f"t{i + 1}"]) for i in range(layers)]
    nodes.append(helper.make_node("Relu", [f"t{layers}"], ["y"]))
    shape = [1, 256]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    target = load_target("host-onnxruntime")
    return get_backend("onnxruntime").compile_model(load_model(folder / "m.onnx"), target, "fp32", folder / "out")


def test_models_are_ranked_by_their_work(tmp_path: Path) -> None:
    models = (network(tmp_path / "large", 200), network(tmp_path / "small", 1))
    x = np.ones((1, 256), np.float32)
    golden = write_golden(Golden(({"x": x},), ({"y": x},)), tmp_path / "golden.npz")
    shown: list[tuple[str, int, int]] = []
    options = RunOptions(threads=1)
    rounds = latencies_in_turn(models, golden, options, 3, tmp_path, lambda *step: shown.append(step))
    assert len(rounds) == 3
    assert all(large > 3 * small > 0 for large, small in rounds)  # 200 times the arithmetic
    assert shown[-1] == ("latency", 6, 6)
