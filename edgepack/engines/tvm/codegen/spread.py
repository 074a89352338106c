"""Lets a small tensor be finished before it is spread over a large one: the gate of squeeze-and-excitation.

TVM computes elementwise operators that follow a kernel in its function, and of those that spread a tensor over another
one. A convolution that makes one value for each channel would be summed again for each position of the picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen.relax_util import OPAQUE, OUT_ELEMENTWISE_FUSABLE, constant, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _spread(builder: Any, call: Any) -> Any:
    """Return the operator on its small argument, finished by then; None where no kernel made one."""
    from tvm import relax

    whole = shape_of(call)
    if whole is None:
        return None
    made = [_finished(builder, argument) if _is_spread(argument, whole) else argument for argument in call.args]
    if all(one is other for one, other in zip(made, call.args, strict=True)):
        return None
    return call.op.get_attr("FLegalize")(builder, relax.Call(call.op, made, call.attrs, call.ty_args))


def _is_spread(argument: Any, whole: tuple[int, ...]) -> bool:
    shape = shape_of(argument)
    return constant(argument) is None and shape is not None and math.prod(shape) < math.prod(whole)


def _finished(builder: Any, variable: Any) -> Any:
    """Return the variable copied by a function that nothing is fused with, or itself where no kernel is behind it."""
    from tvm import topi

    if not _by_kernel(builder, variable):
        return variable
    copy = builder.call_te(
        topi.identity, variable, primfunc_name_hint="finished", primfunc_attrs={"op_pattern": OPAQUE}
    )
    return builder.emit(copy)


def _by_kernel(builder: Any, variable: Any) -> bool:
    """Say whether a variable of one size is made, by operators that keep its size, from what a kernel makes."""
    from tvm import relax

    size, waiting, seen = shape_of(variable), [variable], set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, relax.Var) or one in seen or shape_of(one) != size:
            continue
        seen.add(one)
        value = builder.lookup_binding(one)
        if getattr(getattr(value, "op", None), "name", "") != "relax.call_tir":
            continue
        function = builder.get()[value.args[0]]
        if int((function.attrs or {}).get("op_pattern", -1)) == OUT_ELEMENTWISE_FUSABLE:
            return True
        waiting += list(value.args[1].fields)
    return False


RULES: Mapping[str, Callable[[Any, Any], Any]] = {
    f"relax.{name}": _spread for name in ("add", "subtract", "multiply", "divide")
}
