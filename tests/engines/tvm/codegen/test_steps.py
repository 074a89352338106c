"""The shared steps of schedules: what a kernel's function must be, and how wide its vectors are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.engines.tvm.codegen import steps
from edgepack.engines.tvm.codegen.machine import machine

WIDE = machine("x86_64", ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"))


def schedule(results: int) -> Any:
    """Return the schedule of sums, twice their value, and ``results`` outputs of these."""
    import tvm
    from tvm import te
    from tvm.s_tir import Schedule

    x = te.placeholder((6, 8), "float32", "x")
    k = te.reduce_axis((0, 8), "k")
    sums = te.compute((6,), lambda m: te.sum(x[m, k], axis=k), name="sums")
    twice = te.compute((6,), lambda m: sums[m] * 2, name="twice")

    def last(number: int) -> Any:
        return te.compute((6,), lambda m: twice[m] + number, name=f"last{number}")

    outputs = [last(number) for number in range(results)]
    return Schedule(tvm.IRModule({"main": te.create_prim_func([x, *outputs])}))


def test_what_lies_between_the_sums_and_the_output_is_computed_there() -> None:
    sch = schedule(1)
    last = steps.inline_behind(sch, sch.get_sblock("sums"))
    assert sch.get(last).name_hint == "last0"
    assert [sch.get(b).name_hint for b in sch.get_child_blocks(sch.get_sblock("root"))] == ["sums", "last0"]


def test_a_function_with_two_outputs_is_refused() -> None:
    sch = schedule(2)
    with pytest.raises(steps.RuleError, match="more than one output"):
        steps.inline_behind(sch, sch.get_sblock("sums"))


@given(st.integers(1, 500))
def test_lanes_are_the_most_that_divide_a_size(size: int) -> None:
    lanes = steps.lanes_of(size, WIDE)
    assert lanes == max(n for n in (1, 2, 4, 8, 16) if size % n == 0)


def test_the_extent_of_a_loop_is_a_number() -> None:
    sch = schedule(1)
    assert [steps.extent(sch, loop) for loop in sch.get_loops(sch.get_sblock("sums"))] == [6, 8]
