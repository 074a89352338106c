"""Loops are divided where a launch pays, and so that threads end together, whatever their number."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from codegen_models import import_model, model
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from edgepack.engines.tvm.codegen import threads
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine

FOUR = machine("x86_64", ("avx2", "fma"), threads=4)


def loops(channels: int, side: int, cores: int, kernel: int = 3) -> list[int]:
    """Return the extents of the loops that a convolution has divided among threads."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[kernel // 2] * 4)]
    weights = {"w": np.ones((channels, channels, kernel, kernel), np.float32)}
    proto = model(nodes, {"x": [1, channels, side, side]}, weights, ("y",))
    of = machine("x86_64", ("avx2", "fma"), threads=cores)
    text = lower(import_model(proto), of, "fp32").module.script(show_meta=False)
    return [int(extent) for extent in re.findall(r"T\.parallel\((?:T\.int64\()?(\d+)", text)]


def test_a_small_convolution_has_no_divided_loop() -> None:
    assert loops(16, 8, cores=4) == []
    assert loops(16, 8, cores=4, kernel=1) == []


@pytest.mark.parametrize("cores", [2, 4])
def test_the_parts_of_a_large_convolution_are_even_for_its_cores(cores: int) -> None:
    for side in (8, 14, 28):
        found = loops(128, side, cores)
        assert found
        assert all(-(-parts // cores) * cores <= 1.1 * parts for parts in found)


def test_weights_that_leave_the_cache_go_by_once_where_channels_are_parts_enough() -> None:
    assert loops(256, 5, cores=4) == [4]
    assert loops(256, 5, cores=3) == [6]  # three parts of its rows, two of its channels: these are no three parts


def test_one_thread_has_nothing_to_divide() -> None:
    assert loops(128, 28, cores=1) == []


def test_it_pays_from_a_number_of_launches_on() -> None:
    assert not threads.pays(15.9 * threads.LAUNCH_CYCLES, FOUR)
    assert threads.pays(16 * threads.LAUNCH_CYCLES, FOUR)


def test_a_kernel_of_bytes_is_shorter_than_one_of_floats() -> None:
    floats, dots = (threads.kernel_cycles((64, 64, 576), 4096, 8, step) for step in (1, 4))
    assert floats == 64 * 64 * 576 / 16 + 4096 / 8 * 4
    assert dots == 64 * 64 * 576 / 64 + 4096 / 8 * 4


def test_operations_count_calls_more_and_indices_not_at_all() -> None:
    import tvm
    from tvm import te, tirx
    from tvm.s_tir import Schedule

    x = te.placeholder((4, 16), "float32")
    for value, wanted in (
        (lambda i, j: x[(i + 1) % 4, j], 0),
        (lambda i, j: x[i, j] * 2.0 + x[i, (j + 3) % 16], 2),
        (lambda i, j: tirx.Select(x[i, j] > 0.0, tirx.exp(x[i, j]) + 1.0, x[i, j]), 11),
    ):
        function = te.create_prim_func([x, te.compute((4, 16), value)])
        schedule = Schedule(tvm.IRModule({"main": function}))
        (block,) = schedule.get_child_blocks(schedule.get_sblock("root"))
        assert threads.operations(schedule.get(block).body) == wanted


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 16))
def test_the_loops_taken_are_even_or_the_best_that_there_is(sizes: list[int], cores: int) -> None:
    of = machine("x86_64", threads=cores)
    count = threads.shared(sizes, of)
    uneven = [threads.unevenness(math.prod(sizes[: n + 1]), of) for n in range(len(sizes))]
    assert uneven[count - 1] <= max(1.1, min(uneven))
    assert all(value > 1.1 for value in uneven[: count - 1])


@given(st.integers(1, 500), st.integers(2, 16))
def test_unevenness_is_that_of_the_runtimes_own_division(parts: int, cores: int) -> None:
    """tvm/src/backend/llvm: each task takes the next ceil(parts / tasks) iterations."""
    longest = []
    for tasks in range(2, cores + 1):
        step = -(-parts // tasks)
        shares = [min((task + 1) * step, parts) - min(task * step, parts) for task in range(tasks)]
        assert sum(shares) == parts
        longest.append(max(shares) * tasks / parts)
    assert threads.unevenness(parts, machine("x86_64", threads=cores)) == max(longest)
