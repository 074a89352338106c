"""What the passes here ask of relax expressions, and how they rewrite them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.specs.types import Array

# tvm::relax::OpPatternKind: elementwise operators that follow may be computed before the result is stored; or none.
INJECTIVE = 2
OUT_ELEMENTWISE_FUSABLE = 4
OPAQUE = 8


def constant(expression: Any) -> Array | None:
    """Return the values of a constant as a numpy array, or None."""
    from tvm import relax

    # The class has no name in Python.
    return np.asarray(expression.value.numpy()) if isinstance(expression, type(relax.const(0))) else None


def stored(values: Array) -> Any:
    """Return a constant of the type that ``values`` have; without it TVM makes 64 bits 32."""
    from tvm import relax

    return relax.const(np.ascontiguousarray(values) if values.ndim else values, str(values.dtype))


def shape_of(expression: Any) -> tuple[int, ...] | None:
    """Return the shape of an expression, or None when a part of it is not known."""
    shape = getattr(getattr(expression, "ty", None), "shape", None)
    if shape is None or not hasattr(shape, "values"):
        return None
    values = list(shape.values)
    return tuple(int(v) for v in values) if all(hasattr(v, "value") for v in values) else None


def rewritten(expression: Any, variable: Callable[[Any], Any]) -> Any:
    """Return the right side of a binding with ``variable`` applied to every variable that it reads."""
    from tvm import relax

    def again(part: Any) -> Any:
        return rewritten(part, variable)

    if isinstance(expression, relax.Var):
        return variable(expression)
    if isinstance(expression, relax.Tuple):
        return relax.Tuple([again(field) for field in expression.fields])
    if isinstance(expression, relax.TupleGetItem):
        return relax.TupleGetItem(again(expression.tuple_value), expression.index)
    if isinstance(expression, relax.Call):
        return relax.Call(expression.op, [again(a) for a in expression.args], expression.attrs, expression.ty_args)
    return expression


def is_straight(function: Any) -> bool:
    """Say whether a function is one block of dataflow, without branches or functions inside."""
    from tvm import relax

    blocks = list(function.body.blocks)
    return (
        len(blocks) == 1
        and isinstance(blocks[0], relax.DataflowBlock)
        and all(isinstance(binding, relax.VarBinding) for binding in blocks[0].bindings)
    )


def rebuilt(function: Any, emit: Callable[[Any, Any], Callable[[Any], Any]]) -> Any:
    """Return a straight function made anew.

    ``emit`` is called with the builder and the list of bindings, emits them in its own form, and returns what gives
    the new form of an old variable.
    """
    from tvm import relax

    builder = relax.BlockBuilder()
    with builder.function("main", list(function.params), dict(function.attrs) if function.attrs else None):
        with builder.dataflow():
            form = emit(builder, list(function.body.blocks[0].bindings))
            output = builder.emit_output(rewritten(function.body.body, form))
        builder.emit_func_output(output)
    return builder.get()["main"]


def with_main(module: Any, function: Any) -> Any:
    """Return the module with another ``main``."""
    module.update_func(module.get_global_var("main"), function)
    return module
