"""How the loops of a kernel by AMX (``amx.py``) are arranged, and the tile instructions in place of its sums."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen import amx, threads
from edgepack.engines.tvm.codegen.amx import JOINED, LANES, TILES, Tiles, tiles_of
from edgepack.engines.tvm.codegen.steps import RuleError, flatten, inline_behind
from edgepack.engines.tvm.codegen.window import TERMS

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.compute import Kernel
    from edgepack.engines.tvm.codegen.machine import Machine

_FLAT_LOOPS = 4  # groups of positions and of channels, positions and channels of a group
_TERM_LOOPS = 3
_SUM_BYTES = 4


def by_tiles(sch: Any, sums: Any, kernel: Kernel, machine: Machine) -> None:
    """Arrange the function of a kernel by AMX: a group of tiles at a time, stored once, then what is fused behind."""
    tiles = tiles_of(sch.get(sums).annotations[TILES])
    sch.unannotate(sums, TILES)
    last = inline_behind(sch, sums, keep=JOINED)
    if len(sch.get_loops(sums)) == _FLAT_LOOPS + _TERM_LOOPS:
        flatten(sch, last, len(sch.get_loops(last)) - 1)
        sch.compute_inline(sch.get_sblock(JOINED))
        m, n = sch.get_loops(last)
        outer, rows = sch.split(m, [None, tiles.positions])
        spatial, inner = [outer], [rows]
    else:
        b, y, z, n = sch.get_loops(last)
        y_outer, y_inner = sch.split(y, [None, tiles.high])
        z_outer, z_inner = sch.split(z, [None, tiles.positions])
        spatial, inner = [b, y_outer, z_outer], [y_inner, z_inner]
    columns, vectors, lanes = sch.split(n, [None, tiles.vectors, LANES])
    loops = [columns, *spatial] if kernel.tile.weights_outer else [*spatial, columns]
    sch.reorder(*loops, *inner, vectors, lanes)
    sch.compute_at(sums, loops[-1], preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    if int(sch.get(last).iter_vars[-1].dom.extent) % LANES == 0:
        sch.vectorize(lanes)
    sch.unroll(vectors)
    _replace(sch, sums, tiles)
    groups = math.prod(int(sch.get(loop).extent) for loop in loops)
    finished = threads.finishing_cycles(groups * tiles.high * tiles.positions * tiles.channels, LANES)
    if threads.pays(groups * amx.group_cycles(tiles) + finished, machine):
        threads.divide(sch, loops, machine)


def _replace(sch: Any, sums: Any, tiles: Tiles) -> None:
    """Put the instructions for one group of tiles in place of the loops of its sums."""
    from tvm import ir, tirx
    from tvm.s_tir import SBlock, SBlockRealize

    block = sch.get(sums)
    groups = len(block.iter_vars) - _TERM_LOOPS - (2 if len(block.iter_vars) == _FLAT_LOOPS + _TERM_LOOPS else 3)
    top = sch.get_loops(sums)[-len(block.iter_vars)]
    realize, inside = sch.get(top), []
    while isinstance(realize, tirx.For):
        inside.append(realize)
        realize = realize.body
    if any(not isinstance(loop.extent, tirx.IntImm) or loop.extent.value != 1 for loop in inside[:groups]):
        raise RuleError("the sums of more or less than a group of tiles")
    values = _with(inside, realize.iter_values, [0] * len(inside))[:groups]
    own = [tirx.IterVar(v.dom, tirx.Var(v.var.name, v.var.ty), v.iter_type) for v in block.iter_vars[:groups]]
    body = _instructions(block, [v.var for v in own], tiles)
    written = block.writes[0].source
    region = [ir.Range.from_min_extent(v.var, 1) for v in own]
    region += [ir.Range(0, size) for size in written.ty.shape[groups:]]
    reads = [_all(region.source) for region in block.reads if not region.source.same_as(written)]
    made = SBlock(own, reads, [tirx.BufferRegion(written, region)], "tiles", body)
    sch.state.replace(sch.get_sref(top), SBlockRealize(values, True, made))


def _all(buffer: Any) -> Any:
    from tvm import ir, tirx

    return tirx.BufferRegion(buffer, [ir.Range(0, size) for size in buffer.ty.shape])


def _with(loops: list[Any], expressions: Any, values: list[Any]) -> list[Any]:
    """Return expressions with values in place of the loops' variables."""
    from tvm.tirx import IndexMap

    return list(IndexMap([loop.loop_var for loop in loops], list(expressions), None).map_indices(values))


def _instructions(block: Any, groups: list[Any], tiles: Tiles) -> Any:
    """Return the statements that compute one group of tiles: zeros, the chunks of terms, stores.

    Registers hold the sums of each tile of activations by each of weights, then the activations, then the weights.
    """
    from tvm import tirx

    store = block.body
    product = store.value.b  # sums[...] + int32(x[...]) * int32(w[...])
    chunk = tirx.Var("chunk", "int64")
    places = [_place(tile, tiles, store) for tile in range(tiles.activations)]
    sums = tiles.activations * tiles.vectors
    step = []
    for a, place in enumerate(places):
        address = _address(block, product.a.value, [*groups, *place, 0, chunk])
        step.append(_call("tileloadd64", sums + a, address, tiles.step_bytes))
    for v in range(tiles.vectors):
        address = _address(block, product.b.value, [*groups, *places[0], v * LANES, chunk])
        step.append(_call("tileloadd64", sums + tiles.activations + v, address, tiles.channels * TERMS))
        step += [
            _call("tdpbusd", a * tiles.vectors + v, sums + a, sums + tiles.activations + v)
            for a in range(tiles.activations)
        ]
    ends = [
        _call("tilestored64", a * tiles.vectors + v, _element(store.buffer, [*groups, *place, v * LANES]),
              tiles.channels * _SUM_BYTES)
        for a, place in enumerate(places)
        for v in range(tiles.vectors)
    ]  # fmt: skip
    # Nobody may read the last sum, and TVM would then make the buffer narrower than the tiles are that are stored.
    last = [int(size) - 1 for size in store.buffer.ty.shape[len(groups) :]]
    whole = tirx.Evaluate(tirx.BufferLoad(store.buffer, [*groups, *last]))
    loop = tirx.For(chunk, 0, tiles.lines * tiles.chunks, tirx.ForKind.SERIAL, tirx.SeqStmt(step))
    return tirx.SeqStmt([*(_call("tilezero", number) for number in range(sums)), loop, *ends, whole])


def _place(tile: int, tiles: Tiles, store: Any) -> list[int]:
    """Return where a tile of activations begins in its group: a position, or a row and a position there."""
    column = tile % tiles.wide * tiles.rows
    return [column] if len(store.indices) == _FLAT_LOOPS else [tile // tiles.wide, column]


def _address(block: Any, load: Any, values: list[Any]) -> Any:
    """Return the address of what the block loads for these values of its variables, the others 0."""
    from tvm.tirx import IndexMap

    variables = [v.var for v in block.iter_vars]
    values = [*values, *[0] * (len(variables) - len(values))]
    return _element(load.source, list(IndexMap(variables, list(load.indices), None).map_indices(values)))


def _element(buffer: Any, index: list[Any]) -> Any:
    from tvm import tirx

    return tirx.address_of(tirx.BufferLoad(buffer, index))


def _call(name: str, *arguments: Any) -> Any:
    """Return an AMX instruction as a statement: numbers of registers, then an address and the bytes from row to row."""
    from tvm import tirx

    said = [
        tirx.const(value, "int64" if n == len(arguments) - 1 and "64" in name else "int8")
        if isinstance(value, int) else value
        for n, value in enumerate(arguments)
    ]  # fmt: skip
    return tirx.Evaluate(_intrinsic(name, *said))


def _intrinsic(name: str, *arguments: Any) -> Any:
    from tvm import tirx

    return tirx.call_llvm_intrin("int32", f"llvm.x86.{name}", *arguments)


def configured(function: Any, tiles: Tiles) -> Any:
    """Return the function with the tile registers' shapes set before its loops, by each thread that runs them."""
    from tvm import tirx
    from tvm.s_tir import SBlock, SBlockRealize

    realize = function.body
    root = realize.block
    statements = list(root.body) if isinstance(root.body, tirx.SeqStmt) else [root.body]
    *before, loops = statements
    body = tirx.SeqStmt([_configuration(tiles), loops, tirx.Evaluate(_intrinsic("tilerelease"))])
    if loops.kind == tirx.ForKind.PARALLEL and int(loops.extent) > 1:
        body = tirx.AttrStmt(0, "pragma_parallel_launch_point", 1, body)
    made = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, tirx.SeqStmt([*before, body]) if before else body,
        root.init, root.alloc_buffers, root.match_buffers, root.annotations,
    )  # fmt: skip
    return function.with_body(SBlockRealize(realize.iter_values, realize.predicate, made))


def _configuration(tiles: Tiles) -> Any:
    """Return LDTILECFG with its 64 bytes: palette 1, then the bytes of a row and the rows of each register."""
    from tvm import ir, tirx
    from tvm.s_tir import SBlock, SBlockRealize

    sums = tiles.activations * tiles.vectors
    shapes = [(LANES * 4, tiles.rows)] * sums + [(tiles.chunk_bytes, tiles.rows)] * tiles.activations
    shapes += [(LANES * TERMS, tiles.chunk_bytes // TERMS)] * tiles.vectors
    table = np.zeros(64, np.uint8)
    table[0] = 1
    for register, (row_bytes, rows) in enumerate(shapes):
        table[16 + 2 * register], table[48 + register] = row_bytes, rows
    table_of = tirx.decl_buffer((8,), "int64", "tiles", scope="local")
    stores = [
        tirx.BufferStore(table_of, tirx.const(int(word), "int64"), [n]) for n, word in enumerate(table.view(np.int64))
    ]
    load = tirx.Evaluate(_intrinsic("ldtilecfg", tirx.address_of(tirx.BufferLoad(table_of, [0]))))
    whole = tirx.BufferRegion(table_of, [ir.Range(0, 8)])
    block = SBlock([], [], [whole], "configuration", tirx.SeqStmt([*stores, load]), alloc_buffers=[table_of])
    return SBlockRealize([], True, block)
