"""TEST DOUBLE: the toy engine's record, all that edgepack is told of it."""

from __future__ import annotations

from edgepack.engines import Engine, RunSpace
from edgepack.engines.int8 import EngineTable

ENGINE = Engine(
    title="Toy",
    backend="toy_engine.engine",
    package="toy_engine",
    distributions=("toy-engine",),
    install="pip install toy-engine",
    portable=(".toy",),
    oldest="toy_engine.engine:oldest",
    # Unlike any engine of edgepack's own: of operators with weights it takes convolutions alone.
    int8=EngineTable(
        operators=frozenset({"Conv"}),
        needs_output=frozenset(),
        activations=frozenset({"Relu"}),
        wraps_moves=False,
        same_scale_concat=False,
        residual=False,
        symmetric_products=False,
    ),
    run_options=RunSpace(common=(("optimization", "off"),)),
    layers="toy_engine.layers",
    kernels="toy_engine.tuning",
)
