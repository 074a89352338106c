"""How the loops of each function are arranged: one rule a kind of function, each checked by whether it applies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgepack.codegen.kernels import KERNEL, read_tag

if TYPE_CHECKING:
    from edgepack.codegen.blocking import Blocking
    from edgepack.codegen.machine import Machine

_SPATIAL, _REDUCTION = 0, 2  # tvm.tirx.IterVar.DataPar and CommReduce
# A loop of fewer operations is not divided among threads: waking them costs some microseconds.
_FEWEST_FOR_THREADS = 16384
_FEWEST_LANES = 4


class RuleError(Exception):
    """Raised where a rule does not cover a function, which then keeps the default."""


def schedule(function: Any, machine: Machine) -> tuple[Any, str]:
    """Return the function with its loops arranged, and the name of the rule. Raises ``RuleError``."""
    import tvm
    from tvm.s_tir import Schedule

    sch = Schedule(tvm.IRModule({"main": function}), debug_mask="none")
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    tagged = [b for b in blocks if KERNEL in sch.get(b).annotations]
    if len(tagged) > 1:
        raise RuleError("two kernels in one function")
    if tagged:
        kind, tile = read_tag(str(sch.get(tagged[0]).annotations[KERNEL]))
        _kernel(sch, tagged[0], kind, tile, machine)
    else:
        kind = _generic(sch, machine)
    return sch.mod["main"], kind


# --- kernels ----------------------------------------------------------------------------------------------------------


def _kernel(sch: Any, sums: Any, kind: str, tile: Blocking, machine: Machine) -> None:
    """Compute a tile of sums in registers, then everything that was fused behind it, then store once."""
    sch.unannotate(sums, KERNEL)
    last = _inline_behind(sch, sums)
    _pads(sch, sums, machine)
    if kind == "flat":
        lead = len(sch.get_loops(last)) - 1
        _flatten(sch, last, lead)
        m, n = sch.get_loops(last)
        outer, rows = sch.split(m, [None, tile.width])
        spatial, inner = [outer], [rows]
    elif kind == "batched":
        *lead_loops, m, n = sch.get_loops(last)
        outer, rows = sch.split(m, [None, tile.width])
        spatial, inner = [*lead_loops, outer], [rows]
    else:
        b, y, z, n = sch.get_loops(last)
        y_outer, y_inner = sch.split(y, [None, tile.height])
        z_outer, z_inner = sch.split(z, [None, tile.width])
        spatial, inner = [b, y_outer, z_outer], [y_inner, z_inner]
    columns, vectors, lanes = sch.split(n, [None, tile.vectors, tile.lanes])
    if tile.weights_outer:
        sch.reorder(columns, *spatial, *inner, vectors, lanes)
        at = spatial[-1]
    else:
        sch.reorder(*spatial, columns, *inner, vectors, lanes)
        at = columns
    sch.compute_at(sums, at, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    _registers(sch, sums, tile)
    for loop in (*inner, vectors):
        sch.unroll(loop)
    if _whole(sch, last, tile):
        sch.vectorize(lanes)
    loops = [columns, *spatial] if tile.weights_outer else [*spatial, columns]
    _parallel(sch, loops, machine)


def _registers(sch: Any, sums: Any, tile: Blocking) -> None:
    """Arrange the loops of the sums: terms outside, positions and vectors of one tile unrolled inside."""
    variables = sch.get(sums).iter_vars
    loops = sch.get_loops(sums)[-len(variables) :]
    spatial = [loop for loop, v in zip(loops, variables, strict=True) if int(v.iter_type) == _SPATIAL]
    terms = [loop for loop, v in zip(loops, variables, strict=True) if int(v.iter_type) == _REDUCTION]
    vectors, lanes = sch.split(spatial[-1], [None, tile.lanes])
    sch.reorder(*terms, *spatial[:-1], vectors, lanes)
    for loop in (*spatial[:-1], vectors):
        sch.unroll(loop)
    sch.vectorize(lanes)
    start = sch.decompose_reduction(sums, terms[0])
    *positions, start_lanes = sch.get_loops(start)[-len(spatial) - 1 :]
    for loop in positions:
        sch.unroll(loop)
    sch.vectorize(start_lanes)


def _inline_behind(sch: Any, sums: Any) -> Any:
    """Inline what lies between the sums and the last block of the function; return the last."""
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    names = [sch.get(b).name_hint for b in blocks]
    place = names.index(sch.get(sums).name_hint)
    outputs = {sch.get(b).name_hint for b in sch.get_output_blocks(sch.get_sblock("root"))}
    if len(outputs) != 1 or names[-1] not in outputs or place == len(blocks) - 1:
        raise RuleError("more than one output")
    for block in blocks[place + 1 : -1]:
        sch.compute_inline(block)
    producers = [b for b, n in zip(blocks[:place], names[:place], strict=True) if not n.startswith("pad")]
    for block in producers:
        sch.compute_inline(block)
    return blocks[-1]


def _pads(sch: Any, sums: Any, machine: Machine) -> None:
    for block in sch.get_producers(sums):
        _spatial(sch, block, machine)


def _flatten(sch: Any, block: Any, lead: int) -> None:
    """Make one iteration variable of the first ``lead`` ones of a block."""
    from tvm.tirx import IndexMap

    extents = [int(v.dom.extent) for v in sch.get(block).iter_vars][:lead]

    def flat(*index: Any) -> tuple[Any, Any]:
        m: Any = 0
        for i, size in zip(index[:lead], extents, strict=True):
            m = m * size + i
        return m, index[lead]

    sch.transform_block_layout(block, IndexMap.from_func(flat, ndim=lead + 1))


def _whole(sch: Any, block: Any, tile: Blocking) -> bool:
    """Say whether the last block's channels fill its tiles, so that no lane is left out."""
    return int(sch.get(block).iter_vars[-1].dom.extent) % tile.lanes == 0


def _parallel(sch: Any, loops: list[Any], machine: Machine) -> None:
    """Divide the outermost loops among threads, as few of them as give every thread the same."""
    if machine.threads == 1:
        return
    count, chosen = 1, 0
    for loop in loops:
        count *= int(sch.get(loop).extent)
        chosen += 1
        if count >= 4 * machine.threads:
            break
    loop = sch.fuse(*loops[:chosen]) if chosen > 1 else loops[0]
    sch.parallel(loop)


# --- everything else --------------------------------------------------------------------------------------------------


def _generic(sch: Any, machine: Machine) -> str:
    """Inline what can be, vectorize elementwise blocks and reductions over outer dimensions."""
    root = sch.get_sblock("root")
    for block in sch.get_child_blocks(root)[:-1]:
        if _reductions(sch, block):
            continue
        try:
            sch.compute_inline(block)
        except Exception:  # an output, or read by a reduction: it stays a loop of its own
            continue
    kinds = []
    for block in sch.get_child_blocks(root):
        if _reductions(sch, block):
            kinds.append(_reduction(sch, block, machine))
        else:
            _spatial(sch, block, machine)
            kinds.append("elementwise")
    named = [kind for kind in kinds if kind != "elementwise"]
    return named[0] if named else "elementwise"


def _reductions(sch: Any, block: Any) -> bool:
    return any(int(v.iter_type) == _REDUCTION for v in sch.get(block).iter_vars)


def _spatial(sch: Any, block: Any, machine: Machine) -> None:
    """Vectorize the innermost loop, or all of them as one where it is short, and divide the others among threads."""
    loops = sch.get_loops(block)
    sizes = [_extent(sch, loop) for loop in loops]
    if not loops or None in sizes:
        if loops:
            sch.parallel(loops[0])
        return
    total = math.prod(size or 1 for size in sizes)
    if _lanes(sizes[-1] or 1, machine) < _FEWEST_LANES:
        if total < 4 * machine.lanes():
            return
        loops = [sch.fuse(*loops) if len(loops) > 1 else loops[0]]
        sizes = [total]
    *outer, last = loops
    lanes = _lanes(sizes[-1] or 1, machine)
    if lanes > 1:
        last, inner = sch.split(last, [None, lanes])
        sch.vectorize(inner)
    _divide(sch, [*outer, last], total, machine)


def _lanes(size: int, machine: Machine) -> int:
    """Return the most lanes of a vector that divide ``size``."""
    lanes = machine.lanes()
    while size % lanes:
        lanes //= 2
    return lanes


def _divide(sch: Any, loops: list[Any], total: int, machine: Machine) -> None:
    if machine.threads > 1 and total >= _FEWEST_FOR_THREADS:
        sch.parallel(sch.fuse(*loops) if len(loops) > 1 else loops[0])


def _reduction(sch: Any, block: Any, machine: Machine) -> str:
    """Vectorize over the last output dimension when it is long enough, or leave the sums as they are."""
    variables = sch.get(block).iter_vars
    loops = sch.get_loops(block)
    if len(variables) != len(loops) or any(_extent(sch, loop) is None for loop in loops):
        raise RuleError("loops that are not the block's own")
    kinds = [int(v.iter_type) for v in variables]
    if set(kinds) - {_SPATIAL, _REDUCTION}:
        raise RuleError("an iteration that is neither spatial nor a reduction")
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == _SPATIAL]
    terms = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == _REDUCTION]
    if not spatial:
        return "reduction"
    total = math.prod(_extent(sch, loop) or 1 for loop in loops)
    lanes = _lanes(_extent(sch, spatial[-1]) or 1, machine)
    outer = spatial
    if lanes >= _FEWEST_LANES:
        rest, inner = sch.split(spatial[-1], [None, lanes])
        outer = [*spatial[:-1], rest]
        sch.reorder(*outer, *terms, inner)
        sch.vectorize(inner)
        start = sch.decompose_reduction(block, terms[0])
        sch.vectorize(sch.get_loops(start)[-1])
    else:
        sch.reorder(*outer, *terms)
    _divide(sch, outer, total, machine)
    return "vector reduction" if lanes >= _FEWEST_LANES else "reduction"


def _extent(sch: Any, loop: Any) -> int | None:
    extent = sch.get(loop).extent
    return int(extent) if hasattr(extent, "value") else None
