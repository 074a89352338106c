"""How far a bundle's outputs may be from the fp32 model's: the policy, per precision and kind of output."""

from __future__ import annotations

import math
from collections.abc import Mapping
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

# More is never demanded of int8, however close the build's few samples happened to come: rounding of 8 bits that falls
# the other way moves a value by a whole step. Values of a normal distribution whose range is 4 standard deviations
# either way have the mean square (range / 4)^2 and 255 steps in 2 ranges, so that one step in every value is 30.1 dB;
# less the margin, 24.1 dB. What computes wrongly is far below: saturation 8 to 14 dB, wrong kernels 1 to 13.
INT8_MOST_DB = 20 * math.log10(255 / 8) - INT8_MARGIN_DB

# Steps suit what varies. Where most of an output is the same in all samples its SQNR is higher by that share, in dB
# ``offset_db``, and so is the ceiling: a device that keeps the common part and loses the rest has a high SQNR as well.

# An output that is all zero in fp32 has no signal to compare with: so much may differ, or twice what was measured,
# but never more than the second.
_ZERO_MAX_ABS = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 1e-2, "int8": 1e-2}
# One step of numbers near 1. What stays within [-1, 1] by construction, as a probability, and is below such a step all
# over has no signal either: what is right for it is a difference, not a ratio.
_STEP_AT_ONE: Mapping[Precision, float] = {"fp32": 2.0**-23, "fp16": 2.0**-10, "bf16": 2.0**-7, "int8": 1 / 255}
STEPS = 2  # so many may an output differ that is nearly zero
_ZERO_MOST_ABS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 0.1, "int8": 0.5}

# Decisions turn where rounding breaks a near tie: single pixels of a segmentation in fp32, one class in twelve of a
# classifier in int8. A share of so many is never right. One more may differ of few, but never more than half.
_MOST_MISMATCH = {"fp32": 0.001, "fp16": 0.02, "bf16": 0.1, "int8": 0.25}
MOST_OF_FEW = 0.5
# What was not seen in n values may still happen in 3 of n (the rule of three, 95 %): none of the build's is no promise.
UNSEEN = 3
HIGHEST_SQNR_DB = 200.0  # beyond, one of the two is zero but for rounding
ROUNDED = 1e-9  # the policy's figures are computed, and may be rounded otherwise elsewhere


@dataclass(frozen=True)
class Tolerance:
    """What is allowed for one output.

    ``sqnr_db`` is the least SQNR; ``max_abs`` the largest difference where the fp32 output is all zero; ``mismatch``
    the largest fraction of differing elements of an output that is a decision (bool, whole numbers of 32 bits and
    more). Where all fp32 values of an output are within ``zero_within`` of zero, differences of twice that are right
    whatever the SQNR; 0 for outputs that are not bounded by construction.
    """

    sqnr_db: float
    max_abs: float
    mismatch: float
    zero_within: float = 0.0


def widest(precision: Precision, elements: int = 0, *, bounded: bool = True) -> Tolerance:
    """Return the most that may ever be allowed for an output, whatever was measured: a build must keep it too.

    ``elements`` is its number of values over all that is compared, 0 if that is not known. ``bounded`` says that it
    stays within [-1, 1] by construction.
    """
    spare = 1 / elements if elements and precision != "fp32" else 0.0
    most = _MOST_MISMATCH[precision]
    return Tolerance(
        sqnr_db=_least_sqnr_db(precision),
        max_abs=_ZERO_MOST_ABS[precision],
        mismatch=min(MOST_OF_FEW, most + spare),
        zero_within=_STEP_AT_ONE[precision] if bounded else 0.0,
    )


def tolerance(
    precision: Precision, measured: OutputDistance | None = None, elements: int = 0, offset_db: float = 0.0
) -> Tolerance:
    """Return the policy's tolerance for an output.

    ``measured`` is its distance on the build host; ``elements`` its number of values over all golden vectors, and
    ``offset_db`` the ratio of their energy to that of what varies between the vectors.
    A decision may differ in twice the elements that the build saw differ, and unless in fp32 in three more. What was
    measured never makes it wider than ``widest``, and never demands more of int8 than rounding by chance keeps.
    """
    most = widest(precision, elements)
    differing = (measured.mismatch or 0.0) if measured else 0.0
    spare = UNSEEN / elements if elements and precision != "fp32" else 0.0
    seen = measured.max_abs if measured else 0.0
    return Tolerance(
        sqnr_db=_sqnr_db(precision, most.sqnr_db, measured, offset_db),
        max_abs=min(most.max_abs, max(_ZERO_MAX_ABS[precision], 2 * seen)),
        mismatch=min(most.mismatch, 2 * differing + spare),
        zero_within=measured.zero_within if measured else 0.0,
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
    if not 0 <= allowed.zero_within <= most.zero_within:
        return f"values up to {allowed.zero_within:.4g} to count as zero, where {most.zero_within:.4g} may"
    return None


def _least_sqnr_db(precision: Precision) -> float:
    if precision == "fp32":
        return FP32_SQNR_DB
    if precision in _SIGNIFICAND_BITS:
        return rounding_sqnr_db(_SIGNIFICAND_BITS[precision]) - _ROUNDINGS_DB
    return INT8_LEAST_DB


def _sqnr_db(precision: Precision, least: float, measured: OutputDistance | None, offset_db: float) -> float:
    """Return the least SQNR: the policy's, but in int8 what the build measured less its margin, if that is more.

    An int8 output that happens to be equal to fp32's is no more exact than others: the demand has a ceiling.
    """
    if precision != "int8" or measured is None:
        return least
    most = INT8_MOST_DB + offset_db
    return most if measured.sqnr_db is None else min(most, max(least, measured.sqnr_db - INT8_MARGIN_DB))


def rounding_sqnr_db(bits: int) -> float:
    """Return the SQNR in dB of numbers rounded to ``bits`` significant bits; see the derivation above."""
    return 10 * math.log10(28 * 4.0 ** (bits - 1))
