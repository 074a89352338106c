"""What engines compute in int8, in the words that each engine's table is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepack.engines.costs import PrecisionCosts

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Operators that only move values or choose among them: output and input have one scale.
MOVES = frozenset(
    {
        "DepthToSpace", "Expand", "Flatten", "Gather", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "SpaceToDepth",
        "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
COMPUTES = frozenset({"Add", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid", "Sub"})
POINTWISE = frozenset(
    {"Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Tanh"}
)


@dataclass(frozen=True)
class EngineTable:
    """How one engine recognises int8.

    ``operators``: quantized by default. ``needs_output``: run in int8 only when their output is quantized too.
    ``activations``: computed inside the operator before them, so that nothing is put between.
    ``wraps_moves``: operators that move values need Q/DQ on both sides; else the engine passes int8 through them.
    ``same_scale_concat``: all inputs of a Concat must have one scale.
    ``residual``: of an addition's inputs one stays unquantized, to be added inside the convolution that makes it.
    ``symmetric_products``: products of two activations run in int8 only with zero points of zero, the second as int8.
    ``plain_deconvolutions``: a ConvTranspose in int8 saturates unless strides or dilations are 1, and no more is cut
    off at a side than the kernel reaches.
    ``fuses_scales``: a multiplication by a constant for each channel costs nothing beside a convolution or a Q/DQ.
    ``runs_signed``: int8 activations around zero run in int8 as well as uint8 ones; ``runs_clips``: a Clip in front of
    a QuantizeLinear costs next to nothing. Both are asked of models that come quantized.
    ``costs``: what operators cost in float and in int8, where that was measured.
    ``demands``: rules without which the engine refuses the model, by their key, and ``demand`` says so in words.
    """

    operators: frozenset[str]
    needs_output: frozenset[str]
    activations: frozenset[str]
    wraps_moves: bool
    same_scale_concat: bool
    residual: bool
    symmetric_products: bool
    plain_deconvolutions: bool = False
    fuses_scales: bool = True
    runs_signed: bool = False
    runs_clips: bool = True
    costs: PrecisionCosts | None = None
    demands: Mapping[str, object] = field(default_factory=dict)
    demand: str = ""
