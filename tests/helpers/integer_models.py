"""Quantized convolutions and products as ONNX models, with what numpy makes of them in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from codegen_models import import_model, model
from onnx import helper

from edgepack.engines.tvm.codegen import stack
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import Machine

X_SCALE, Y_SCALE = np.float32(0.0371), np.float32(0.213)
W_SCALE, PRODUCT_SCALE = np.float32(0.0127), np.float32(0.91)


def quantized(
    operator: str, x: list[int], weights: np.ndarray, scales: np.ndarray, zero: int, *, relu: bool, **attributes: Any
) -> tuple[onnx.ModelProto, np.ndarray]:
    """Return a model with integers of input and output outside, and the integer bias."""
    outputs = weights.shape[0] if operator == "Conv" else weights.shape[1]
    bias = np.random.default_rng(3).integers(-2000, 2000, outputs).astype(np.int32)
    values = {
        "sx": X_SCALE, "zx": np.uint8(zero), "w": weights, "sw": scales.astype(np.float32),
        "zw": np.zeros(outputs, np.int8), "bias": bias, "sb": (X_SCALE * scales).astype(np.float32),
        "sy": Y_SCALE, "zy": np.uint8(113), "one": np.float32(1), "none": np.uint8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "none"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0 if operator == "Conv" else 1),
        helper.make_node("DequantizeLinear", ["bias", "sb"], ["bd"], axis=0),
    ]
    if operator == "Conv":
        nodes += [helper.make_node("Conv", ["xd", "wd", "bd"], ["c"], **attributes)]
    else:
        nodes += [helper.make_node("MatMul", ["xd", "wd"], ["p"]), helper.make_node("Add", ["p", "bd"], ["c"])]
    if relu:
        nodes += [helper.make_node("Relu", ["c"], ["r"])]
    nodes += [
        helper.make_node("QuantizeLinear", ["r" if relu else "c", "sy", "zy"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "one", "none"], ["y"]),
    ]
    return model(nodes, {"x": x}, {k: np.asarray(v) for k, v in values.items()}, ("y",)), bias


def reference(sums: np.ndarray, scales: np.ndarray, *, relu: bool, axis: int) -> np.ndarray:
    """Requantize int64 sums as edgepack.engines.tvm.codegen.integer_pass says it is done."""
    shape = [1] * sums.ndim
    shape[axis] = -1
    factor = (X_SCALE * scales.astype(np.float32)).astype(np.float32) / Y_SCALE
    value = sums.astype(np.float32) * factor.astype(np.float32).reshape(shape)
    value = np.maximum(value, np.float32(0)) if relu else value
    return np.clip(np.rint(value) + 113, 0, 255).astype(np.float32)


def convolved(x: np.ndarray, weights: np.ndarray, zero: int, stride: int, pad: int, groups: int) -> np.ndarray:
    """Return the exact int64 sums of a convolution, with plain loops over the kernel."""
    n, c, h, w = x.shape
    outputs, inputs, high, wide = weights.shape
    full = np.full((n, c, h + 2 * pad, w + 2 * pad), 0, np.int64)
    full[:, :, pad : pad + h, pad : pad + w] = x.astype(np.int64) - zero
    oh, ow = (full.shape[2] - high) // stride + 1, (full.shape[3] - wide) // stride + 1
    total = np.zeros((n, outputs, oh, ow), np.int64)
    each = outputs // groups
    for o in range(outputs):
        part = full[:, o // each * inputs : (o // each + 1) * inputs]
        for i in range(high):
            for j in range(wide):
                window = part[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride]
                total[:, o] += (window * weights[o, :, i, j].astype(np.int64)[None, :, None, None]).sum(1)
    return total


def assembly(proto: onnx.ModelProto, of: Machine) -> str:
    """Return the assembly of all functions of a model for a machine."""
    import tvm
    from tvm import relax

    target = tvm.target.Target(of.target())
    code = tvm.compile(
        lower(import_model(proto), of, "int8").module,
        target,
        relax_pipeline=relax.get_pipeline("default_build"),
        tir_pipeline=stack.pipeline(),
    )
    return str(code.mod.imports[0].inspect_source("asm") if code.mod.imports else code.mod.inspect_source("asm"))


def products_of_activations(left: list[int], right: list[int], zeros: tuple[int, int], *, end: bool) -> onnx.ModelProto:
    """Return a model of a product of two quantized inputs; with ``end`` its output is quantized too."""
    values = {
        "sx": X_SCALE, "zx": np.uint8(zeros[0]), "sw": W_SCALE, "zw": np.uint8(zeros[1]), "sy": PRODUCT_SCALE,
        "zy": np.uint8(113), "one": np.float32(1), "none": np.uint8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "none"], ["xq"]),
        helper.make_node("QuantizeLinear", ["w", "one", "none"], ["wq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["wq", "sw", "zw"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["p" if end else "y"]),
    ]
    if end:
        nodes += [
            helper.make_node("QuantizeLinear", ["p", "sy", "zy"], ["yq"]),
            helper.make_node("DequantizeLinear", ["yq", "one", "none"], ["y"]),
        ]
    return model(nodes, {"x": left, "w": right}, {k: np.asarray(v) for k, v in values.items()}, ("y",))


def requantized(sums: np.ndarray, *, end: bool) -> np.ndarray:
    """Return what becomes of the sums of a product of activations."""
    factor = np.float32(X_SCALE * W_SCALE)
    if not end:
        return sums.astype(np.float32) * factor
    return np.clip(np.rint(sums.astype(np.float32) * np.float32(factor / PRODUCT_SCALE)) + 113, 0, 255).astype(
        np.float32
    )
