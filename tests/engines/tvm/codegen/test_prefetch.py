"""What kernels ask for ahead is what they read next, and asking changes no value."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from codegen_models import assert_close, feeds, host_machine, model, run_ours, run_reference
from onnx import helper

from edgepack.engines.tvm.codegen import stack
from edgepack.engines.tvm.codegen.machine import Machine, machine
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Choice, Workload
from edgepack.engines.tvm.tuning.timing import function_of

pytestmark = pytest.mark.slow

FLOAT, BYTES = ("float32", "float32", "float32"), ("uint8", "int8", "int32")
WIDE = ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni")
X86 = machine("x86_64", WIDE, l2_bytes=1 << 20)
LINE = 16  # float32 values


def requests(workload: Workload, tile: Blocking, of: Machine) -> Iterator[tuple[str, int, int]]:
    """Yield, in the order of the loops, each request's buffer, the element it is for, and whether it is to write."""
    function, _ = function_of(workload, Choice(tile), of)
    yield from _run(function.body.block.body, {})


def _run(statement: Any, known: dict[Any, int]) -> Iterator[tuple[str, int, int]]:
    from tvm import tirx
    from tvm.tirx import IndexMap

    if isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from _run(part, known)
    elif isinstance(statement, tirx.For):
        if any(asks in statement.script() for asks in ("T.prefetch",)):
            for value in range(int(statement.extent)):
                yield from _run(statement.body, {**known, statement.loop_var: value})
    elif isinstance(statement, tirx.Evaluate):
        address, write, *_ = statement.value.args
        load = address.args[0]
        index = IndexMap(list(known), list(load.indices), None).map_indices(list(known.values()))
        place = 0
        for value, size in zip(index, load.source.shape, strict=True):
            place = place * int(size) + int(value)
        yield str(load.source.name), place, int(write)


def test_the_next_tile_of_weights_is_asked_for_while_positions_go_by() -> None:
    workload = Workload("flat", FLOAT, 1, 1, 12, 8, 48)
    asked = [place for name, place, _ in requests(workload, Blocking(1, 3, 1, 16, True), X86) if name == "w"]
    tile = 8 * 16  # terms by channels: as many elements
    for number in range(2):
        ours = asked[number * len(asked) // 3 :][: len(asked) // 3]
        wanted = set(range((number + 1) * tile, (number + 2) * tile, LINE))
        assert {place // LINE * LINE for place in ours} == wanted
        assert ours == sorted(ours)


def test_weights_are_asked_for_32_terms_ahead_and_the_next_rows_share_by_share() -> None:
    workload = Workload("flat", FLOAT, 1, 1, 12, 64, 48)
    asked = list(requests(workload, Blocking(1, 3, 1, 16, False), X86))
    weights = [place for name, place, _ in asked if name == "w"]
    assert weights[: 3 * 64] == [(term + 32) * 16 for term in range(3 * 64)]
    rows = [place for name, place, _ in asked if name == "x"]
    assert {place // LINE * LINE for place in rows[: 3 * 64]} >= set(range(3 * 64, 6 * 64, LINE))
    assert min(rows[: 3 * 64]) == 3 * 64


def test_windows_ask_for_the_next_tile_of_weights_too() -> None:
    workload = Workload("window", FLOAT, 1, 6, 6, 8, 32, (3, 3), (1, 1), (1, 1, 1, 1))
    asked = [place for name, place, _ in requests(workload, Blocking(1, 6, 1, 16, True), X86) if name == "w"]
    tile = 3 * 3 * 8 * 16
    ours = asked[: len(asked) // 2]
    assert {place // LINE * LINE for place in ours} >= set(range(tile, 2 * tile, LINE))
    assert max(ours) < tile + 6 * 72 * 3  # each step's share is a whole number of elements


def test_patches_ask_for_the_weights_of_the_next_product() -> None:
    workload = Workload("winograd", FLOAT, 1, 12, 12, 16, 16, (3, 3), (1, 1), (1, 1, 1, 1))
    asked = [place for name, place, _ in requests(workload, Blocking(1, 6, 1, 16, True), X86) if name == "w"]
    size, each = 16 * 16, len(asked) // 16
    for product in range(15):
        ours = asked[product * each : (product + 1) * each]
        assert {place // LINE * LINE for place in ours} >= set(range((product + 1) * size, (product + 2) * size, LINE))
        assert max(ours) < (product + 2) * size + each


def test_a_second_tile_of_weights_that_does_not_fit_is_not_asked_for() -> None:
    """It would drive out the first."""
    workload = Workload("flat", FLOAT, 1, 1, 12, 64, 48)
    of = machine("x86_64", WIDE, l2_bytes=6 << 10)  # a tile has 4 KiB
    asked = [place for name, place, _ in requests(workload, Blocking(1, 3, 1, 16, True), of) if name == "w"]
    assert asked[:64] == [(term + 32) * 16 for term in range(64)]


def test_a_tiles_output_is_asked_for_to_write_where_tensors_are_larger_than_half_the_cache() -> None:
    workload = Workload("flat", FLOAT, 1, 1, 6, 8, 32)
    tile = Blocking(1, 3, 1, 16, False)
    small = machine("x86_64", WIDE, l2_bytes=1 << 10)
    written = [place for name, place, write in requests(workload, tile, small) if name == "last" and write]
    assert written == [
        row * 32 + column for rows, column in itertools.product((0, 3), (0, 16)) for row in range(rows, rows + 3)
    ]
    assert not [name for name, *_ in requests(workload, tile, X86) if name == "last"]


@pytest.mark.parametrize("kind", ["flat", "window"])
def test_weights_that_are_read_once_are_not_asked_for(kind: Any) -> None:
    """They come at memory's speed: with requests, a product of one row took 1.2 times as long."""
    workload = Workload(kind, FLOAT, 1, 1, 3, 64, 96)
    assert not list(requests(workload, Blocking(1, 3, 6, 16, True), X86))


@pytest.mark.parametrize(
    ("of", "types", "instruction"),
    [
        (X86, FLOAT, r"prefetcht0"),
        (X86, BYTES, r"prefetcht0"),
        (machine("aarch64", ("asimd", "asimddp")), FLOAT, r"prfm\s+pldl1keep"),
        (machine("riscv64", ("v",)), FLOAT, None),  # without Zicbop there is no such instruction
    ],
    ids=["x86", "x86-int8", "aarch64", "riscv64"],
)
def test_the_instruction_is_there(of: Machine, types: tuple[str, str, str], instruction: str | None) -> None:
    import tvm

    function, _ = function_of(Workload("flat", types, 1, 1, 12, 64, 48), Choice(Blocking(1, 3, 1, 4, False)), of)
    library = tvm.compile(
        tvm.IRModule({"kernel": function}), tvm.target.Target(of.target()), tir_pipeline=stack.pipeline()
    )
    code = library.mod.inspect_source("asm")
    assert "prefetch" not in code if instruction is None else re.search(instruction, code)


def test_asking_changes_no_value() -> None:
    """Residuals, outputs and what lies behind the last tile are asked for here: the cache is made small."""
    draw = np.random.default_rng(1)
    weights = {
        "a": draw.standard_normal((40, 24, 1, 1)).astype(np.float32),
        "b": draw.standard_normal((40, 40, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"]), helper.make_node("Conv", ["c", "b"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "d"], ["e"]), helper.make_node("Relu", ["e"], ["y"]),
    ]  # fmt: skip
    proto = model(nodes, {"x": [2, 24, 9, 11]}, weights, ("y",))
    inputs = feeds(proto)
    host = host_machine()
    of = machine(host.arch, host.isa, l2_bytes=1 << 12)
    ours, lowered = run_ours(proto, inputs, of)
    assert_close(ours, run_reference(proto, inputs))
    assert "prefetch" in lowered.module.script()
