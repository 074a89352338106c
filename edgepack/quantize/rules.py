"""What each engine computes in int8 and how it wants Q/DQ placed; the target's rules checked against that."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edgepack.base.documents import suggestion
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs import QuantizationRules, Target

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Operators that only move values or choose among them: output and input have one scale.
MOVES = frozenset(
    {
        "DepthToSpace", "Expand", "Flatten", "Gather", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "SpaceToDepth",
        "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
COMPUTES = frozenset({"Add", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid", "Sub"})
# Outputs whose range is known without data: (low, high).
FIXED_RANGES: Mapping[str, tuple[float, float]] = {"Softmax": (0.0, 1.0), "Sigmoid": (0.0, 1.0)}


@dataclass(frozen=True)
class EngineTable:
    """How one engine recognises int8.

    ``operators``: quantized by default. ``needs_output``: run in int8 only when their output is quantized too.
    ``activations``: computed inside the operator before them, so that nothing is put between.
    ``wraps_moves``: operators that move values need Q/DQ on both sides; else the engine passes int8 through them.
    ``same_scale_concat``: all inputs of a Concat must have one scale.
    ``residual``: of an addition's inputs one stays unquantized, to be added inside the convolution that makes it.
    ``symmetric_products``: products of two activations run in int8 only with zero points of zero, the second as int8.
    """

    operators: frozenset[str]
    needs_output: frozenset[str]
    activations: frozenset[str]
    wraps_moves: bool
    same_scale_concat: bool
    residual: bool
    symmetric_products: bool


_ORT_MOVES = MOVES - {"DepthToSpace", "SpaceToDepth"}
_ORT_COMPUTES = COMPUTES - {"Sub"}
_POINTWISE = frozenset(
    {"Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Tanh"}
)

# Sources: ONNX Runtime's qdq_selectors.cc and relu/clip_quant_fusion.cc as seen in optimized models of 1.31;
# OpenVINO's runtime model of 2026.4; TensorRT's documentation "Working with Quantized Types", Q/DQ placement.
ENGINES: Mapping[str, EngineTable] = {
    "onnxruntime": EngineTable(
        operators=frozenset({"Conv", "Gemm", "MatMul", "Concat"}) | _ORT_MOVES | _ORT_COMPUTES,
        needs_output=frozenset({"Conv", "Concat"}) | _ORT_MOVES | _ORT_COMPUTES,
        activations=frozenset({"Clip", "Relu"}),
        wraps_moves=True,
        same_scale_concat=False,
        residual=False,
        symmetric_products=False,
    ),
    "openvino": EngineTable(
        operators=WEIGHTED | MOVES | {"Add", "AveragePool", "Concat", "GlobalAveragePool", "Mul"},
        needs_output=MOVES | {"Add", "AveragePool", "Concat", "GlobalAveragePool", "Mul"},
        activations=_POINTWISE,
        wraps_moves=True,
        same_scale_concat=False,
        residual=False,
        symmetric_products=True,
    ),
    "tensorrt": EngineTable(
        operators=WEIGHTED | MOVES | {"Concat", "AveragePool", "GlobalAveragePool"},
        needs_output=frozenset(),
        activations=_POINTWISE,
        wraps_moves=False,
        same_scale_concat=True,
        residual=True,
        symmetric_products=False,
    ),
}
# TVM imports Q/DQ bit-exactly; ONNX Runtime's placement names every int8 operator, which its legalization needs.
ENGINES = {**ENGINES, "tvm": ENGINES["onnxruntime"]}


def rules_for(target: Target) -> QuantizationRules:
    """Return the target's rules with the engine of its backend filled in."""
    if target.backend not in ENGINES:
        raise _unknown(target.backend)
    return dataclasses.replace(target.quantization, engine=cast("Any", target.backend))


def check_rules(rules: QuantizationRules) -> EngineTable:
    """Return the engine's table with the rules' own operators, or raise ``ConfigError`` where the rules conflict."""
    if rules.engine not in ENGINES:
        raise _unknown(rules.engine)
    table = ENGINES[rules.engine]
    if not rules.weight_symmetric and rules.per_channel:
        raise ConfigError(
            "weight_symmetric = false cannot be joined with per_channel = true: engines take one zero point of weights",
            hint="write weight_symmetric = true, or per_channel = false",
        )
    if rules.engine == "tensorrt":
        _check_tensorrt(rules)
    known = WEIGHTED | MOVES | COMPUTES | {"Concat"}
    for name in rules.operators:
        if name not in known:
            raise ConfigError(f"operators: {name!r} cannot be quantized", hint=suggestion(name, known))
    if not rules.operators:
        return table
    chosen = frozenset(rules.operators)
    return dataclasses.replace(table, operators=chosen, needs_output=table.needs_output | (chosen - table.operators))


def _unknown(engine: str) -> ConfigError:
    return ConfigError(f"no quantization is known for the engine {engine!r}", hint=suggestion(engine, ENGINES))


def _check_tensorrt(rules: QuantizationRules) -> None:
    """TensorRT's parser refuses non-zero zero points, uint8 and int32 biases (its own words are in its log)."""
    wanted = {
        "activation_type": "int8",
        "activation_symmetric": True,
        "weight_type": "int8",
        "weight_symmetric": True,
        "quantize_bias": False,
    }
    for key, value in wanted.items():
        if getattr(rules, key) != value:
            text = str(value).lower() if isinstance(value, bool) else f'"{value}"'
            raise ConfigError(
                f"{key} = {str(getattr(rules, key)).lower()}: TensorRT takes only symmetric int8, and no int32 bias",
                hint=f"write {key} = {text}",
            )
