"""Undoes what the ONNX frontend lowers too early: bounds of Clip, which it writes as functions of their own loops.

A function is recognised by building it again and comparing, never by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen.relax_util import is_straight, rebuilt, rewritten, with_main

if TYPE_CHECKING:
    from collections.abc import Callable


def raise_calls(module: Any) -> Any:
    """Return the module with calls of such functions in ``main`` written as operators again."""
    from tvm import relax, topi

    if not is_straight(module["main"]):
        return module
    operators = ((topi.maximum, relax.op.maximum), (topi.minimum, relax.op.minimum))
    known: dict[str, Callable[..., Any] | None] = {}

    def operator_of(call: Any) -> Callable[..., Any] | None:
        if not isinstance(call, relax.Call) or getattr(call.op, "name", "") != "relax.call_tir":
            return None
        variable = call.args[0]
        if variable.name_hint not in known:
            function = module[variable]
            made = (make for build, make in operators if is_function(function, build))
            known[variable.name_hint] = next(made, None)
        return known[variable.name_hint]

    def emit(builder: Any, bindings: Any) -> Callable[[Any], Any]:
        made: dict[Any, Any] = {}

        def form(variable: Any) -> Any:
            return made.get(variable, variable)

        for binding in bindings:
            call = rewritten(binding.value, form)
            operator = operator_of(call)
            made[binding.var] = builder.emit(call if operator is None else operator(*call.args[1].fields))
        return form

    return with_main(module, rebuilt(module["main"], emit))


def is_function(function: Any, build: Callable[..., Any]) -> bool:
    """Say whether a function of loops is what ``build`` makes of tensors of the same shapes."""
    from tvm import te
    from tvm_ffi import structural_equal

    *inputs, _ = [te.placeholder(p.shape, p.dtype, name=p.name) for p in function.params]
    try:
        made = te.create_prim_func([*inputs, build(*inputs)])
    except Exception:  # shapes that the operator does not take: it is another one
        return False
    return bool(structural_equal(made.without_attr("global_symbol"), function))
