"""exp, log, hyperbolic functions, erf and what is made of them, in arithmetic that vectorizes: TVM calls libm instead.

Errors against double precision are bounded by a test. Infinite values and NaN give what ONNX asks for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen.once import once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgepack.engines.tvm.codegen.once import Scalar

# Cephes Math Library 2.2, expf.c: exp(r) = 1 + r + r^2 P(r) for |r| <= ln(2) / 2, and ln(2) in two parts.
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Below the first exp is 0 in float32, subnormal numbers included; above the second it is infinite.
_EXP_LOW, _EXP_HIGH = -104.0, 89.0
# Cephes Math Library 2.2, logf.c: log(1 + r) = r - r^2 / 2 + r^3 P(r) for 1 + r from sqrt(1/2) to sqrt(2).
LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_SQRT_HALF_BITS = 0x3F3504F3  # of sqrt(1/2) in float32
MANTISSA_BITS = 23
_SMALLEST_NORMAL = 2.0**-126
# Eigen 3.4, Core/MathFunctionsImpl.h (tanh) and unsupported SpecialFunctions (erf): odd rational functions, and from
# where on the result is 1.
_TANH = (
    (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
     6.37261928875436e-04, 4.89352455891786e-03),
    (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
    7.90531110763549805,
)  # fmt: skip
# Cephes Math Library 2.2, sinhf.c: sinh(x) = x + x^3 P(x^2) for |x| <= 1.
_SINH = (2.03721912945e-4, 8.33028376239e-3, 1.66667160211e-1)
_ERF = (
    (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
     -2.95459980854025e-03, -1.60960333262415e-02),
    (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
     -1.42647390514189e-02),
    4.0,
)  # fmt: skip
# How the names of blocks begin that are stored even for one reader: inside it they would not vectorize, or be repeated.
STORED = "stored"


def const(value: float) -> Scalar:
    """Return a float32 constant."""
    from tvm import tirx

    return tirx.const(value, "float32")


def named(value: Scalar, body: Callable[[Scalar], Scalar]) -> Scalar:
    """Return ``body`` of a float32 value that is computed once."""
    return once(value, body, "float32")


def polynomial(x: Scalar, factors: Sequence[float]) -> Scalar:
    """Return a polynomial's value, by Horner's rule from the highest factor."""
    total = const(factors[0])
    for factor in factors[1:]:
        total = total * x + const(factor)
    return total


def clamp(x: Scalar, low: float, high: float) -> Scalar:
    """Return the value of a range that is nearest to ``x``."""
    from tvm import te

    return te.max(te.min(x, const(high)), const(low))


def keep_nan(x: Scalar, result: Scalar) -> Scalar:
    """Return NaN where ``x`` is NaN: minimum and maximum lose it."""
    from tvm import tirx

    return tirx.Select(tirx.isnan(x), x, result)


def exp(x: Scalar) -> Scalar:
    """Return e to the power ``x``."""
    return named(x, lambda x: keep_nan(x, named(clamp(x, _EXP_LOW, _EXP_HIGH), _finite_exp)))


def _finite_exp(x: Scalar) -> Scalar:
    from tvm import te

    def parts(n: Scalar) -> Scalar:
        fraction = named(
            x - n * const(_LN2_HIGH) - n * const(_LN2_LOW), lambda r: polynomial(r, EXP) * r * r + r + const(1)
        )
        return once(n.astype("int32"), lambda whole: scaled(fraction, whole), "int32")

    return named(te.floor(x * const(1 / math.log(2)) + const(0.5)), parts)


def scaled(fraction: Scalar, whole: Any) -> Scalar:
    """Return ``fraction`` times 2 to the power ``whole``, an int32, in two steps, each of which is a normal number."""
    from tvm import tirx

    def power(k: Any) -> Scalar:
        return tirx.reinterpret("float32", (k + 127) << MANTISSA_BITS)

    return once(whole >> 1, lambda half: fraction * power(half) * power(whole - half), "int32")


def log(x: Scalar) -> Scalar:
    """Return the natural logarithm."""
    from tvm import tirx

    def with_edges(x: Scalar) -> Scalar:
        # What is neither positive nor finite: infinity and NaN stay, of the others zero gives -inf.
        below = tirx.Select(x.equal(const(0)), const(-math.inf), const(math.nan))
        kept = keep_nan(x, below)
        return tirx.Select(x > const(0), tirx.Select(x < const(math.inf), _positive_log(x), x), kept)

    return named(x, with_edges)


def _positive_log(x: Scalar) -> Scalar:
    def sum_of(r: Scalar, n: Scalar) -> Scalar:
        low = polynomial(r, LOG) * r * r * r + n * const(_LN2_LOW) - r * r * const(0.5)
        return r + low + n * const(_LN2_HIGH)

    return in_octaves(x, sum_of)


def in_octaves(x: Scalar, function: Callable[[Scalar, Scalar], Scalar]) -> Scalar:
    """Return ``function`` of r and n, (1 + r) 2^n = ``x``, positive and finite; 1 + r from sqrt(1/2) to sqrt(2)."""
    from tvm import tirx

    subnormal = x < const(_SMALLEST_NORMAL)

    def parts(bits: Any) -> Scalar:
        whole = (bits - tirx.const(_SQRT_HALF_BITS, "int32")) >> MANTISSA_BITS  # what is left is at least sqrt(1/2)
        return once(whole, lambda whole: fraction(bits, whole), "int32")

    def fraction(bits: Any, whole: Any) -> Scalar:
        n = whole.astype("float32") - tirx.Select(subnormal, const(MANTISSA_BITS), const(0))
        r = tirx.reinterpret("float32", bits - (whole << MANTISSA_BITS)) - const(1)
        return named(r, lambda r: named(n, lambda n: function(r, n)))

    normal = tirx.Select(subnormal, x * const(2.0**MANTISSA_BITS), x)
    return once(tirx.reinterpret("int32", normal), parts, "int32")


def _rational(x: Scalar, factors: tuple[Sequence[float], Sequence[float], float]) -> Scalar:
    above, below, end = factors

    def quotient(y: Scalar) -> Scalar:
        return named(y * y, lambda square: y * polynomial(square, above) / polynomial(square, below))

    return named(x, lambda x: keep_nan(x, named(clamp(x, -end, end), quotient)))


def tanh(x: Scalar) -> Scalar:
    """Return the hyperbolic tangent."""
    return _rational(x, _TANH)


def sinh(x: Scalar) -> Scalar:
    """Return the hyperbolic sine."""
    from tvm import tirx

    def value(x: Scalar) -> Scalar:
        size = tirx.abs(x)
        small = named(x * x, lambda square: x + x * square * polynomial(square, _SINH))
        large = _halves(size, lambda above, below: above - below)
        signed = named(large, lambda large: tirx.Select(x < const(0), -large, large))
        return tirx.Select(size > const(1), signed, small)

    return named(x, value)


def cosh(x: Scalar) -> Scalar:
    """Return the hyperbolic cosine."""
    from tvm import tirx

    return named(x, lambda x: _halves(tirx.abs(x), lambda above, below: above + below))


def _halves(size: Scalar, joined: Callable[[Scalar, Scalar], Scalar]) -> Scalar:
    """Return exp(size) / 2 and exp(-size) / 2, joined; by exp(size / 2), as exp(size) is infinite too early."""
    half = const(0.5)
    return named(exp(size * half), lambda root: joined(root * half * root, half / root / root))


def erf(x: Scalar) -> Scalar:
    """Return the error function."""
    return _rational(x, _ERF)


def sigmoid(x: Scalar) -> Scalar:
    """Return the logistic function."""
    return const(1) / (const(1) + exp(-x))


def silu(x: Scalar) -> Scalar:
    """Return ``x`` times its logistic function."""
    return named(x, lambda x: x / (const(1) + exp(-x)))


def gelu(x: Scalar) -> Scalar:
    """Return ``x`` times the normal distribution's probability below it."""
    return named(x, lambda x: x * const(0.5) * (const(1) + erf(x * const(math.sqrt(0.5)))))


def gelu_tanh(x: Scalar) -> Scalar:
    """Return GELU by tanh (arXiv 1606.08415, section 2)."""

    def value(x: Scalar) -> Scalar:
        inside = const(math.sqrt(2 / math.pi)) * (x + const(0.044715) * x * x * x)
        return x * const(0.5) * (const(1) + tanh(inside))

    return named(x, value)


FUNCTIONS: dict[str, Callable[[Scalar], Scalar]] = {
    "relax.exp": exp,
    "relax.log": log,
    "relax.tanh": tanh,
    "relax.sinh": sinh,
    "relax.cosh": cosh,
    "relax.erf": erf,
    "relax.sigmoid": sigmoid,
    "relax.nn.silu": silu,
    "relax.nn.gelu": gelu,
    "relax.nn.gelu_tanh": gelu_tanh,
}


def elementwise(function: Callable[[Scalar], Scalar]) -> Callable[[Any], Any]:
    """Return the tensor expression of a function of one value."""
    from tvm import te

    return lambda x: te.compute(x.shape, lambda *i: function(x[i]), name="value")


def softmax(x: Any, axis: int) -> Any:
    """Return exp(x - max) / sum(exp(x - max)) along an axis."""
    from tvm import te

    _, power, total, rest = _powers(x, axis)
    return te.compute(list(x.shape), lambda *i: power[i] / total[rest(i)], name="softmax")


def log_softmax(x: Any, axis: int) -> Any:
    """Return x - max - log(sum(exp(x - max))) along an axis."""
    from tvm import te

    top, _, total, rest = _powers(x, axis, f"{STORED}_power")
    below = te.compute(total.shape, lambda *i: log(total[i]), name=f"{STORED}_log")
    return te.compute(list(x.shape), lambda *i: x[i] - top[rest(i)] - below[rest(i)], name="log_softmax")


def _powers(
    x: Any, axis: int, name: str = "power"
) -> tuple[Any, Any, Any, Callable[[Sequence[Any]], tuple[Any, ...]]]:  # fmt: skip
    """Return along an axis the largest values, exp(x - largest) and its sums; and an index without the axis."""
    from tvm import te

    shape = list(x.shape)
    rest = [*shape[:axis], *shape[axis + 1 :]]

    def along(index: Sequence[Any], k: Any) -> tuple[Any, ...]:
        return (*index[:axis], k, *index[axis:])

    def without(index: Sequence[Any]) -> tuple[Any, ...]:
        return (*index[:axis], *index[axis + 1 :])

    k, j = te.reduce_axis((0, shape[axis]), "k"), te.reduce_axis((0, shape[axis]), "j")
    top = te.compute(rest, lambda *i: te.max(x[along(i, k)], axis=k), name="top")
    power = te.compute(shape, lambda *i: exp(x[i] - top[without(i)]), name=name)
    total = te.compute(rest, lambda *i: te.sum(power[along(i, j)], axis=j), name="total")
    return top, power, total, without


def layer_norm(x: Any, gamma: Any, beta: Any, axes: Sequence[int], epsilon: float) -> Any:
    """Return (x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axes, the variance about the mean.

    TVM's own form takes the difference of two sums of squares, which cancels where the mean is large.
    """
    from tvm import te, tirx

    shape, lead = list(x.shape), len(x.shape) - len(axes)
    inner = shape[lead:]
    count = const(math.prod(int(size) for size in inner))

    def sum_of(value: Callable[..., Scalar], name: str) -> Any:
        terms = [te.reduce_axis((0, size), f"{name}{n}") for n, size in enumerate(inner)]
        return te.compute(shape[:lead], lambda *i: te.sum(value(*i, *terms), axis=terms), name=name)

    total = sum_of(lambda *i: x[i], "total")
    mean = te.compute(shape[:lead], lambda *i: total[i] / count, name="mean")
    squares = sum_of(lambda *i: (x[i] - mean[i[:lead]]) * (x[i] - mean[i[:lead]]), "squares")
    factor = te.compute(
        shape[:lead], lambda *i: const(1) / tirx.sqrt(squares[i] / count + const(epsilon)), name="factor"
    )
    return te.compute(
        shape, lambda *i: (x[i] - mean[i[:lead]]) * factor[i[:lead]] * gamma[i[lead:]] + beta[i[lead:]], name="norm"
    )
