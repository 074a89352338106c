"""What ONNX Runtime's operators cost in float and in int8.

Fitted (non-negative least squares of relative errors, each network with a factor of its own for how busy the
machine was) to the times that its profiler gave, 1.31.1, one thread, 2-core Xeon VM with AVX-512, VNNI and AMX, 2
December 2026: 17 networks, of these FastestDet, EfficientNet-Lite0, ResNet20, the keyword network, YuNet, RFB and
PicoDet-S from outside and ten made up, small ones above all; int8 with the channels of ``fill_channels.py``. Median
relative error 8 to 20 % where there are many nodes of a kind. The profiler itself adds some 0.6 us to a node in float
and 1.3 us to one in int8, as the time of whole runs shows; that is taken off. Conversions, resizes and SiLU are of an
earlier fit to four networks; ``first`` and ``vector``, of which there are few, were set by hand. Another machine has
other figures; what follows from them is kept only where it is measured to be faster.
"""

from __future__ import annotations

from edgepack.engines.costs import Cost, PrecisionCosts

COSTS = PrecisionCosts(
    int8={
        "pointwise": Cost(3_700, made_ns=0.042, read_ns=0.091, mac_ns=0.0024),
        "depthwise": Cost(4_900, made_ns=0.115, read_ns=0.024, mac_ns=0.0216),
        "dense": Cost(2_600, made_ns=0.249, read_ns=0.238, mac_ns=0.0022),
        "first": Cost(15_000, made_ns=0.25, read_ns=0.4, mac_ns=0.014),
        "vector": Cost(5_000, mac_ns=0.033),
        "Sigmoid": Cost(2_600, made_ns=0.213),
        "Mul": Cost(3_400, made_ns=0.206),
        "Add": Cost(3_600, made_ns=0.109),
        "Concat": Cost(2_800, made_ns=0.107),
        "MaxPool": Cost(900, mac_ns=0.047),
        "GlobalAveragePool": Cost(2_200, read_ns=0.092),
        "Resize": Cost(12_900, made_ns=0.206),
        "Split": Cost(1_600, made_ns=0.036),
    },
    float32={
        "pointwise": Cost(3_800, mac_ns=0.0098),
        "depthwise": Cost(3_500, made_ns=0.089, read_ns=0.026, mac_ns=0.0179),
        "dense": Cost(2_000, mac_ns=0.0155),
        "first": Cost(3_900, mac_ns=0.0208),
        "vector": Cost(2_400, mac_ns=0.173),
        "Sigmoid": Cost(2_600, made_ns=0.226),
        "SiLU": Cost(1_900, made_ns=0.253),
        "Mul": Cost(2_000, made_ns=0.128),
        "Add": Cost(2_700, made_ns=0.099),
        "Concat": Cost(2_700, made_ns=0.088),
        "MaxPool": Cost(2_900, mac_ns=0.111),
        "GlobalAveragePool": Cost(2_200, read_ns=0.121),
        "Resize": Cost(9_400, made_ns=0.15),
        "Split": Cost(2_400, made_ns=0.083),
    },
    to_int8=Cost(3_000, made_ns=0.217),
    to_float=Cost(1_500, made_ns=0.15),
    layout=Cost(2_900, made_ns=0.195),
    unfused=Cost(4_400, made_ns=0.3),
    fuses=frozenset({"Add", "Clip", "Div", "HardSigmoid", "HardSwish", "Mul"}),
)
