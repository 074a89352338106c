"""TensorRT bundles of small models, made in code, and the environment of the test doubles."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from small_bundles import small_facts
from violations import FLOAT, INT64, make, quantized

from edgepack.bundle.pack import pack
from edgepack.engines.targets import load_target
from edgepack.engines.tensorrt.engine import compile_model
from edgepack.engines.tensorrt.engine import load_model as load_engine
from edgepack.graph.load import load_model
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Precision
from edgepack.verify.golden import Golden, write_golden
from edgepack.verify.tolerance import tolerance

if TYPE_CHECKING:
    from edgepack.specs.types import Array

DOUBLES = Path(__file__).resolve().parent / "doubles"
SURFACES = ("8.5", "8.6", "10.3", "10.13", "11.4")
OPTIONS = RunOptions()
Use = Any  # the fixture ``device``: a function that chooses the double's version


def dynamic() -> onnx.ModelProto:
    """A matrix product with a free batch and a free length."""
    weights = {"w": np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    return make([node], weights, inputs=[("x", FLOAT, ("N", "length", 16))], outputs=[("y", FLOAT, ("N", "length", 4))])


def half() -> onnx.ModelProto:
    """A product in half precision between float inputs and outputs."""
    half_type = onnx.TensorProto.FLOAT16
    weights = {"w": np.random.default_rng(0).normal(size=(16, 4)).astype(np.float16)}
    nodes = [
        helper.make_node("Cast", ["x"], ["x16"], "down", to=half_type),
        helper.make_node("MatMul", ["x16", "w"], ["y16"], "product"),
        helper.make_node("Cast", ["y16"], ["y"], "up", to=FLOAT),
    ]
    return make(nodes, weights, inputs=[("x", FLOAT, (2, 16))], outputs=[("y", FLOAT, (2, 4))])


def embedding() -> onnx.ModelProto:
    """Whole numbers of 64 bits in, and out."""
    weights = {"t": np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)}
    nodes = [
        helper.make_node("Gather", ["t", "x"], ["y"], "embed"),
        helper.make_node("ArgMax", ["y"], ["best"], "best", axis=-1, keepdims=0),
    ]
    outputs = [("y", FLOAT, (1, 3, 4)), ("best", INT64, (1, 3))]
    return make(nodes, weights, inputs=[("x", INT64, (1, 3))], outputs=outputs)


MODELS: dict[str, tuple[Any, Precision]] = {
    "static-int8": (quantized, "int8"),
    "dynamic-fp32": (dynamic, "fp32"),
    "static-fp16": (half, "fp16"),
    "int64": (embedding, "fp32"),
}


def feeds_for(name: str, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    if name == "int64":
        return {"x": random.integers(0, 10, (1, 3))}
    shape = {"static-int8": (1, 3, 8, 8), "dynamic-fp32": (2, 5, 16), "static-fp16": (2, 16)}[name]
    return {"x": random.normal(size=shape).astype(np.float32)}


def reference(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """Return what bare ONNX Runtime computes from the graph as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def compiled_model(name: str, folder: Path, target: str = "jetson-orin-nano-jp5") -> CompiledModel:
    """Return the shipped files of one of ``MODELS``."""
    build, precision = MODELS[name]
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build(), folder / "source.onnx")
    return compile_model(load_model(folder / "source.onnx"), load_target(target), precision, folder / "compiled")


def jetson_bundle(name: str, folder: Path, target: str = "jetson-orin-nano-jp5", wrong: bool = False) -> Path:
    """Pack one of ``MODELS``; with ``wrong`` its golden vectors are another model's."""
    compiled = compiled_model(name, folder, target)
    feeds = [feeds_for(name, seed) for seed in range(2)]
    outputs = [reference(compiled.folder / compiled.entry, feed) for feed in feeds]
    if wrong:
        outputs = [{n: -v for n, v in output.items()} for output in outputs]
    allowed = {n: tolerance(compiled.precision) for n in outputs[0]}
    golden = write_golden(Golden(tuple(feeds), tuple(outputs), allowed), folder / "golden.npz")
    facts = small_facts(target=load_target(target), precision=compiled.precision, classes=(), name=f"{name}-model")
    return pack(compiled, golden, facts, folder)


def double_environment(library: Path, surface: str = "10.3", **more: str) -> dict[str, str]:
    """Return the environment in which a process finds the doubles instead of TensorRT and CUDA."""
    path = os.pathsep.join([str(DOUBLES), *sys.path])
    return {**os.environ, "PYTHONPATH": path, "EDGEPACK_CUDART": str(library), "DOUBLE_TENSORRT": surface, **more}


def run_and_compare(compiled: CompiledModel, name: str, seed: int = 3) -> None:
    """Load, run twice and compare with bare ONNX Runtime; close and count what is still allocated."""
    runner = load_engine(compiled, OPTIONS)
    try:
        for step in range(3):
            feeds = feeds_for(name, seed + step)
            expected = reference(compiled.folder / "model.onnx", feeds)
            found = runner.infer(feeds)
            assert set(found) == set(expected)
            for key, value in expected.items():
                assert found[key].dtype == value.dtype
                np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)
    finally:
        runner.close()
    assert live() == 0


def live() -> int:
    """Return how many allocations of the double of CUDA are not freed."""
    library = ctypes.CDLL(os.environ["EDGEPACK_CUDART"])
    library.double_live.restype = ctypes.c_long
    return int(library.double_live())
