"""Trials of ONNX Runtime's CPU kernels (MLAS): matrix products in float32 and int8, vectors times stored matrices.

The models are made with the package onnx; where it is not installed, as on most devices, nothing is tried.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.common.installed import engine_version, import_engine
from edgepack.engines.common.peak import Trial
from edgepack.errors import ToolchainError

if TYPE_CHECKING:
    from edgepack.specs.types import Precision

_SQUARES = (256, 512, 1024)
_ROW = 1024


def versions(_known: Mapping[str, str]) -> Mapping[str, str]:
    """Return ONNX Runtime's version. Raises ``ToolchainError``, also without the package onnx."""
    found = engine_version("ONNX Runtime", "onnxruntime", "onnxruntime", "onnxruntime", "onnxruntime-gpu")
    if importlib.util.find_spec("onnx") is None:
        raise ToolchainError("the package onnx is not installed", hint="pip install onnx")
    return {"onnxruntime": found}


def trials(precisions: Sequence[Precision], threads: int, sets: Sequence[int]) -> Iterator[Trial]:
    """Yield a trial for each size in float32 and int8, then one for each working set."""
    for precision in ("fp32", "int8"):
        for size in _SQUARES if precision in precisions else ():
            yield Trial(
                f"ONNX Runtime {precision} MatMul {size}x{size}x{size}",
                2 * size**3,
                _call(size, size, size, threads, int8=precision == "int8"),
                precision,
            )
    for size in sets:
        rows = max(size // (4 * _ROW), 1)
        yield Trial(
            f"ONNX Runtime vector times matrix of {size >> 10} KiB",
            4 * _ROW * rows,
            _call(1, _ROW, rows, threads, int8=False),
            working_set_bytes=size,
        )


def _call(rows: int, inner: int, columns: int, threads: int, *, int8: bool) -> Any:
    """Return a call of x[rows, inner] times a stored matrix [inner, columns]; in int8 unsigned times signed."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    x: Any = random.standard_normal((rows, inner), np.float32)
    weights: Any = np.full((inner, columns), 0.5, np.float32)
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT)
    if int8:
        x = random.integers(0, 128, (rows, inner)).astype(np.uint8)
        weights = random.integers(-64, 64, (inner, columns)).astype(np.int8)
        kinds = (TensorProto.UINT8, TensorProto.INT32)
    node = helper.make_node("MatMulInteger" if int8 else "MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("x", kinds[0], [rows, inner])],
        [helper.make_tensor_value_info("y", kinds[1], [rows, columns])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    engine = import_engine("ONNX Runtime", "onnxruntime", "onnxruntime")
    settings = engine.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4
    text = onnx.ModelProto.SerializeToString(model)
    session = engine.InferenceSession(text, settings, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})
