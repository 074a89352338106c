"""How the loops of each function are arranged: one rule a kind of function, each checked by whether it applies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen import borders, joins, prefetch, threads
from edgepack.engines.tvm.codegen.amx import RULE, TILES, tiles_of
from edgepack.engines.tvm.codegen.amx_schedule import by_tiles, configured
from edgepack.engines.tvm.codegen.approximations import STORED
from edgepack.engines.tvm.codegen.columns import by_columns
from edgepack.engines.tvm.codegen.compute import KERNEL, kernel_of
from edgepack.engines.tvm.codegen.intrinsics import FMLAL
from edgepack.engines.tvm.codegen.once import unique
from edgepack.engines.tvm.codegen.steps import (
    REDUCTION,
    SPATIAL,
    RuleError,
    cycles,
    extent,
    flatten,
    inline_behind,
    lanes_of,
    registers,
    whole,
)
from edgepack.engines.tvm.codegen.window import EIGHT, TERMS
from edgepack.engines.tvm.codegen.winograd_schedule import by_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.engines.tvm.codegen.compute import Kernel
    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.engines.tvm.codegen.tile import Blocking

_FEWEST_LANES = 4


def schedule(function: Any, machine: Machine) -> tuple[Any, str]:
    """Return the function with its loops arranged, and the name of the rule. Raises ``RuleError``."""
    import tvm
    from tvm.s_tir import Schedule

    sch = Schedule(tvm.IRModule({"main": function}), debug_mask="none")
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    sums = [b for b in blocks if KERNEL in sch.get(b).annotations]
    if len(sums) > 1:
        raise RuleError("two kernels in one function")
    if sums:
        annotations = sch.get(sums[0]).annotations
        kernel = kernel_of(annotations[KERNEL])
        _kernel(sch, sums[0], kernel, machine)
        if kernel.kind == "tiles":
            made = configured(sch.mod["main"], tiles_of(annotations[TILES]))
            return made, RULE
        kind = f"{kernel.kind} {kernel.instruction.split('.')[1]}" if kernel.instruction else kernel.kind
        kind += f" ({kernel.origin})" if kernel.origin != "rule" else ""
        return borders.parted(prefetch.ahead(sch.mod["main"], kernel, machine)), kind
    return _generic(sch, machine)


# --- kernels ----------------------------------------------------------------------------------------------------------


def _kernel(sch: Any, sums: Any, kernel: Kernel, machine: Machine) -> None:
    """Compute a tile of sums in registers, then everything that was fused behind it, then store once."""
    sch.unannotate(sums, KERNEL)
    kind, instruction, tile = kernel.kind, kernel.instruction, kernel.tile
    if (other := _OTHERS.get(kind)) is not None:
        other(sch, sums, kernel, machine)
        return
    last = inline_behind(sch, sums)
    pads = _padded(sch, sums, kind)
    band: list[Any] = []  # loops that one padded part of the input is made for
    if kind == "flat":
        flatten(sch, last, len(sch.get_loops(last)) - 1)
        m, n = sch.get_loops(last)
        outer, rows = sch.split(m, [None, tile.width])
        spatial, inner = [outer], [rows]
    elif kind == "batched":
        *lead_loops, m, n = sch.get_loops(last)
        outer, rows = sch.split(m, [None, tile.width])
        spatial, inner = [*lead_loops, outer], [rows]
    else:
        b, y, z, n = sch.get_loops(last)
        rows_of_tiles = _band(sch, pads, extent(sch, y) or 1, extent(sch, n) or 1, tile, machine)
        y_band, y_outer, y_inner = sch.split(y, [None, rows_of_tiles, tile.height])
        z_outer, z_inner = sch.split(z, [None, tile.width])
        band, spatial, inner = [b, y_band], [y_outer, z_outer], [y_inner, z_inner]
    columns, vectors, lanes = sch.split(n, [None, tile.vectors, tile.lanes])
    divided = threads.pays(cycles(sch, sums, last, tile, 1 if instruction in (None, FMLAL) else TERMS), machine)
    if divided and pads:
        band, columns = threads.columns_apart(sch, band, columns, machine)
    loops = [*band, columns, *spatial] if tile.weights_outer else [*band, *spatial, columns]
    sch.reorder(*loops, *inner, vectors, lanes)
    sch.compute_at(sums, loops[-1], preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    for block in pads:
        sch.compute_at(block, band[-1], preserve_unit_loops=True)
        *_, last_loop = sch.get_loops(block)
        width = lanes_of(extent(sch, last_loop) or 1, machine)
        if width > 1:
            sch.vectorize(sch.split(last_loop, [None, width])[1])
    # Not once the start of the sums is a block of its own.
    taken = threads.divide(sch, band if pads else loops, machine) if divided else 0
    _tell_inside(sch, sums, loops[taken:], spatial[-1])
    registers(sch, sums, instruction, tile)
    for loop in (*inner, vectors):
        sch.unroll(loop)
    if whole(sch, last, tile):
        sch.vectorize(lanes)


def _padded(sch: Any, sums: Any, kind: str) -> list[Any]:
    """Return the blocks that copy the input with zeros around it; a depthwise kernel has none (``borders.py``)."""
    pads = list(sch.get_producers(sums))
    if kind != "depthwise":
        return pads
    for block in pads:
        sch.compute_inline(block)
    return []


def _tell_inside(sch: Any, sums: Any, loops: list[Any], row: Any) -> None:
    """Note which tiles of a row lie inside the picture, where the sums tell it and the loop is among ``loops``."""
    annotations = sch.get(sums).annotations
    if borders.INSIDE not in annotations:
        return
    inside = [int(value) for value in annotations[borders.INSIDE]]
    sch.unannotate(sums, borders.INSIDE)
    if any(loop is row for loop in loops):
        sch.annotate(row, borders.INSIDE, inside)


def _matrix(sch: Any, sums: Any, kernel: Kernel, machine: Machine) -> None:
    """The same where one instruction multiplies two positions by two channels, from an input put in order for it."""
    tile, last = kernel.tile, inline_behind(sch, sums)
    divided = threads.pays(cycles(sch, sums, last, tile, EIGHT), machine)
    (ordered,) = sch.get_producers(sums)
    flatten(sch, last, len(sch.get_loops(last)) - 1)
    m, n = sch.get_loops(last)
    outer, rows = sch.split(m, [None, tile.width])
    columns, vectors, lanes = sch.split(n, [None, tile.vectors, tile.lanes])
    loops = [columns, outer] if tile.weights_outer else [outer, columns]
    sch.reorder(*loops, rows, vectors, lanes)
    sch.compute_at(sums, loops[-1], preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    if not tile.weights_outer:  # else it is ordered once, before all tiles
        sch.compute_at(ordered, outer, preserve_unit_loops=True)
    *_, last_loop = sch.get_loops(ordered)
    sch.vectorize(last_loop)
    sch.transform_layout(sums, ("write", 0), lambda m, n: (m // 2, n // 2, m % 2, n % 2))
    positions, channels, chunk, byte = sch.get_loops(sums)[-4:]
    pairs, two = sch.split(positions, [None, 2])
    channel_pairs, channel = sch.split(channels, [None, 2])
    sch.reorder(chunk, pairs, channel_pairs, two, channel, byte)
    if divided:
        if tile.weights_outer:
            threads.divide(sch, [sch.get_loops(ordered)[0]], machine)
        threads.divide(sch, [outer] if not tile.weights_outer else loops, machine)
    for loop in (pairs, channel_pairs):
        sch.unroll(loop)
    start = sch.decompose_reduction(sums, chunk)
    for loop in sch.get_loops(start)[-4:-2]:
        sch.unroll(loop)
    sch.vectorize(sch.fuse(*sch.get_loops(start)[-2:]))
    sch.tensorize(two, str(kernel.instruction))
    for loop in (rows, vectors):
        sch.unroll(loop)
    if whole(sch, last, tile):
        sch.vectorize(lanes)


def _activations(sch: Any, sums: Any, kernel: Kernel, machine: Machine) -> None:
    """The same for bytes of two activations; a tile of the second factor is put in order once and serves all rows."""
    tile, last = kernel.tile, inline_behind(sch, sums)
    (ordered,) = (block for block in sch.get_producers(sums) if sch.get(block).name_hint == "ordered")
    *lead, m, n = sch.get_loops(last)
    outer, rows = sch.split(m, [None, tile.width])
    columns, vectors, lanes = sch.split(n, [None, tile.vectors, tile.lanes])
    sch.reorder(*lead, columns, outer, rows, vectors, lanes)
    sch.compute_at(sums, outer, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    sch.compute_at(ordered, columns, preserve_unit_loops=True)
    sch.vectorize(sch.split(sch.get_loops(ordered)[-1], [None, tile.lanes])[1])
    if threads.pays(cycles(sch, sums, last, tile, TERMS), machine):
        threads.divide(sch, [*lead, columns], machine)
    registers(sch, sums, kernel.instruction, tile)
    for loop in (rows, vectors):
        sch.unroll(loop)
    if whole(sch, last, tile):
        sch.vectorize(lanes)


_OTHERS: dict[str, Callable[[Any, Any, Kernel, Machine], None]] = {
    "columns": by_columns,
    "matrix": _matrix,
    "activations": _activations,
    "winograd": by_patches,
    "tiles": by_tiles,
}


def _band(sch: Any, pads: list[Any], height: int, channels: int, tile: Blocking, machine: Machine) -> int:
    """Return how many rows of tiles one padded part of the input is for: it stays in cache, each thread has one."""
    tiles = -(-height // tile.height)
    if not pads:
        return tiles if tile.weights_outer else 1
    item_bytes = 4
    values = math.prod(int(v.dom.extent) for v in sch.get(pads[0]).iter_vars)
    row_bytes = values * item_bytes / height
    fitting = max(int(machine.l2_share_bytes / 4 / (row_bytes * tile.height)), 1)
    # Weights go by once for every band: better that each thread has channels of its own.
    if tile.weights_outer and threads.each_has_columns(-(-channels // tile.channels), machine):
        return min(fitting, tiles)
    return min(fitting, -(-tiles // machine.threads))


# --- everything else --------------------------------------------------------------------------------------------------


def _generic(sch: Any, machine: Machine) -> tuple[Any, str]:
    """Inline what can be, vectorize elementwise blocks and reductions over outer dimensions."""
    import tvm
    from tvm.s_tir import Schedule

    root = sch.get_sblock("root")
    for block in sch.get_child_blocks(root)[:-1]:
        if _reductions(sch, block) or _dear(sch, block):
            continue
        try:
            sch.compute_inline(block)
        except Exception:  # an output, or read by a reduction: it stays a loop of its own
            continue
    sch = Schedule(tvm.IRModule({"main": unique(joins.apart(sch.mod["main"]))}), debug_mask="none")
    kinds = []
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        if _reductions(sch, block):
            kinds.append(_reduction(sch, block, machine))
        else:
            _spatial(sch, block, machine)
            kinds.append("elementwise")
    named = [kind for kind in kinds if kind != "elementwise"]
    return sch.mod["main"], named[0] if named else "elementwise"


def _dear(sch: Any, block: Any) -> bool:
    """Say whether a block is better computed once and stored than again by each of its readers."""
    name = sch.get(block).name_hint
    return name.startswith(STORED) or (name == "power" and len(sch.get_consumers(block)) > 1)


def _reductions(sch: Any, block: Any) -> bool:
    return any(int(v.iter_type) == REDUCTION for v in sch.get(block).iter_vars)


def _spatial(sch: Any, block: Any, machine: Machine) -> None:
    """Vectorize the innermost loop, or all of them as one where it is short, and divide the others among threads."""
    loops = sch.get_loops(block)
    sizes = [extent(sch, loop) for loop in loops]
    if not loops or None in sizes:
        if loops:
            sch.parallel(loops[0])
        return
    total = math.prod(size or 1 for size in sizes)
    if _transposes(sch, block, loops, total, machine):
        return
    if lanes_of(sizes[-1] or 1, machine) < _FEWEST_LANES:
        if total < 4 * machine.lanes():
            return
        loops = [sch.fuse(*loops) if len(loops) > 1 else loops[0]]
        sizes = [total]
    *outer, last = loops
    lanes = lanes_of(sizes[-1] or 1, machine)
    if lanes > 1:
        strided = _strided(sch, block)
        last, inner = sch.split(last, [None, lanes])
        if not strided:
            sch.vectorize(inner)
    _divide(sch, block, [*outer, last], total // lanes, machine)


def _strided(sch: Any, block: Any) -> bool:
    """Say whether a block reads every n-th value: LLVM makes loads and shuffles of such a loop, but not of a vector."""
    import tvm_ffi
    from tvm.ir.prim import expr

    inside = sch.get(block)
    last = inside.iter_vars[-1].var
    found: list[Any] = []

    def note(product: Any) -> Any:
        found.extend(one for one in (product.a, product.b) if one.same_as(last))
        return product

    for region in inside.reads:
        if len(region.region) > 0:
            tvm_ffi.structural_map(region.region[-1].min, [(expr.Mul, note)], order="post")
    return bool(found)


def _transposes(sch: Any, block: Any, loops: list[Any], total: int, machine: Machine) -> bool:
    """Arrange a block that reads along another axis than it writes, in squares that stay in cache; say whether it is.

    Without squares each value read is in another line, and often in another page.
    """
    inside = sch.get(block)
    variables = [v.var for v in inside.iter_vars]
    if len(variables) != len(loops) or len(inside.reads) == 0 or len(variables) < 2:
        return False
    region = inside.reads[0].region
    along = [n for n, v in enumerate(variables) if len(region) > 0 and region[-1].min.same_as(v)]
    if not along or along[0] == len(variables) - 1:
        return False
    side = machine.lanes()
    place, size, last = along[0], extent(sch, loops[along[0]]) or 1, extent(sch, loops[-1]) or 1
    lanes = lanes_of(last, machine)
    others = [loop for n, loop in enumerate(loops[:-1]) if n != place]
    if last <= _FEWEST_LANES and _stores_bytes(inside):
        # LLVM puts the bytes of neighbours together by shuffles, where it makes the vectors itself.
        sch.reorder(*others, loops[place], loops[-1])
        sch.unroll(loops[-1])
        _divide(sch, block, others or [loops[place]], total, machine)
        return True
    if last < _FEWEST_LANES and (wide := lanes_of(size, machine)) >= _FEWEST_LANES:
        # Few channels: vectors along the axis that is read in order, stored value by value.
        rows, row = sch.split(loops[place], [None, wide])
        sch.reorder(*others, rows, loops[-1], row)
        sch.vectorize(row)
        _divide(sch, block, [*others, rows], total, machine)
        return True
    if lanes < _FEWEST_LANES or size < _FEWEST_LANES:
        return False
    rows, row = sch.split(loops[place], [None, lanes_of(size, machine) if size % side else side])
    columns, column = sch.split(loops[-1], [None, lanes])
    sch.reorder(*others, rows, columns, row, column)
    sch.vectorize(column)
    _divide(sch, block, [*others, rows, columns], total // lanes, machine)
    return True


def _stores_bytes(inside: Any) -> bool:
    return str(inside.writes[0].source.dtype) in ("uint8", "int8")


def _divide(sch: Any, block: Any, loops: list[Any], vectors: int, machine: Machine) -> None:
    """Divide the loops of a block, which computes so many ``vectors``, among threads where that pays."""
    if threads.pays(threads.moving_cycles(threads.operations(sch.get(block).body), vectors), machine):
        sch.parallel(sch.fuse(*loops) if len(loops) > 1 else loops[0])


def _reduction(sch: Any, block: Any, machine: Machine) -> str:
    """Vectorize over the last output dimension when it is long enough, or leave the sums as they are."""
    variables = sch.get(block).iter_vars
    loops = sch.get_loops(block)
    if len(variables) != len(loops) or any(extent(sch, loop) is None for loop in loops):
        raise RuleError("loops that are not the block's own")
    kinds = [int(v.iter_type) for v in variables]
    if set(kinds) - {SPATIAL, REDUCTION}:
        raise RuleError("an iteration that is neither spatial nor a reduction")
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == SPATIAL]
    terms = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == REDUCTION]
    if not spatial:
        return "reduction"
    total = math.prod(extent(sch, loop) or 1 for loop in loops)
    size = extent(sch, terms[-1]) or 1
    lanes = lanes_of(size, machine)
    if _runs_along(sch, block) and lanes >= _FEWEST_LANES and size >= 2 * lanes:
        return _across(sch, terms, lanes, total, machine)
    lanes = lanes_of(extent(sch, spatial[-1]) or 1, machine)
    outer = spatial
    if lanes >= _FEWEST_LANES:
        rest, inner = sch.split(spatial[-1], [None, lanes])
        outer = [*spatial[:-1], rest]
        sch.reorder(*outer, *terms, inner)
        _divide(sch, block, outer, total // lanes, machine)
        sch.vectorize(inner)
        start = sch.decompose_reduction(block, terms[0])
        sch.vectorize(sch.get_loops(start)[-1])
    else:
        sch.reorder(*outer, *terms)
        _divide(sch, block, outer, total, machine)
    return "vector reduction" if lanes >= _FEWEST_LANES else "reduction"


def _runs_along(sch: Any, block: Any) -> bool:
    """Say whether neighbouring terms of a reduction are neighbours in memory."""
    block = sch.get(block)
    own = block.writes[0].source
    reads = [region for region in block.reads if not region.source.same_as(own)]
    last = [v.var for v in block.iter_vars if int(v.iter_type) == REDUCTION][-1]
    return all(len(region.region) > 0 and region.region[-1].min.same_as(last) for region in reads)


def _across(sch: Any, terms: list[Any], lanes: int, total: int, machine: Machine) -> str:
    """Reduce ``lanes`` interleaved parts at once, then these."""
    _, inner = sch.split(terms[-1], [None, lanes])
    part = sch.rfactor(inner, 0)
    loops = sch.get_loops(part)
    outer, terms, lane = loops[: -1 - len(terms)], loops[-1 - len(terms) : -1], loops[-1]
    _divide(sch, part, outer, total // lanes, machine)
    sch.vectorize(lane)
    start = sch.decompose_reduction(part, terms[0])
    sch.vectorize(sch.get_loops(start)[-1])
    return "row reduction"
