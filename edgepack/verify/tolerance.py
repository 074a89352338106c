"""How far a bundle's outputs may be from the fp32 model's: the policy, per precision and kind of output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.specs.run import OutputDistance
    from edgepack.specs.types import Precision

# fp32 engines order their sums differently. Measured, ONNX Runtime 1.31 against OpenVINO 2026.4 and against itself
# without optimizations, on four trained CNNs: 117 to 174 dB. The same networks run silently in fp16 or bf16, as some
# engines do by default, gave 45 to 78 and 26 to 77 dB. 60 dB leaves ill-conditioned models room and still tells.
FP32_SQNR_DB = 60.0

# A number rounded to p significant bits: noise is uniform within half a unit in the last place, variance ulp^2 / 12,
# and a significand uniform in [1, 2) has mean square 7/3; the ratio is 28 * 4^(p - 1). Every layer rounds again and
# the engines differ in where they do, so 40 dB below that is allowed. Measured as above: 10 dB better or more.
_SIGNIFICAND_BITS = {"fp16": 11, "bf16": 8}
_ROUNDINGS_DB = 40.0

# int8 is held to what the build measured, less twice the error amplitude: instruction sets and engine versions add and
# round differently. Below 0 dB the error is larger than the signal.
INT8_MARGIN_DB = 20 * math.log10(2)
INT8_LEAST_DB = 0.0

# An output that is all zero in fp32 has no signal to compare with: so much may differ, or twice what was measured,
# but never more than the second.
_ZERO_MAX_ABS = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 1e-2, "int8": 1e-2}
_ZERO_MOST_ABS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 0.1, "int8": 0.5}

# Decisions turn where rounding breaks a near tie: single pixels of a segmentation in fp32, one class in twelve of a
# classifier in int8. A share of so many is never right. One more may differ of few, but never more than half.
_MOST_MISMATCH = {"fp32": 0.001, "fp16": 0.02, "bf16": 0.1, "int8": 0.25}
MOST_OF_FEW = 0.5
HIGHEST_SQNR_DB = 200.0  # beyond, one of the two is zero but for rounding
ROUNDED = 1e-9  # the policy's figures are computed, and may be rounded otherwise elsewhere


@dataclass(frozen=True)
class Tolerance:
    """What is allowed for one output.

    ``sqnr_db`` is the least SQNR; ``max_abs`` the largest difference where the fp32 output is all zero; ``mismatch``
    the largest fraction of differing elements of an output that is a decision (bool, whole numbers of 32 bits and
    more).
    """

    sqnr_db: float
    max_abs: float
    mismatch: float


def widest(precision: Precision, elements: int = 0) -> Tolerance:
    """Return the most that may ever be allowed for an output, whatever was measured: a build must keep it too.

    ``elements`` is its number of values over all that is compared, 0 if that is not known.
    """
    spare = 1 / elements if elements and precision != "fp32" else 0.0
    most = _MOST_MISMATCH[precision]
    return Tolerance(
        sqnr_db=_least_sqnr_db(precision),
        max_abs=_ZERO_MOST_ABS[precision],
        mismatch=min(MOST_OF_FEW, most + spare),
    )


def tolerance(precision: Precision, measured: OutputDistance | None = None, elements: int = 0) -> Tolerance:
    """Return the policy's tolerance for an output.

    ``measured`` is its distance on the build host; ``elements`` its number of values over all golden vectors.
    A decision may differ in twice the elements that the build saw differ, and unless in fp32 in one more. What was
    measured never makes it wider than ``widest``.
    """
    most = widest(precision, elements)
    differing = (measured.mismatch or 0.0) if measured else 0.0
    spare = 1 / elements if elements and precision != "fp32" else 0.0
    seen = measured.max_abs if measured else 0.0
    return Tolerance(
        sqnr_db=_sqnr_db(precision, most.sqnr_db, measured),
        max_abs=min(most.max_abs, max(_ZERO_MAX_ABS[precision], 2 * seen)),
        mismatch=min(most.mismatch, 2 * differing + spare),
    )


def too_wide(allowed: Tolerance, precision: Precision, elements: int) -> str | None:
    """Return what a tolerance that somebody else wrote allows beyond the policy, in words; None where it keeps it."""
    most = widest(precision, elements)
    if not most.sqnr_db - ROUNDED <= allowed.sqnr_db <= HIGHEST_SQNR_DB:
        return f"an SQNR of {allowed.sqnr_db:.4g} dB, where {precision} needs {most.sqnr_db:.4g}"
    if not 0 <= allowed.max_abs <= most.max_abs:
        return f"differences of {allowed.max_abs:.4g} from zero, where {precision} may have {most.max_abs:.4g}"
    if not 0 <= allowed.mismatch <= most.mismatch + ROUNDED:
        return f"{100 * allowed.mismatch:.4g} % of decisions to differ, where {100 * most.mismatch:.4g} % may"
    return None


def _least_sqnr_db(precision: Precision) -> float:
    if precision == "fp32":
        return FP32_SQNR_DB
    if precision in _SIGNIFICAND_BITS:
        return rounding_sqnr_db(_SIGNIFICAND_BITS[precision]) - _ROUNDINGS_DB
    return INT8_LEAST_DB


def _sqnr_db(precision: Precision, least: float, measured: OutputDistance | None) -> float:
    """Return the least SQNR: the policy's, but in int8 what the build measured less its margin, if that is more."""
    if precision != "int8" or measured is None:
        return least
    if measured.sqnr_db is None:
        return FP32_SQNR_DB
    return min(FP32_SQNR_DB, max(least, measured.sqnr_db - INT8_MARGIN_DB))


def rounding_sqnr_db(bits: int) -> float:
    """Return the SQNR in dB of numbers rounded to ``bits`` significant bits; see the derivation above."""
    return 10 * math.log10(28 * 4.0 ** (bits - 1))
