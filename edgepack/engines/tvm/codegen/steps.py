"""Steps that the schedules of kernels share: what is fused behind the sums, their registers, their cycles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen import threads
from edgepack.engines.tvm.codegen.intrinsics import FMLAL

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.engines.tvm.codegen.tile import Blocking

SPATIAL, REDUCTION = 0, 2  # tvm.tirx.IterVar.DataPar and CommReduce
_KEPT = ("pad", "ordered", "patched")  # parts of the input that a kernel reads often


class RuleError(Exception):
    """Raised where a rule does not cover a function, which then keeps the default."""


def registers(sch: Any, sums: Any, instruction: str | None, tile: Blocking) -> None:
    """Arrange the loops of the sums: terms outside, positions and vectors of one tile unrolled inside."""
    variables = sch.get(sums).iter_vars
    loops = sch.get_loops(sums)[-len(variables) :]
    spatial = [loop for loop, v in zip(loops, variables, strict=True) if int(v.iter_type) == SPATIAL]
    terms = [loop for loop, v in zip(loops, variables, strict=True) if int(v.iter_type) == REDUCTION]
    vectors, lanes = sch.split(spatial[-1], [None, tile.lanes])
    fours = instruction is not None and instruction != FMLAL
    bytes_inside = terms[-1:] if fours else []
    terms = terms[:-1] if fours else terms
    sch.reorder(*terms, *spatial[:-1], vectors, lanes, *bytes_inside)
    for loop in (*spatial[:-1], vectors):
        sch.unroll(loop)
    if not instruction:
        sch.vectorize(lanes)
    start = sch.decompose_reduction(sums, terms[0])
    *positions, start_lanes = sch.get_loops(start)[-len(spatial) - 1 :]
    for loop in positions:
        sch.unroll(loop)
    sch.vectorize(start_lanes)
    if instruction:
        sch.tensorize(lanes, instruction)


def inline_behind(sch: Any, sums: Any, keep: str | None = None) -> Any:
    """Inline what lies between the sums and the last block of a function, but for one to ``keep``; return the last."""
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    names = [sch.get(b).name_hint for b in blocks]
    place = names.index(sch.get(sums).name_hint)
    outputs = {sch.get(b).name_hint for b in sch.get_output_blocks(sch.get_sblock("root"))}
    if len(outputs) != 1 or names[-1] not in outputs or place == len(blocks) - 1:
        raise RuleError("more than one output")
    for block, name in zip(blocks[place + 1 : -1], names[place + 1 : -1], strict=True):
        if name != keep:
            sch.compute_inline(block)
    producers = [b for b, n in zip(blocks[:place], names[:place], strict=True) if not n.startswith(_KEPT)]
    for block in producers:
        sch.compute_inline(block)
    return blocks[-1]


def flatten(sch: Any, block: Any, lead: int) -> None:
    """Make one iteration variable of the first ``lead`` ones of a block."""
    from tvm.tirx import IndexMap

    extents = [int(v.dom.extent) for v in sch.get(block).iter_vars][:lead]

    def flat(*index: Any) -> tuple[Any, Any]:
        m: Any = 0
        for i, size in zip(index[:lead], extents, strict=True):
            m = m * size + i
        return m, index[lead]

    sch.transform_block_layout(block, IndexMap.from_func(flat, ndim=lead + 1))


def whole(sch: Any, block: Any, tile: Blocking) -> bool:
    """Say whether the last block's channels fill its tiles, so that no lane is left out."""
    return int(sch.get(block).iter_vars[-1].dom.extent) % tile.lanes == 0


def cycles(sch: Any, sums: Any, last: Any, tile: Blocking, a_step: int) -> float:
    """Return the cycles of a kernel; each step of a lane multiplies ``a_step`` products."""
    sizes, outputs = ([int(v.dom.extent) for v in sch.get(block).iter_vars] for block in (sums, last))
    return threads.kernel_cycles(sizes, math.prod(outputs), tile.lanes, a_step)


def lanes_of(size: int, machine: Machine) -> int:
    """Return the most lanes of a vector that divide ``size``."""
    lanes = machine.lanes()
    while size % lanes:
        lanes //= 2
    return lanes


def extent(sch: Any, loop: Any) -> int | None:
    """Return how often a loop runs, or None where that is not known before."""
    size = sch.get(loop).extent
    return int(size) if hasattr(size, "value") else None
