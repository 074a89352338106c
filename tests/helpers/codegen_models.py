"""Small ONNX models, compiled by our rules and run by TVM, against ONNX Runtime without its optimizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgepack.device import amx
from edgepack.device.host import host_facts
from edgepack.engines.tvm.codegen import stack
from edgepack.engines.tvm.codegen.lower import Lowered, lower
from edgepack.engines.tvm.codegen.machine import Machine, machine
from edgepack.engines.tvm.codegen.workload import Choose
from edgepack.engines.tvm.installed import import_tvm

Arrays = dict[str, np.ndarray]


def host_machine(threads: int = 1) -> Machine:
    """Return this host, as code generation sees it."""
    host = host_facts()
    return machine(host.arch, host.isa, threads=threads)


def model(nodes: list[Any], inputs: dict[str, list[int]], weights: Arrays, outputs: tuple[str, ...]) -> onnx.ModelProto:
    """Return a checked model with float32 inputs; the outputs' shapes are inferred."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    proto = onnx.shape_inference.infer_shapes(proto)
    onnx.checker.check_model(proto)
    return proto


def feeds(proto: onnx.ModelProto, seed: int = 0) -> Arrays:
    """Return standard normal inputs."""
    random = np.random.default_rng(seed)
    return {
        value.name: random.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in proto.graph.input
    }


def run_reference(proto: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    """Return what ONNX Runtime makes of the model as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, inputs)]


def import_model(proto: onnx.ModelProto) -> Any:
    """Return the model as TVM's frontend reads it."""
    return import_tvm("tvm.relax.frontend.onnx").from_onnx(proto, keep_params_in_input=False)


def run_ours(
    proto: onnx.ModelProto,
    inputs: Arrays,
    of: Machine | None = None,
    precision: Any = "fp32",
    choose: Choose | None = None,
) -> tuple[list[np.ndarray], Lowered]:
    """Return what our code makes of the model, and how it was lowered."""
    import tvm
    from tvm import relax

    of = of or host_machine()
    assert not of.has_amx or amx.request()  # as whoever loads a bundle does
    lowered = lower(import_model(proto), of, precision, choose)
    code = tvm.compile(
        lowered.module,
        tvm.target.Target(of.target()),
        relax_pipeline=relax.get_pipeline("default_build"),
        tir_pipeline=stack.pipeline(),
    )
    answer = relax.VirtualMachine(code, tvm.cpu())["main"](
        *[tvm.runtime.tensor(inputs[value.name]) for value in proto.graph.input]
    )
    outputs = [answer] if hasattr(answer, "numpy") else list(answer)
    return [np.asarray(value.numpy()) for value in outputs], lowered


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray], relative: float = 1e-5) -> None:
    """Compare sums of products: the bound is relative to the largest value, as rounding is to the terms'."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max(initial=0) <= relative * max(np.abs(other).max(initial=0), 1)
