"""sin, cos and tan in arithmetic that vectorizes, right for every float32 number: TVM calls libm instead.

The turns are taken off in integers (Payne and Hanek, SIGNUM Newsletter 18, 1983): |x| is a whole number of 24 bits
times a power of 2, so only 96 bits of 2 / pi, which ones depends on that power, count for the part of a quarter turn
that is left. It keeps 62 bits, also where ``x`` lies next to a multiple of pi / 2. One loop serves all numbers, without
a branch for the large ones.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen.approximations import MANTISSA_BITS, const, named, polynomial
from edgepack.engines.tvm.codegen.once import once

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.engines.tvm.codegen.once import Scalar

# 2 / pi in words of 32 bits (fdlibm 5.3, e_rem_pio2.c, in 24), after a word of zeros.
_TURNS = (0, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB)
_WORDS = 4  # of them count for one number
# Cephes Math Library 2.2, sinf.c: sin(r) = r + r^3 P(r^2), cos(r) = 1 - r^2 / 2 + r^4 Q(r^2) for |r| <= pi / 4.
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_HALF = 126  # the exponent's bits of numbers from 1/2 to 1; below no turn is taken off
_ENDLESS = 255  # those of what is infinite or no number
# Of the exponent's bits to the first bit of ``_TURNS`` that counts: |x| is a whole number times 2^(bits - 150), and the
# product has 62 bits behind the point and two before it.
_FIRST_BIT = 120


def sin(x: Scalar) -> Scalar:
    """Return the sine."""
    return _turned(x, lambda quarter, sine, cosine: _signed(quarter, _odd(quarter, cosine, sine)), odd=True)


def cos(x: Scalar) -> Scalar:
    """Return the cosine."""
    return _turned(x, lambda quarter, sine, cosine: _signed(quarter + 1, _odd(quarter, sine, cosine)), odd=False)


def tan(x: Scalar) -> Scalar:
    """Return the tangent."""
    return _turned(x, lambda quarter, sine, cosine: _odd(quarter, -cosine / sine, sine / cosine), odd=True)


def _odd(quarter: Any, one: Scalar, other: Scalar) -> Scalar:
    from tvm import tirx

    return tirx.Select((quarter & 1).equal(1), one, other)


def _signed(quarter: Any, value: Scalar) -> Scalar:
    from tvm import tirx

    return named(value, lambda value: tirx.Select((quarter & 2).equal(2), -value, value))


def _turned(x: Scalar, join: Callable[[Any, Scalar, Scalar], Scalar], *, odd: bool) -> Scalar:
    """Return ``join`` of the quarter turns in |x|, counted modulo 4, and of sine and cosine of what is left."""
    from tvm import tirx

    def of_rest(quarter: Any, rest: Scalar) -> Scalar:
        def joined(square: Scalar) -> Scalar:
            sine = rest + rest * square * polynomial(square, _SIN)
            cosine = const(1) - (square * const(0.5) - square * square * polynomial(square, _COS))
            return named(sine, lambda sine: named(cosine, lambda cosine: join(quarter, sine, cosine)))

        return named(rest * rest, joined)

    def of_bits(bits: Any) -> Scalar:
        exponent = (bits >> MANTISSA_BITS) & 0xFF
        return once(exponent, lambda exponent: of_parts(bits, exponent), "int32")

    def of_parts(bits: Any, exponent: Any) -> Scalar:
        def reduced(product: Any) -> Scalar:
            small = exponent < _HALF
            quarter = ((product + (_word(1) << 61)) >> 62).astype("int32")
            return once(
                tirx.Select(small, tirx.const(0, "int32"), quarter),
                lambda quarter: named(
                    tirx.Select(small, tirx.abs(x), _rest(product)), lambda rest: of_rest(quarter, rest)
                ),
                "int32",
            )

        value = once(_product(bits, exponent), reduced, "uint64")
        if odd:
            value = named(value, lambda value: tirx.Select(bits < 0, -value, value))
        return tirx.Select(exponent.equal(_ENDLESS), const(math.nan), value)

    return named(x, lambda x: once(tirx.reinterpret("int32", x), of_bits, "int32"))


def _word(value: int) -> Any:
    from tvm import tirx

    return tirx.const(value, "uint64")


def _product(bits: Any, exponent: Any) -> Any:
    """Return |x| times 2 / pi modulo 4 in uint64, two bits before the point."""
    from tvm import te, tirx

    whole = ((bits & 0x7FFFFF) | 0x800000).astype("uint64")
    first = te.max(exponent, tirx.const(_HALF, "int32")) - _FIRST_BIT

    def shifted(first: Any) -> Any:
        shift = (first & 31).astype("uint64")
        return once(first >> 5, lambda start: chosen(start, shift), "int32")

    def chosen(start: Any, shift: Any) -> Any:
        words = []
        for place in range(_WORDS):
            word = _word(_TURNS[place])
            for after in range(1, len(_TURNS) - _WORDS + 1):
                word = tirx.Select(start >= after, _word(_TURNS[place + after]), word)
            words.append(word)
        return once(shift, lambda shift: once(whole, lambda whole: summed(words, shift, whole), "uint64"), "uint64")

    def summed(words: list[Any], shift: Any, whole: Any) -> Any:
        def aligned(high: Any, low: Any) -> Any:
            return (((high << 32) | low) << shift) >> 32

        pairs = [aligned(high, low) for high, low in itertools.pairwise(words)]
        return ((whole * pairs[0]) << 32) + whole * pairs[1] + ((whole * pairs[2]) >> 32)

    return once(first, shifted, "int32")


def _rest(product: Any) -> Scalar:
    """Return what is left of a quarter turn, at most half of one to either side, as an angle."""

    def angle(fraction: Any) -> Scalar:
        high = (fraction >> 32).astype("uint32").astype("int32").astype("float32")
        low = ((fraction & _word(0xFFFFFFFF)) >> 1).astype("int32").astype("float32")
        return (high + low * const(2.0**-31)) * const(math.pi / 2 * 2.0**-32)

    return once(product << 2, angle, "uint64")


FUNCTIONS: dict[str, Callable[[Scalar], Scalar]] = {"relax.sin": sin, "relax.cos": cos, "relax.tan": tan}
