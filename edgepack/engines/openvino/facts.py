"""What is known of OpenVINO without importing it."""

from __future__ import annotations

from edgepack.engines import Engine
from edgepack.engines.int8 import MOVES, POINTWISE, WEIGHTED, EngineTable
from edgepack.engines.native_options import SPACES
from edgepack.engines.openvino.int8_costs import COSTS

ENGINE = Engine(
    title="OpenVINO",
    backend="edgepack.engines.openvino.engine",
    package="openvino",
    distributions=("openvino",),
    extra="openvino",
    portable=(".xml",),
    triton="openvino",
    oldest="edgepack.engines.openvino.oldest:oldest_versions",
    # As seen in runtime models of 2026.4.
    int8=EngineTable(
        operators=WEIGHTED | MOVES | {"Add", "AveragePool", "Concat", "GlobalAveragePool", "Mul"},
        needs_output=MOVES | {"Add", "AveragePool", "Concat", "GlobalAveragePool", "Mul"},
        activations=POINTWISE,
        wraps_moves=True,
        same_scale_concat=False,
        residual=False,
        symmetric_products=True,
        plain_deconvolutions=True,
        runs_signed=True,
        costs=COSTS,
    ),
    pixels="0",
    # Behind a DequantizeLinear of an input the first layer runs in float, and a QuantizeLinear that changes no value is
    # dropped, with the same result; one that rounds is merged with what is before, and the layer reads the bytes.
    integer_inputs="rounded",
    suppression="0",
    judges=True,
    fixes_batch=True,
    run_options=SPACES["openvino"],
    peaks="edgepack.engines.openvino.peaks",
    same_kernels=("torch",),  # both have oneDNN's
    layers="edgepack.engines.openvino.profile",
    unrounded="edgepack.engines.openvino.unrounded:unrounded_sums",
    probe="edgepack.engines.openvino.probe:probe",
    precisions="edgepack.engines.openvino.target:native_precisions",
    check_profile="edgepack.engines.openvino.target:check_profile",
)
