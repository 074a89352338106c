"""What is known of TensorRT without importing it."""

from __future__ import annotations

from edgepack.engines import Engine
from edgepack.engines.int8 import MOVES, POINTWISE, WEIGHTED, EngineTable

ENGINE = Engine(
    title="TensorRT",
    backend="edgepack.engines.tensorrt.engine",
    package="tensorrt",
    distributions=("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    built_on_device=True,
    portable=(".onnx",),
    oldest="edgepack.engines.tensorrt.recipe:oldest_versions",
    companions="edgepack.engines.tensorrt.recipe:companions",
    # TensorRT's documentation "Working with Quantized Types", Q/DQ placement. Its parser refuses non-zero zero points,
    # uint8 and int32 biases; its own words are in its log.
    int8=EngineTable(
        operators=WEIGHTED | MOVES | {"Concat", "AveragePool", "GlobalAveragePool"},
        needs_output=frozenset(),
        activations=POINTWISE,
        wraps_moves=False,
        same_scale_concat=True,
        residual=True,
        symmetric_products=False,
        demands={
            "activation_type": "int8",
            "activation_symmetric": True,
            "weight_type": "int8",
            "weight_symmetric": True,
            "quantize_bias": False,
        },
        demand="TensorRT takes only symmetric int8, and no int32 bias",
    ),
    # uint8 inputs: docs/operators.md of github.com/onnx/onnx-tensorrt as of 9.2 (that of 8.5 lists none), cast before
    # use. Suppression: INMSLayer of the C++ API of 10.0; before it is experimental and pads its output.
    pixels="9.2",
    suppression="10.0",
    proxy="edgepack.engines.tensorrt.proxy",
    on_cpu=False,
    probe="edgepack.engines.tensorrt.probe:probe",
    works_without="builds bundles for Jetson; cannot run them here",
    host="edgepack.engines.tensorrt.target:host_target",
    defaults={
        "engine": {"device": "GPU", "build_on": "device"},
        "quantization": {"activation_type": "int8", "activation_symmetric": True, "quantize_bias": False},
    },
    refuses="edgepack.engines.tensorrt.check:refuses_target",
    check_profile="edgepack.engines.tensorrt.target:check_profile",
    has_device="edgepack.device.host:has_nvidia_gpu",
)
