"""How operators with weights, windows, sequences and integers are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from operator_maker import Maker, operator

FUSED = "microsoft."


@operator("Conv", "ConvTranspose")
def _conv(m: Maker, name: str) -> bool:
    x = m.find("f", (3, 5))
    if x is None:
        return False
    channels, *space = m.values[x].shape[1:]
    rank = len(space)
    group = m.pick([g for g in (1, 1, 2, channels) if channels % g == 0])
    outputs = group * m.whole(1, 4)
    kernel = [m.whole(1, min(3, extent)) for extent in space]
    shape = (outputs, channels // group) if name == "Conv" else (channels, outputs // group)
    bias = [m.constant(m.random.normal(0, 0.3, outputs))] if m.chance(0.6) else []
    how: dict[str, Any] = {"group": group, "strides": [m.whole(1, 2) for _ in space], "kernel_shape": kernel}
    how["dilations"] = [m.pick([1, 1, 2]) for _ in space]
    if m.chance(0.8):
        how["pads"] = [m.whole(0, 1) for _ in range(2 * rank)]
    else:
        how["auto_pad"] = m.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if name == "ConvTranspose" and m.chance(0.3):
        how["output_padding"] = [stride - 1 for stride in how["strides"]]
    return m.add(name, [x, m.weights(*shape, *kernel), *bias], **how)


@operator("MaxPool", "AveragePool", "LpPool")
def _pool(m: Maker, name: str) -> bool:
    x = m.find("f", (3, 5))
    if x is None:
        return False
    space = m.values[x].shape[2:]
    how: dict[str, Any] = {
        "kernel_shape": [m.whole(1, min(3, e)) for e in space],
        "strides": [m.whole(1, 2) for _ in space],
    }
    if m.chance(0.6):
        how["pads"] = [m.whole(0, min(1, k - 1)) for k in how["kernel_shape"]] * 2
    if name == "AveragePool":
        how["count_include_pad"] = m.whole(0, 1)
    if name != "LpPool" and m.chance(0.5):
        how["ceil_mode"] = m.whole(0, 1)
    if name == "MaxPool" and m.chance(0.3):
        how["dilations"] = [m.whole(1, 2) for _ in space]
    if name == "LpPool":
        how["p"] = m.whole(1, 3)
    return m.add(name, [x], 2 if name == "MaxPool" and m.chance(0.1) else 1, **how)


@operator("Gemm")
def _gemm(m: Maker, name: str) -> bool:
    x = m.find("f", 2)
    if x is None:
        return False
    width, outputs, turned = m.values[x].shape[1], m.whole(1, 6), m.whole(0, 1)
    weight = m.weights(outputs, width) if turned else m.weights(width, outputs)
    bias = [m.constant(m.random.normal(0, 1, m.pick([(outputs,), (1, outputs), ()])))] if m.chance(0.7) else []
    numbers = {"alpha": m.pick([1.0, 0.5]), "beta": m.pick([1.0, 2.0])}
    return m.add(name, [x, weight, *bias], transB=turned, **numbers)


@operator("MatMul")
def _matmul(m: Maker, name: str) -> bool:
    x = m.find("f", (1, 5))
    if x is None:
        return False
    width = m.values[x].shape[-1]
    if m.chance(0.3):
        y = next((k for k, v in m.values.items() if v.dtype.kind == "f" and v.ndim > 1 and v.shape[-2] == width), None)
        if y is not None:
            return m.add(name, [x, y])
    stack = m.values[x].shape[1:-2] if m.chance(0.3) and m.values[x].ndim > 3 else ()
    weight = m.constant(m.random.standard_normal((*stack, width, m.whole(1, 5))) / np.sqrt(width))
    return m.add(name, [x, weight if m.chance(0.85) else m.constant(m.random.standard_normal(width))])


@operator("Einsum")
def _einsum(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 4))
    if x is None:
        return False
    letters = "nabc"[: m.values[x].ndim]
    width = m.values[x].shape[-1]
    return m.add(name, [x, m.weights(width, 3)], equation=f"{letters},{letters[-1]}z->{letters[:-1]}z")


@operator("BatchNormalization", "InstanceNormalization", "GroupNormalization")
def _normalization(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 5) if name == "BatchNormalization" else (3, 5))
    if x is None:
        return False
    channels = m.values[x].shape[1]
    groups = m.pick([g for g in (1, 2, channels) if channels % g == 0])
    count = groups if name == "GroupNormalization" and m.opset < 21 else channels
    positive = lambda: m.constant(m.random.uniform(0.5, 2, count))  # noqa: E731
    more = {"num_groups": groups} if name == "GroupNormalization" else {}
    moments = [m.constant(m.random.normal(0, 1, count)), positive()] if name == "BatchNormalization" else []
    return m.add(name, [x, positive(), m.constant(m.random.normal(0, 1, count)), *moments], epsilon=1e-3, **more)


@operator("LayerNormalization", "MeanVarianceNormalization")
def _layer_normalization(m: Maker, name: str) -> bool:
    x = m.find("f", 4 if name.startswith("Mean") else (2, 4))
    if x is None:
        return False
    if name.startswith("Mean"):
        return m.add(name, [x], axes=m.pick([[0, 2, 3], [2, 3]]))
    shape = m.values[x].shape
    axis = m.whole(1, len(shape) - 1)
    scale, bias = m.constant(m.random.uniform(0.5, 2, shape[axis:])), m.constant(m.random.normal(0, 1, shape[axis:]))
    return m.add(name, [x, scale, bias][: m.whole(2, 3)], axis=axis - len(shape) * m.whole(0, 1))


@operator("Resize")
def _resize(m: Maker, name: str) -> bool:
    x = m.find("f", (3, 5))
    if x is None:
        return False
    space = m.values[x].ndim - 2
    how: dict[str, Any] = {"mode": m.pick(["nearest", "linear", "cubic"])}
    how["coordinate_transformation_mode"] = m.pick(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
    if how["mode"] == "nearest":
        how["nearest_mode"] = m.pick(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if how["mode"] == "cubic":
        how["cubic_coeff_a"] = m.pick([-0.75, -0.5])
    scales = m.constant([1, 1, *(m.pick([0.5, 1.0, 1.5, 2.0]) for _ in range(space))])
    return m.add(name, [x, "", scales], **how)


@operator("GridSample")
def _grid_sample(m: Maker, name: str) -> bool:
    x = m.find("f", 4)
    if x is None or m.opset < 16:
        return False
    grid = m.constant(m.random.uniform(-1.2, 1.2, (m.values[x].shape[0], 3, 4, 2)))
    mode = m.pick(["linear", "nearest", "cubic"] if m.opset >= 20 else ["bilinear", "nearest", "bicubic"])
    padding = m.pick(["zeros", "border", "reflection"])
    return m.add(name, [x, grid], mode=mode, padding_mode=padding, align_corners=m.whole(0, 1))


@operator("LSTM", "GRU", "RNN")
def _recurrent(m: Maker, name: str) -> bool:
    x = m.find("f", 3)
    if x is None:
        return False
    gates, hidden = {"LSTM": 4, "GRU": 3, "RNN": 1}[name], 3
    direction = m.pick(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    width = m.values[x].shape[2]
    parts = [m.weights(ways, gates * hidden, width), m.weights(ways, gates * hidden, hidden)]
    if m.chance(0.6):
        parts.append(m.weights(ways, 2 * gates * hidden))
    more = {"linear_before_reset": m.whole(0, 1)} if name == "GRU" else {}
    return m.add(name, [x, *parts], m.whole(1, 2), hidden_size=hidden, direction=direction, **more)


@operator("QuantizeLinear", "DynamicQuantizeLinear")
def _quantize(m: Maker, name: str) -> bool:
    x = m.find("f", (1, 5))
    if x is None:
        return False
    if name == "DynamicQuantizeLinear":
        return m.add(name, [x], 3)
    zero = m.constant(m.pick([0, 7]), m.pick([np.uint8, np.int8]))
    scale = m.constant(m.pick([0.05, 0.1]))
    return m.add(name, [x, scale, zero]) and (m.chance(0.2) or m.add("DequantizeLinear", [m.newest, scale, zero]))


@operator("MatMulInteger", "ConvInteger")
def _integers(m: Maker, name: str) -> bool:
    x = next(
        (
            k
            for k, v in m.values.items()
            if v.dtype.name in ("uint8", "int8") and v.ndim == (4 if "Conv" in name else 2)
        ),
        None,
    )
    if x is None:
        return False
    value = m.values[x]
    shape = (3, value.shape[1], 1, 1) if "Conv" in name else (value.shape[1], 4)
    weight = m.constant(m.random.integers(-127, 128, shape), np.int8)
    return m.add(name, [x, weight, m.constant(3, value.dtype)][: m.whole(2, 3)])


@operator("microsoft.Gelu", "microsoft.BiasGelu", "microsoft.FastGelu", "microsoft.SkipLayerNormalization")
def _microsoft(m: Maker, name: str) -> bool:
    name, x = name.removeprefix(FUSED), m.find("f", 3)
    if x is None:
        return False
    width = m.values[x].shape[-1]
    row = lambda: m.constant(m.random.normal(0, 1, width))  # noqa: E731
    parts = {"BiasGelu": [row()], "SkipLayerNormalization": [x, row(), row()]}.get(name, [])
    return m.add(name, [x, *parts], domain="com.microsoft")
