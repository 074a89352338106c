"""What is known of ONNX Runtime without importing it."""

from __future__ import annotations

from edgepack.engines import Engine
from edgepack.engines.int8 import COMPUTES, MOVES, EngineTable
from edgepack.engines.native_options import SPACES
from edgepack.engines.onnxruntime.int8_costs import COSTS

_MOVES = MOVES - {"DepthToSpace", "SpaceToDepth"}
_COMPUTES = COMPUTES - {"Sub"}
# qdq_selectors.cc and relu/clip_quant_fusion.cc as seen in optimized models of 1.31.
INT8 = EngineTable(
    operators=frozenset({"Conv", "Gemm", "MatMul", "Concat"}) | _MOVES | _COMPUTES,
    needs_output=frozenset({"Conv", "Concat"}) | _MOVES | _COMPUTES,
    activations=frozenset({"Clip", "Relu"}),
    wraps_moves=True,
    same_scale_concat=False,
    residual=False,
    symmetric_products=False,
    fuses_scales=False,
    # Of 1.31.1, ResNet20: 57 such clips cost 1.8 ms instead of 0.48 (CPU ms, one thread, AVX-512 with VNNI).
    runs_clips=False,
    costs=COSTS,
)

ENGINE = Engine(
    title="ONNX Runtime",
    backend="edgepack.engines.onnxruntime.engine",
    package="onnxruntime",
    distributions=(
        "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn", "onnxruntime-directml",
    ),
    extra="onnxruntime",
    portable=(".onnx",),
    triton="onnxruntime",
    oldest="edgepack.engines.onnxruntime.oldest:oldest_versions",
    int8=INT8,
    pixels="0",
    suppression="0",
    integer_inputs="dequantized",
    run_options=SPACES["onnxruntime"],
    peaks="edgepack.engines.onnxruntime.peaks",
    layers="edgepack.engines.onnxruntime.profile",
    probe="edgepack.engines.onnxruntime.probe:probe",
    precisions="edgepack.engines.targets:half_on_arm",
)  # fmt: skip
