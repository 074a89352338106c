"""Makes a loop of its own for each part of what is joined: which part a value comes from is not asked for each value.

A concatenation, with what follows it, is one expression in TVM that asks of every index where it lies. Vectors do not
ask, so such a block is computed value by value, and where one axis becomes another, in the worst order.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen.once import CHOICE

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_PARTS = 8
_FEW = 4  # values along an axis that are computed side by side
_SPATIAL = 0


def apart(function: Any) -> Any:
    """Return a function, not scheduled yet, with a block for each part of what its blocks join along one axis."""
    from tvm import tirx
    from tvm.s_tir import SBlock, SBlockRealize

    realize = function.body
    root = realize.block
    nests = list(root.body.seq) if isinstance(root.body, tirx.SeqStmt) else [root.body]
    made = [part for nest in nests for part in _parts(nest)]
    if len(made) == len(nests):
        return function
    block = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, tirx.SeqStmt(made), root.init, root.alloc_buffers,
        root.match_buffers, root.annotations,
    )  # fmt: skip
    return function.with_body(SBlockRealize(realize.iter_values, realize.predicate, block))


def _parts(nest: Any) -> list[Any]:
    """Return the nests of loops in place of one, or that one."""
    from tvm import tirx
    from tvm.s_tir import SBlockRealize

    loops, inside = [], nest
    while isinstance(inside, tirx.For):
        loops.append(inside)
        inside = inside.body
    if not isinstance(inside, SBlockRealize) or inside.block.init is not None:
        return [nest]
    variables = list(inside.block.iter_vars)
    own = len(variables) == len(loops) and all(
        int(variable.iter_type) == _SPATIAL and value.same_as(loop.loop_var)
        for variable, value, loop in zip(variables, inside.iter_values, loops, strict=True)
    )
    for axis, variable in enumerate(variables if own and _worth(inside.block) else []):
        borders = _borders(inside.block.body, variable.var, int(variable.dom.extent))
        if 0 < len(borders) < _MOST_PARTS and int(variable.dom.extent) > _FEW:
            ends = [0, *borders, int(variable.dom.extent)]
            made = [_part(loops, inside, axis, *pair) for pair in itertools.pairwise(ends)]
            return [inner for part in made for inner in _parts(part)]
    return [nest]


def _worth(block: Any) -> bool:
    """Say whether a block computes something, or writes along another axis than it reads: bare copies are quick."""
    import tvm_ffi
    from tvm import ir

    calls: list[Any] = []

    def note(call: Any) -> Any:
        calls.extend([call] if getattr(call.op, "name", "") != CHOICE else [])
        return call

    tvm_ffi.structural_map(block.body, [(ir.Call, note)], order="post")
    last = block.iter_vars[-1].var
    regions = [read.region for read in block.reads if len(read.region) > 0]
    return bool(calls) or not all(_names(region[-1].min, last) for region in regions)


def _names(expression: Any, variable: Any) -> bool:
    """Say whether a variable is part of an expression."""
    import tvm_ffi
    from tvm import tirx

    found: list[Any] = []

    def note(one: Any) -> Any:
        found.extend([one] if one.same_as(variable) else [])
        return one

    tvm_ffi.structural_map(expression, [(tirx.Var, note)], order="post")
    return bool(found)


def _borders(body: Any, variable: Any, extent: int) -> list[int]:
    """Return where the answers to questions about a variable change, in order."""
    import tvm_ffi
    from tvm import tirx

    found: set[int] = set()

    def note(asked: Any) -> Any:
        if asked.b.same_as(variable) and hasattr(asked.a, "value"):
            found.add(int(asked.a) + (1 if isinstance(asked, tirx.LT) else 0))
        if asked.a.same_as(variable) and hasattr(asked.b, "value"):
            found.add(int(asked.b) + (1 if isinstance(asked, tirx.LE) else 0))
        return asked

    tvm_ffi.structural_map(body, [(tirx.LE, note), (tirx.LT, note)], order="post")
    return sorted(border for border in found if 0 < border < extent)


def _part(loops: Sequence[Any], inside: Any, axis: int, start: int, stop: int) -> Any:
    """Return the nest for ``start`` to ``stop`` of one axis, with variables of its own."""
    from tvm import ir, tirx
    from tvm.s_tir import SBlock, SBlockRealize
    from tvm.s_tir.analysis import get_sblock_access_region

    block = inside.block
    sizes = [int(variable.dom.extent) for variable in block.iter_vars]
    sizes[axis] = stop - start
    counters = [_like(loop.loop_var) for loop in loops]
    own, moved = [], {}
    for number, (variable, size) in enumerate(zip(block.iter_vars, sizes, strict=True)):
        again = _like(variable.var)
        own.append(tirx.IterVar(ir.Range(_whole(0, again), _whole(size, again)), again, variable.iter_type))
        moved[variable.var] = again + _whole(start, again) if number == axis and start else again
    body = _answered(_replaced(block.body, moved), own[axis])
    bare = SBlock(own, [], [], f"{block.name_hint}_{start}", body)
    buffers = {region.source: region.source for region in (*block.reads, *block.writes)}
    reads, writes, *_ = get_sblock_access_region(bare, buffers)
    made = SBlock(own, reads, writes, bare.name_hint, body, annotations=block.annotations)
    nest: Any = SBlockRealize(counters, inside.predicate, made)
    for loop, counter, size in reversed(list(zip(loops, counters, sizes, strict=True))):
        nest = tirx.For(counter, _whole(0, counter), _whole(size, counter), loop.kind, nest)
    return nest


def _answered(body: Any, variable: Any) -> Any:
    """Return a body with the choices made that hold for the whole range of an axis."""
    import tvm_ffi
    from tvm import ir, sym, tirx

    analyzer = sym.Analyzer()
    analyzer.bind(variable.var, variable.dom)

    def choose(call: Any) -> Any:
        if getattr(call.op, "name", "") != CHOICE:
            return call
        asked, yes, no = call.args
        if analyzer.can_prove(asked):
            return yes
        return no if analyzer.can_prove(tirx.Not(asked)) else tirx.if_then_else(analyzer.simplify(asked), yes, no)

    def placed(load: Any) -> Any:
        return tirx.BufferLoad(load.source, [analyzer.simplify(index) for index in load.indices])

    return tvm_ffi.structural_map(body, [(ir.Call, choose), (ir.TensorLoad, placed)], order="post")


def _replaced(statement: Any, values: dict[Any, Any]) -> Any:
    import tvm_ffi
    from tvm import tirx

    return tvm_ffi.structural_map(statement, [(tirx.Var, lambda found: values.get(found, found))], order="post")


def _like(variable: Any) -> Any:
    from tvm import tirx

    return tirx.Var(variable.name, str(variable.ty.dtype))


def _whole(value: int, like: Any) -> Any:
    from tvm import tirx

    return tirx.const(value, str(like.ty.dtype))
