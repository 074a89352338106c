"""Takes the bounds of a picture out of the loops over its inside.

A depthwise convolution reads each value a few times only: to copy its input, with zeros around it, takes as long as the
sums do. Its sums ask instead, for every value, whether it lies inside the picture. The loop over tiles of one row
becomes three here: those that touch the left border, those that do not, for whose columns nothing is left to ask, and
those that touch the right one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.tile import Blocking
    from edgepack.engines.tvm.codegen.window import Window

INSIDE = "edgepack.inside"  # of a block of sums, then of the loop over tiles of a row: [first, end]


def inside(tile: Blocking, window: Window, width: int, output_width: int) -> list[int]:
    """Return the first of the tiles of a row whose sums read no column outside the picture, and the end of these."""
    _, left, _, _ = window.padding
    reach = window.dilation[1] * (window.kernel[1] - 1)
    found = []
    for number in range(-(-output_width // tile.width)):
        first = number * tile.width * window.strides[1] - left
        last = (min((number + 1) * tile.width, output_width) - 1) * window.strides[1] - left + reach
        if first >= 0 and last < width:
            found.append(number)
    return [found[0], found[-1] + 1] if found else [0, 0]


def parted(function: Any) -> Any:
    """Return an arranged function with each loop that says what is ``INSIDE`` in up to three parts."""
    import tvm_ffi
    from tvm import tirx

    return function.with_body(tvm_ffi.structural_map(function.body, [(tirx.For, _parted)], order="post"))


def _parted(loop: Any) -> Any:
    from tvm import tirx

    if INSIDE not in (loop.annotations or {}):
        return loop
    first, end = (int(value) for value in loop.annotations[INSIDE])
    ranges = [(0, first), (first, end), (end, int(loop.extent))]
    parts = [_part(loop, start, stop) for start, stop in ranges if start < stop]
    return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)


def _part(loop: Any, start: int, stop: int) -> Any:
    """Return the loop from ``start`` to ``stop``, with variables of its own."""
    from tvm import tirx

    variable = _like(loop.loop_var)
    body = _renewed(_replaced(loop.body, loop.loop_var, variable + start if start else variable))
    return tirx.For(variable, 0, stop - start, loop.kind, body, None, {})


def _renewed(statement: Any) -> Any:
    """Return a statement whose loops have new variables: LLVM's code generator wants each of them once."""
    import tvm_ffi
    from tvm import tirx

    def renewed(loop: Any) -> Any:
        variable = _like(loop.loop_var)
        body = _replaced(loop.body, loop.loop_var, variable)
        return tirx.For(variable, loop.min, loop.extent, loop.kind, body, loop.thread_binding, loop.annotations)

    return tvm_ffi.structural_map(statement, [(tirx.For, renewed)], order="post")


def _replaced(statement: Any, variable: Any, value: Any) -> Any:
    import tvm_ffi
    from tvm import tirx

    return tvm_ffi.structural_map(
        statement, [(tirx.Var, lambda found: value if found.same_as(variable) else found)], order="post"
    )


def _like(variable: Any) -> Any:
    from tvm import tirx

    return tirx.Var(variable.name, str(variable.ty.dtype))
