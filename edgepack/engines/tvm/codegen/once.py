"""Names a value inside an expression, so that it is computed once however often it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Scalar: TypeAlias = Any  # a tirx expression of one value
CHOICE = "prim.if_then_else"  # which computes only the side that is chosen


def once(value: Scalar, body: Callable[[Scalar], Scalar], dtype: str) -> Scalar:
    """Return ``body`` of a value of type ``dtype``.

    An expression is a tree to TVM: without a name a value would be copied for each use, and with all that it is made
    of. A chain of functions in one loop multiplies that: Mish, an exp, a log and a tanh, came to 100,000 copies.
    """
    from tvm import tirx

    name = tirx.Var("once", dtype)
    return tirx.Let(name, value, body(name))


def unique(function: Any) -> Any:
    """Return a function that defines no name twice, as the copies of an expression that was inlined do."""
    import tvm
    from tvm.tirx.transform import ConvertSSA

    return ConvertSSA()(tvm.IRModule({"main": function}))["main"]


def stored(function: Any) -> Any:
    """Return a function, ready for LLVM, that keeps named values in local buffers, of which LLVM makes registers.

    TVM's code generator puts in for a name all that is behind it, to know its bounds: a tree again. Names inside a
    choice by ``if_then_else`` stay: what they read may lie outside a buffer when the choice is another.
    """
    import tvm_ffi
    from tvm import tirx

    return function.with_body(tvm_ffi.structural_map(function.body, [(tirx.BufferStore, _stored)], order="post"))


def _stored(store: Any) -> Any:
    import tvm_ffi
    from tvm import tirx

    guarded = _guarded(store.value)
    values: dict[Any, Any] = {}

    def note(let: Any) -> Any:
        if let.var in guarded:
            return let
        values[let.var] = let.value
        return let.body

    value = tvm_ffi.structural_map(store.value, [(tirx.Let, note)], order="post")
    if not values:
        return store
    buffers = {name: tirx.decl_buffer((1,), str(name.ty.dtype), name="once", scope="local") for name in values}

    def loaded(name: Any) -> Any:
        return tirx.BufferLoad(buffers[name], [0]) if name in buffers else name

    def put(expression: Any) -> Any:
        return tvm_ffi.structural_map(expression, [(tirx.Var, loaded)], order="post")

    statements = []
    for name in _in_order(values):
        statements += [tirx.AllocBuffer(buffers[name], {}), tirx.BufferStore(buffers[name], put(values[name]), [0])]
    last = tirx.BufferStore(store.buffer, put(value), list(store.indices))
    return tirx.SeqStmt([*statements, last])


def _guarded(expression: Any) -> set[Any]:
    """Return the names that are defined inside a choice."""
    import tvm_ffi
    from tvm import ir, tirx

    found: set[Any] = set()

    def define(let: Any) -> Any:
        found.add(let.var)
        return let

    def choose(call: Any) -> Any:
        if getattr(call.op, "name", "") == CHOICE:
            for argument in call.args:
                tvm_ffi.structural_map(argument, [(tirx.Let, define)], order="post")
        return call

    tvm_ffi.structural_map(expression, [(ir.Call, choose)], order="post")
    return found


def _in_order(values: Mapping[Any, Any]) -> list[Any]:
    """Return the names, each behind those that its value uses."""
    import tvm_ffi
    from tvm import tirx

    order: dict[Any, None] = {}

    def visit(name: Any) -> Any:
        if name in values and name not in order:
            tvm_ffi.structural_map(values[name], [(tirx.Var, visit)], order="post")
            order[name] = None
        return name

    for name in values:
        visit(name)
    return list(order)
