"""What is known of TVM without importing it."""

from __future__ import annotations

import dataclasses

from edgepack.engines import Engine
from edgepack.engines.onnxruntime.facts import INT8

ENGINE = Engine(
    title="TVM",
    backend="edgepack.engines.tvm.engine",
    package="tvm",
    distributions=("apache-tvm",),
    extra="tvm",
    self_contained=True,
    functions="edgepack.engines.tvm.interface",
    # TVM imports Q/DQ bit-exactly; ONNX Runtime's placement names every int8 operator, which its legalization needs.
    int8=dataclasses.replace(INT8, costs=None),
    pixels="0",
    fixed_shapes=True,
    kernels="edgepack.engines.tvm.tuning.tune",
    carried="edgepack.engines.tvm.libraries:own_libraries",
    probe="edgepack.engines.tvm.probe:probe",
    precisions="edgepack.engines.targets:half_on_arm",
    reads_caches=True,
)
