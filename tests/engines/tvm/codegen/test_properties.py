"""Random convolutions, and the vectors that each machine's code is made of."""

from __future__ import annotations

import re

import numpy as np
import pytest
from codegen_models import assert_close, feeds, import_model, model, run_ours, run_reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgepack.engines.tvm.codegen import stack
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import Machine, machine

pytestmark = pytest.mark.slow


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_convolution(data: st.DataObject) -> None:
    group = data.draw(st.sampled_from([1, 1, 2, 4]))
    inputs, outputs = group * data.draw(st.integers(1, 9)), group * data.draw(st.integers(1, 20))
    kernel = [data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))]
    attributes = {
        "strides": [data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))],
        "dilations": [data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))],
        "pads": [data.draw(st.integers(0, 2)) for _ in range(4)],
        "group": group,
    }
    size = [data.draw(st.integers(8, 15)), data.draw(st.integers(8, 15))]
    weights = np.random.default_rng(0).standard_normal((outputs, inputs // group, *kernel)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], **attributes), helper.make_node("Relu", ["c"], ["y"])]
    shape = [data.draw(st.integers(1, 2)), inputs, *size]
    proto = model(nodes, {"x": shape}, {"w": weights}, ("y",))
    inputs_now = feeds(proto)
    ours, _ = run_ours(proto, inputs_now)
    assert_close(ours, run_reference(proto, inputs_now))


AVX512 = ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl")


@pytest.mark.parametrize(
    ("of", "wanted", "unwanted"),
    [
        (machine("x86_64", AVX512), r"vfmadd\w+ps.*%zmm", r"call\w*\s+\w*expf"),
        (machine("x86_64", ("avx2", "fma")), r"vfmadd\w+ps.*%ymm", r"%zmm"),
        (machine("x86_64"), r"mulps.*%xmm", r"%ymm"),
        (machine("aarch64"), r"fmla\s+v\d+\.4s", r"\b(sdot|bl\s+expf)"),
        (machine("riscv64"), r"fmadd\.s", r"\bv(setvli|fmacc)"),
    ],
    ids=["avx512", "avx2", "sse2", "neon", "rv64gc"],
)  # fmt: skip
def test_the_machine_code_has_the_vectors_of_its_machine(of: Machine, wanted: str, unwanted: str) -> None:
    import tvm
    from tvm import relax

    weights = np.random.default_rng(0).standard_normal((32, 16, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Sigmoid", ["c"], ["y"])]
    proto = model(nodes, {"x": [1, 16, 10, 10]}, {"w": weights}, ("y",))
    lowered = lower(import_model(proto), of, "fp32")
    code = tvm.compile(
        lowered.module,
        tvm.target.Target(of.target()),
        relax_pipeline=relax.get_pipeline("default_build"),
        tir_pipeline=stack.pipeline(),
    )
    text = str(code.mod.imports[0].inspect_source("asm") if code.mod.imports else code.mod.inspect_source("asm"))
    assert len(re.findall(wanted, text)) >= 8
    assert not re.findall(unwanted, text)
