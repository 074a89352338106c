"""Asks for what a kernel reads and writes next, so that it is in the first caches when its turn comes.

Sums are made of three streams. Weights are read in order, but the processor's own prefetching ends at every page and
takes up speed anew. Rows of the input are read side by side, as many as a tile has, which no prefetching of hardware
follows. What is added behind the sums, and the output, are touched once for each tile, all at the same time. Each
instruction here asks for one line of a cache, changes no value, and may name any address.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.steps import SPATIAL

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.compute import Kernel
    from edgepack.engines.tvm.codegen.machine import Machine

_LINE_BYTES = 64
# Terms of a sum from asking for weights to reading them: some 200 to 450 cycles, as long as a line takes from the third
# cache. 16, 32 and 64 were equally fast on a Xeon with AVX-512, 8 slower.
_TERMS_AHEAD = 32
_FIRST_CACHE, _SECOND_CACHE = 3, 2  # llvm.prefetch: locality
_READ, _WRITE, _DATA = 0, 1, 1
_KINDS = ("flat", "window", "winograd", "depthwise")
_SUMS = "sums"


def ahead(function: Any, kernel: Kernel, machine: Machine) -> Any:
    """Return an arranged function of sums that asks ahead for its weights, its input and what its tiles end with."""
    from tvm.s_tir import SBlock, SBlockRealize

    if kernel.kind not in _KINDS:
        return function
    realize = function.body
    root = realize.block
    cache_bytes = machine.l2_share_bytes
    far = sum(_bytes(buffer) for buffer in function.params) > cache_bytes // 2
    body = _walk(root.body, _Asker(kernel, cache_bytes, far))
    made = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, body, root.init, root.alloc_buffers,
        root.match_buffers, root.annotations,
    )  # fmt: skip
    return function.with_body(SBlockRealize(realize.iter_values, realize.predicate, made))


@dataclass(frozen=True)
class _Asker:
    """The kernel, what a thread has of the second cache, and whether tensors come from beyond it."""

    kernel: Kernel
    cache_bytes: int
    far: bool


def _walk(statement: Any, asker: _Asker, around: tuple[Any, ...] = ()) -> Any:
    """Return the statement with what is asked for in the loops of its tiles."""
    from tvm import tirx

    if isinstance(statement, tirx.For):
        body = _walk(statement.body, asker, (*around, statement))
        return statement if body.same_as(statement.body) else _with_body(statement, body)
    if not isinstance(statement, tirx.SeqStmt):
        return statement
    parts = list(statement.seq)
    sums = [n for n, part in enumerate(parts) if _block_of(part, f"{_SUMS}_update") is not None]
    if not sums:
        return tirx.SeqStmt([_walk(part, asker, around) for part in parts])
    if asker.kernel.kind != "depthwise":  # whose weights are few, and whose rows hardware follows
        parts[sums[0]] = _in_terms(parts[sums[0]], asker, around)
    ends = asker.far and asker.kernel.kind != "winograd"  # whose tiles end in a buffer of the function's own
    return tirx.SeqStmt([*(_ends(parts[-1], asker.kernel) if ends else []), *parts])


def _with_body(loop: Any, body: Any) -> Any:
    from tvm import tirx

    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, loop.annotations)


def _block_of(statement: Any, name: str) -> Any:
    """Return the block inside nested loops where its name begins so, or None."""
    from tvm import tirx
    from tvm.s_tir import SBlockRealize

    while isinstance(statement, tirx.For):
        statement = statement.body
    return statement if isinstance(statement, SBlockRealize) and statement.block.name_hint.startswith(name) else None


def _in_terms(statement: Any, asker: _Asker, around: tuple[Any, ...], terms: tuple[Any, ...] = ()) -> Any:
    """Return the loops over terms with what is asked for in each step of the innermost one."""
    from tvm import tirx

    if not isinstance(statement, tirx.For) or statement.kind != tirx.ForKind.SERIAL:
        return statement
    terms, tile = (*terms, statement), statement.body
    if isinstance(tile, tirx.For) and tile.kind == tirx.ForKind.SERIAL:
        return _with_body(statement, _in_terms(tile, asker, around, terms))
    return _with_body(statement, _sequence([*_in_step(tile, asker, around, terms), tile]))


def _in_step(tile: Any, asker: _Asker, around: tuple[Any, ...], terms: tuple[Any, ...]) -> list[Any]:
    """Return what one step over the terms of a tile's sums asks for: weights, and rows of the input."""
    kernel, realize = asker.kernel, _block_of(tile, _SUMS)
    if realize is None:
        return []
    block = realize.block
    own = block.writes[0].source
    reads = [region for region in block.reads if not region.source.same_as(own)]
    values = _at([loop.loop_var for loop in _loops(tile)], realize.iter_values)
    by_patches = kernel.kind == "winograd"
    passes = _Passes(*(_counted(around[-2:]) if by_patches else _place(block, values, kernel)), *_counted(terms))
    if len(reads) != len(("input", "weights")) or passes.places == 1:
        return []  # weights that are read once come at memory's own speed, and more requests slow that down
    variables = [v.var for v in block.iter_vars]
    (x, x_index), (weights, index) = ((r.source, _start(r, variables, values)) for r in reads)
    if by_patches:  # of the next product
        return _next_weights(weights, [index[0], index[1] + 1, 0, 0], _sizes(weights)[2:], passes)
    size = _sizes(weights)[1:]
    if kernel.tile.weights_outer and 2 * math.prod(size) * _item_bytes(weights) <= asker.cache_bytes:
        return _next_weights(weights, [index[0] + 1, *[0] * len(size)], size, passes)
    each = math.prod(size) // passes.steps
    made = _lines(weights, index, _TERMS_AHEAD * each, each, _FIRST_CACHE)
    if kernel.kind == "flat" and not kernel.tile.weights_outer:
        # The rows of the next tile, which follow, a share with each step of each tile of weights.
        length = kernel.tile.width * int(x.shape[-1])
        share = -(-length // int(weights.shape[0]))
        each = -(-share // passes.steps)
        made += _lines(x, [*x_index[:-1], 0], length + index[0] * share + passes.step * each, each, _SECOND_CACHE)
    return made


@dataclass(frozen=True)
class _Passes:
    """The number of a tile among the ``places`` that read the same weights, and of a step among its ``steps``."""

    place: Any
    places: int
    step: Any
    steps: int


def _next_weights(weights: Any, start: list[Any], size: list[int], passes: _Passes) -> list[Any]:
    """Return requests for the weights that follow these, a share with each step of each tile that reads these."""
    each = -(-math.prod(size) // (passes.steps * passes.places))
    offset = (passes.place * passes.steps + passes.step) * each
    return _lines(weights, start, offset, each, _SECOND_CACHE)


def _ends(last: Any, kernel: Kernel) -> list[Any]:
    """Return what the end of a tile asks for: the tile's part of what is added to the sums, and of the output."""
    from tvm import tirx

    realize = _block_of(last, "")
    if realize is None:
        return []
    block, loops = realize.block, _loops(last)
    output = block.writes[0]
    alike = [r for r in block.reads if _sizes(r.source) == _sizes(output.source) and r.source.scope() == "global"]
    rows = loops[: 1 if kernel.kind == "flat" else 2]
    fresh = [tirx.Var(f"{loop.loop_var.name}_ahead", "int32") for loop in rows]
    values = _at([loop.loop_var for loop in loops], realize.iter_values, fresh)
    variables = [v.var for v in block.iter_vars]
    made: list[Any] = []
    for region, write in [*((r, _READ) for r in alike), (output, _WRITE)]:
        index = _start(region, variables, values)
        made += _lines(region.source, index, 0, kernel.tile.channels, _FIRST_CACHE, write)
    body = _sequence(made)
    for variable, loop in zip(reversed(fresh), reversed(rows), strict=True):
        body = tirx.For(variable, 0, int(loop.extent), tirx.ForKind.UNROLLED, body)
    return [body]


def _sequence(statements: list[Any]) -> Any:
    """Return statements one after the other; TVM has no sequence of one."""
    from tvm import tirx

    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)


def _place(block: Any, values: list[Any], kernel: Kernel) -> tuple[Any, int]:
    """Return the number of a tile among those of all positions, and how many there are."""
    from tvm import tirx

    axes = [
        (value, int(v.dom.extent)) for v, value in zip(block.iter_vars, values, strict=True)
        if int(v.iter_type) == SPATIAL
    ][:-1]  # fmt: skip
    sizes = [kernel.tile.width] if kernel.kind == "flat" else [1, kernel.tile.height, kernel.tile.width]
    place: Any = 0
    places = 1
    for (value, extent), size in zip(axes, sizes, strict=True):
        count = -(-extent // size)
        place, places = place * count + tirx.floordiv(value, size), places * count
    return place, places


def _loops(statement: Any) -> list[Any]:
    """Return the nested loops around a block."""
    from tvm import tirx

    found = []
    while isinstance(statement, tirx.For):
        found.append(statement)
        statement = statement.body
    return found


def _counted(loops: tuple[Any, ...]) -> tuple[Any, int]:
    """Return the number of an iteration of nested loops, the innermost counting fastest, and how many there are."""
    number: Any = 0
    count = 1
    for loop in loops:
        number, count = number * int(loop.extent) + loop.loop_var, count * int(loop.extent)
    return number, count


def _at(variables: list[Any], expressions: Any, values: list[Any] | None = None) -> list[Any]:
    """Return expressions with these values for the first of their variables, and 0 for the others."""
    from tvm.tirx import IndexMap

    known = values or []
    return list(
        IndexMap(variables, list(expressions), None).map_indices([*known, *[0] * (len(variables) - len(known))])
    )


def _start(region: Any, variables: list[Any], values: list[Any]) -> list[Any]:
    """Return the index of the first element of a block's region for these values of its variables."""
    return _at(variables, [part.min for part in region.region], values)


def _lines(buffer: Any, index: list[Any], offset: Any, count: int, cache: int, write: int = _READ) -> list[Any]:
    """Return requests for the lines of ``count`` elements, ``offset`` elements behind an index."""
    from tvm import tirx

    item_bytes = _item_bytes(buffer)
    *outer, last = index
    made = []
    for line in range(-(-count * item_bytes // _LINE_BYTES)):
        place = tirx.BufferLoad(buffer, [*outer, last + offset + line * _LINE_BYTES // item_bytes])
        made.append(
            tirx.Evaluate(tirx.call_intrin("void", "tirx.prefetch", tirx.address_of(place), write, cache, _DATA))
        )
    return made


def _sizes(buffer: Any) -> list[int]:
    return [int(size) for size in buffer.shape]


def _item_bytes(buffer: Any) -> int:
    return np.dtype(str(buffer.dtype)).itemsize


def _bytes(buffer: Any) -> int:
    return math.prod(_sizes(buffer)) * _item_bytes(buffer)
