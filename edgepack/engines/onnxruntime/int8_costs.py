"""What ONNX Runtime's operators cost in float and in int8.

Fitted (non-negative least squares of relative errors) to the quarter points of the times that its profiler gave in 30
runs: PicoDet-S, FastestDet, EfficientNet-Lite0 and a made-up detector of the YOLOX kind with SiLU, 1.31.1, one thread,
2-core Xeon VM with AVX-512, VNNI and AMX, 1 December 2026; 250 pointwise and 110 depthwise convolutions, median
relative error 9 to 16 %. Another machine has other figures; what follows from them is kept only where it is measured to
be faster.
"""

from __future__ import annotations

from edgepack.engines.costs import Cost, PrecisionCosts

COSTS = PrecisionCosts(
    int8={
        "pointwise": Cost(10_300, made_ns=0.084, read_ns=0.036, mac_ns=0.002),
        "depthwise": Cost(9_000, made_ns=0.156, read_ns=0.036, mac_ns=0.0235),
        "dense": Cost(10_300, made_ns=1.1, read_ns=0.58),
        "Sigmoid": Cost(3_900, made_ns=0.213),
        "Mul": Cost(4_700, made_ns=0.206),
        "Add": Cost(4_600, made_ns=0.121),
        "Concat": Cost(5_500, made_ns=0.103),
        "MaxPool": Cost(9_400, mac_ns=0.02),
        "GlobalAveragePool": Cost(8_300, read_ns=0.04),
        "Resize": Cost(14_200, made_ns=0.206),
        "Split": Cost(2_300, made_ns=0.1),
    },
    float32={
        "pointwise": Cost(6_000, made_ns=0.031, read_ns=0.016, mac_ns=0.0095),
        "depthwise": Cost(5_300, read_ns=0.040, mac_ns=0.0202),
        "dense": Cost(33_300, made_ns=0.141, mac_ns=0.013),
        "Sigmoid": Cost(2_800, made_ns=0.262),
        "SiLU": Cost(2_500, made_ns=0.253),
        "Mul": Cost(4_600, made_ns=0.128),
        "Add": Cost(4_000, made_ns=0.122),
        "Concat": Cost(1_100, made_ns=0.164),
        "MaxPool": Cost(5_000, mac_ns=0.04),
        "GlobalAveragePool": Cost(6_000, read_ns=0.07),
        "Resize": Cost(10_000, made_ns=0.15),
        "Split": Cost(3_100, made_ns=0.192),
    },
    to_int8=Cost(5_200, made_ns=0.217),
    to_float=Cost(3_000, made_ns=0.126),
    layout=Cost(5_000, made_ns=0.2),
    unfused=Cost(5_700, made_ns=0.3),
    fuses=frozenset({"Add", "Clip", "Div", "HardSigmoid", "HardSwish", "Mul"}),
)
