"""Trials of OpenVINO's CPU kernels (oneDNN): matrix products and a convolution, and vectors times stored matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.common.installed import engine_version, import_engine
from edgepack.engines.common.peak import Trial

if TYPE_CHECKING:
    from edgepack.specs.types import Precision

_SQUARES = (256, 512, 1024)
_CHANNELS, _SIDE, _KERNEL = 128, 28, 3
_HINTS = {"fp32": "f32", "int8": "f32", "fp16": "f16", "bf16": "bf16"}
_LEVELS = 256
_ROW = 1024


def versions(_known: Mapping[str, str]) -> Mapping[str, str]:
    """Return OpenVINO's version. Raises ``ToolchainError``."""
    return {"openvino": engine_version("OpenVINO", "openvino", "openvino", "openvino")}


def trials(precisions: Sequence[Precision], threads: int, sets: Sequence[int]) -> Iterator[Trial]:
    """Yield a trial for each shape and precision that this CPU offers, then one for each working set."""
    engine = import_engine("OpenVINO", "openvino", "openvino")
    core = engine.Core()
    offered = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision in precisions:
        if precision.upper() not in offered:
            continue
        for size in _SQUARES:
            model = _product(engine, size, size, size, precision)
            yield Trial(
                f"OpenVINO {precision} MatMul {size}x{size}x{size}",
                2 * size**3,
                _call(engine, core, model, precision, threads),
                precision,
            )
        operations = 2 * _CHANNELS**2 * _KERNEL**2 * _SIDE**2
        yield Trial(
            f"OpenVINO {precision} Convolution {_KERNEL}x{_KERNEL}, {_CHANNELS} channels, {_SIDE}x{_SIDE}",
            operations,
            _call(engine, core, _convolution(engine, precision), precision, threads),
            precision,
        )
    for size in sets:
        rows = max(size // (4 * _ROW), 1)
        model = _product(engine, 1, _ROW, rows, "fp32")
        yield Trial(
            f"OpenVINO vector times matrix of {size >> 10} KiB",
            4 * _ROW * rows,
            _call(engine, core, model, "fp32", threads),
            working_set_bytes=size,
        )


def _call(engine: Any, core: Any, model: Any, precision: Precision, threads: int) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    shape = list(model.inputs[0].shape)
    request.set_input_tensor(engine.Tensor(np.random.default_rng(0).standard_normal(shape, np.float32)))
    return lambda: request.infer(share_outputs=True)


def _product(engine: Any, rows: int, inner: int, columns: int, precision: Precision) -> Any:
    """Return x[rows, inner] times a stored matrix, laid out as weights are: [columns, inner]."""
    ops = engine.opset13
    x = ops.parameter([rows, inner], np.float32)
    weights = ops.constant(_numbers(columns, inner) if rows > 1 else np.full((columns, inner), 0.5, np.float32))
    return _model(engine, x, lambda a, b: ops.matmul(a, b, False, True), weights, precision)


def _convolution(engine: Any, precision: Precision) -> Any:
    ops = engine.opset13
    x = ops.parameter([1, _CHANNELS, _SIDE, _SIDE], np.float32)
    weights = ops.constant(_numbers(_CHANNELS, _CHANNELS, _KERNEL, _KERNEL))
    pad = [_KERNEL // 2] * 2
    return _model(engine, x, lambda a, b: ops.convolution(a, b, [1, 1], pad, pad, [1, 1]), weights, precision)


def _model(engine: Any, x: Any, multiply: Any, weights: Any, precision: Precision) -> Any:
    """Return multiply(x, weights), in int8 by FakeQuantize, which the plugin turns into u8 times i8."""
    ops = engine.opset13
    a, b = x, weights
    if precision == "int8":
        ends = [np.float32(value) for value in (0.0, 4.0, 0.0, 4.0)]
        signed = [np.float32(value) for value in (-4.0, 4.0, -4.0, 4.0)]
        a, b = ops.fake_quantize(x, *ends, _LEVELS), ops.fake_quantize(weights, *signed, _LEVELS - 1)
    return engine.Model([ops.relu(multiply(a, b))], [x])


def _numbers(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape, np.float32).clip(-4, 4)
