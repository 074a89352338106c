"""The sums of a tile are in registers all the time, whatever is asked for between their steps."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgepack.engines.tvm.codegen import stack
from edgepack.engines.tvm.codegen.machine import machine
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Choice, Workload
from edgepack.engines.tvm.tuning.timing import function_of

FLOAT, BYTES = ("float32", "float32", "float32"), ("uint8", "int8", "int32")
WIDE = ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni")
X86 = machine("x86_64", WIDE, l2_bytes=1 << 20)
TILE = Blocking(1, 14, 2, 16, False)  # 1792 bytes of sums
CALL = re.compile(r"TVMBackendAllocWorkspace@")
LOOP = re.compile(r"^(\.LBB\w+):\n((?:(?!^\.LBB).*\n)*?.*\bj\w+\s+\1)$", re.MULTILINE)


def assembly(workload: Workload) -> str:
    import tvm

    function, _ = function_of(workload, Choice(TILE), X86)
    code = tvm.compile(
        tvm.IRModule({"kernel": function}), tvm.target.Target(X86.target()), tir_pipeline=stack.pipeline()
    )
    return str(code.mod.inspect_source("asm"))


@pytest.mark.parametrize(
    ("workload", "multiply"),
    [
        (Workload("flat", FLOAT, 1, 1, 28, 64, 64), "vfmadd"),
        (Workload("flat", BYTES, 1, 1, 28, 64, 64), "vpdpbusd"),
        (Workload("window", FLOAT, 1, 14, 14, 32, 32, (3, 3), (1, 1), (0, 0, 0, 0)), "vfmadd"),
    ],
    ids=["product", "int8", "window"],
)
def test_no_step_of_a_sum_stores_it(workload: Workload, multiply: str) -> None:
    code = assembly(workload)
    steps = [body for _, body in LOOP.findall(code) if multiply in body]
    assert sum(body.count(multiply) for body in steps) >= TILE.width * TILE.vectors
    assert not any(re.search(r"vmov\w+\s+%zmm\d+, .*\(", body) for body in steps)
    assert not CALL.search(code)


def test_what_is_larger_is_not_put_on_the_stack() -> None:
    assert CALL.search(assembly(Workload("window", FLOAT, 1, 56, 56, 64, 32, (3, 3), (1, 1), (1, 1, 1, 1))))


def test_only_local_buffers_of_known_sizes_are_kept() -> None:
    from tvm import tirx

    def left(**of: Any) -> bool:
        buffer = tirx.decl_buffer(**{"shape": (28,), "dtype": "float32x16", "scope": "local", **of})
        return bool(stack.kept(tirx.PrimFunc([], tirx.AllocBuffer(buffer))).body.annotations)

    assert [left(), left(shape=(64,)), left(shape=(65,))] == [True, True, False]
    assert not left(scope="global")
    assert not left(shape=(tirx.Var("n", "int32"),))
