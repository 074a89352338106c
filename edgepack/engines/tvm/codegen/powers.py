"""Powers by a constant exponent, in arithmetic that vectorizes: TVM calls libm's pow value by value instead.

Small multiples of a quarter are products and square roots, all others 2^(p log2 |x|), the whole part of which is kept
apart: within 8 units in the last place for exponents up to 8 in size, and 2 for each beyond; a test bounds it. Results
below the smallest normal number may be 0.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.approximations import EXP, LOG, clamp, const, in_octaves, named, polynomial, scaled
from edgepack.engines.tvm.codegen.once import once
from edgepack.engines.tvm.codegen.relax_util import constant

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.once import Scalar

_MOST_PRODUCTS = 8
_HALF = 2  # quarters
_LOG2_E, _LN2 = math.log2(math.e), math.log(2)
# Beyond these exponents of 2 a float32 number is infinite, or 0.
_ABOVE, _BELOW = 129.0, -151.0
_KEPT_BITS = 12  # of an exponent: times the whole part of a logarithm they are exact


def rule(builder: Any, call: Any) -> Any:
    """Return a power by one constant, or None where the exponents are others."""
    from edgepack.engines.tvm.codegen.approximations import elementwise

    exponents = constant(call.args[1])
    if exponents is None or exponents.size != 1 or exponents.ndim > call.args[0].ty.ndim:
        return None
    if str(call.args[0].ty.dtype) != "float32" or not math.isfinite(exponents.item()):
        return None
    build = elementwise(functools.partial(power, exponent=float(exponents.item())))
    return builder.call_te(build, call.args[0], primfunc_name_hint="power")


def power(x: Scalar, exponent: float) -> Scalar:
    """Return ``x`` to the power of a number; where several answers are thinkable, that of C's pow."""
    if exponent == 0:
        return const(1)
    size = abs(exponent)
    whole, quarters = divmod(size, 0.25)
    if quarters == 0 and size <= _MOST_PRODUCTS:
        exact = functools.partial(_by_products, quarters=int(whole))
        return exact(x) if exponent > 0 else const(1) / exact(x)
    return named(x, lambda x: _by_logarithm(x, exponent))


def _by_products(x: Scalar, quarters: int) -> Scalar:
    from tvm import tirx

    whole, rest = divmod(quarters, 4)
    if rest == 0:
        return named(x, lambda x: _product(x, whole))

    def with_roots(x: Scalar) -> Scalar:
        return named(tirx.sqrt(x), lambda root: parts(x, root))

    def parts(x: Scalar, root: Scalar) -> Scalar:
        value = root if rest == _HALF else tirx.sqrt(root)
        if rest > _HALF:
            value = value * root
        return value * _product(x, whole) if whole else value

    return named(x, lambda x: named(_unsigned_edges(x), with_roots))


def _unsigned_edges(x: Scalar) -> Scalar:
    """Return ``x``, but 0 for -0 and infinity for -infinity: all others below 0 have no power by a broken exponent."""
    from tvm import tirx

    edge = tirx.any(x.equal(const(0)), x.equal(const(-math.inf)))
    return tirx.Select(edge, tirx.abs(x), x)


def _product(x: Scalar, count: int) -> Scalar:
    """Return ``x`` times itself, with as few products as squares make."""
    if count == 1:
        return x
    half = _product(x, count // 2)
    return named(half, lambda half: half * half * x if count % 2 else half * half)


def _by_logarithm(x: Scalar, exponent: float) -> Scalar:
    from tvm import tirx

    integral, odd = exponent == int(exponent), exponent % 2 == 1
    at_zero, at_infinity = (0.0, math.inf) if exponent > 0 else (math.inf, 0.0)

    def of_size(size: Scalar) -> Scalar:
        inside = in_octaves(
            clamp(size, 2.0**-149, float(np.finfo(np.float32).max)), functools.partial(_raised, exponent)
        )
        value = tirx.Select(size.equal(const(0)), const(at_zero), inside)
        return tirx.Select(size.equal(const(math.inf)), const(at_infinity), value)

    def signed(value: Scalar) -> Scalar:
        if odd:
            value = tirx.Select(tirx.reinterpret("int32", x) < 0, -value, value)
        elif not integral:
            below = tirx.all(x < const(0), x > const(-math.inf))
            value = tirx.Select(below, const(math.nan), value)
        return tirx.Select(tirx.isnan(x), x, value)

    return named(named(tirx.abs(x), of_size), signed)


def _raised(exponent: float, r: Scalar, n: Scalar) -> Scalar:
    """Return (1 + r) 2^n to a power: n times the exponent's first bits is exact, and the whole part is kept apart."""
    from tvm import te

    head = float(np.round(math.ldexp(exponent, _KEPT_BITS - math.frexp(exponent)[1])))
    head = math.ldexp(head, math.frexp(exponent)[1] - _KEPT_BITS)

    def with_logarithm(logarithm: Scalar) -> Scalar:
        small = logarithm * const(exponent) + n * const(exponent - head)
        return named(n * const(head), lambda exact: named(small, lambda small: split(exact, small)))

    def split(exact: Scalar, small: Scalar) -> Scalar:
        total = clamp(exact + small, _BELOW, _ABOVE)
        return named(te.floor(total + const(0.5)), lambda whole: joined(exact, small, whole))

    def joined(exact: Scalar, small: Scalar, whole: Scalar) -> Scalar:
        left = clamp((exact - whole) + small, -1, 1)  # further off only where the result is infinite or 0 anyway

        def fraction(part: Scalar) -> Scalar:
            return polynomial(part, EXP) * part * part + part + const(1)

        return once(whole.astype("int32"), lambda k: scaled(named(left * const(_LN2), fraction), k), "int32")

    natural = r - (r * r * const(0.5) - polynomial(r, LOG) * r * r * r)
    return named(natural * const(_LOG2_E), with_logarithm)
