"""What OpenVINO's operators cost in float and in int8.

Fitted (non-negative least squares of relative errors) to the times that its counters gave, 2026.4.1, one thread, 2-core
Xeon VM with AVX-512, VNNI and AMX, under a load of 3 to 5, 2 December 2026: 28 made-up networks of 5 to 25 layers, each
in fp32, in int8 and with half of its convolutions in int8. Median relative error 7 to 30 %, as counters count whole
microseconds; ``vector``, of which there are few, was set by hand. Both precisions keep channels last, so nothing is
paid for the order; what is behind a convolution is computed inside it in both. An int8 convolution also writes floats:
``to_float`` is what that takes more. Kinds that are missing cost about the same in both. Another machine has other
figures; what follows from them is kept only where it is measured to be faster.
"""

from __future__ import annotations

from edgepack.engines.costs import Cost, PrecisionCosts

COSTS = PrecisionCosts(
    int8={
        "pointwise": Cost(2_400, made_ns=0.146, read_ns=0.023, mac_ns=0.0002),
        "depthwise": Cost(1_500, made_ns=0.08, read_ns=0.011, mac_ns=0.0168),
        "dense": Cost(2_000, made_ns=0.236, read_ns=0.094, mac_ns=0.0004),
        "first": Cost(10_700, made_ns=0.394, read_ns=0.606),
        "vector": Cost(7_700),
        "Concat": Cost(900, made_ns=0.096),
        "MaxPool": Cost(1_200, mac_ns=0.044),
        "GlobalAveragePool": Cost(1_900, read_ns=0.074),
    },
    float32={
        "pointwise": Cost(900, made_ns=0.104, read_ns=0.04, mac_ns=0.0086),
        "depthwise": Cost(800, made_ns=0.04, read_ns=0.044, mac_ns=0.0153),
        "dense": Cost(800, made_ns=0.299, read_ns=0.124, mac_ns=0.0084),
        "first": Cost(6_100, made_ns=0.396, read_ns=0.268),
        "vector": Cost(4_500),
        "Concat": Cost(700, made_ns=0.157),
        "MaxPool": Cost(1_000, mac_ns=0.046),
        "GlobalAveragePool": Cost(1_500, read_ns=0.092),
    },
    to_int8=Cost(1_100, made_ns=0.077),
    to_float=Cost(made_ns=0.014),
    layout=Cost(),
    unfused=Cost(),
    fuses=frozenset(),
)
