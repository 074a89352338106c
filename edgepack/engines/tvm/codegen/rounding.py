"""QuantizeLinear with one scale and zero point, rounded as ONNX says: clip(round(x / scale) + zero), half to even.

Bounds come first, so that one instruction rounds and converts. The quotient is that of a division, without one, which
is many times as slow as a product: with r = 1 / scale, rounded (Markstein, "Computation of elementary functions on the
IBM RISC System/6000 processor", 1990, theorem 8.3),

    q = x r,  x / scale = q + r (x - q scale)       each bracket rounded once

is the correctly rounded quotient, where the significand of the scale is not all ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.relax_util import constant

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.machine import Machine

_SIGNIFICAND = (1 << 23) - 1
_SMALLEST, _LARGEST = 2.0**-60, 2.0**60  # scales of which no quotient that is not bounded leaves float32


def quantize(builder: Any, call: Any, machine: Machine) -> Any:
    """Return a rounding of float32 to bytes; None where it keeps TVM's own form."""
    from tvm import te, tirx

    x, scale, zero = call.args[0], constant(call.args[1]), constant(call.args[2])
    dtype = str(call.attrs.out_dtype)
    if str(x.ty.dtype) != "float32" or dtype not in ("uint8", "int8") or scale is None or zero is None:
        return None
    if scale.ndim or zero.ndim or scale.dtype != np.float32 or not _SMALLEST < scale < _LARGEST:
        return None
    ends, offset = np.iinfo(dtype), int(zero)
    low, high = (tirx.const(float(np.float32(end - offset) * scale), "float32") for end in (ends.min, ends.max))

    def value(given: Any) -> Any:
        steps = _quotient(tirx.max(tirx.min(given, high), low), np.float32(scale), machine)
        return (tirx.call_llvm_pure_intrin("int32", "llvm.lrint", steps) + offset).astype(dtype)

    def build(data: Any) -> Any:
        return te.compute(data.shape, lambda *index: value(data(*index)), name="quantized")

    return builder.call_te(build, x, primfunc_name_hint="quantize")


def _quotient(x: Any, scale: np.float32, machine: Machine) -> Any:
    """Return x / scale as a division would give it."""
    from tvm import tirx

    if scale == 1:
        return x
    divisor = tirx.const(float(scale), "float32")
    if int(scale.view(np.uint32)) & _SIGNIFICAND == _SIGNIFICAND or not machine.has_fma:
        return x / divisor
    inverse = tirx.const(float(np.float32(1) / scale), "float32")
    first = x * inverse
    rest = tirx.call_llvm_pure_intrin("float32", "llvm.fma", -first, divisor, x)
    return tirx.call_llvm_pure_intrin("float32", "llvm.fma", rest, inverse, first)
