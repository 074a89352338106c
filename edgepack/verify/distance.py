"""The distance of a model's outputs from the fp32 model's: SQNR, cosine, largest difference, differing decisions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgepack.specs.run import OutputDistance
from edgepack.specs.types import Array
from edgepack.verify.tolerance import STEPS

if TYPE_CHECKING:
    from edgepack.verify.tolerance import Tolerance

Outputs = Mapping[str, Array]


def distances(
    reference: Sequence[Outputs], outputs: Sequence[Outputs], tolerance: Mapping[str, Tolerance] | None
) -> tuple[OutputDistance, ...]:
    """Return the distance of each of the reference's outputs over all samples.

    ``reference`` and ``outputs`` hold one mapping a sample, in the same order. Without a tolerance an output passes
    when it has the reference's shape and is finite where the reference is. Positions that are not finite in both alike
    (NaN and NaN, equal infinities) do not count; positions that are so in one only make the output fail.
    """
    if len(reference) != len(outputs) or not reference:
        raise ValueError(f"{len(reference)} reference samples and {len(outputs)} of outputs cannot be compared")
    return tuple(
        distance(
            name,
            [sample[name] for sample in reference],
            [sample.get(name) for sample in outputs],
            tolerance.get(name) if tolerance is not None else None,
        )
        for name in reference[0]
    )


def distance(
    name: str, reference: Sequence[Array], outputs: Sequence[Array | None], tolerance: Tolerance | None
) -> OutputDistance:
    """Return the distance of one output, over samples."""
    allowed = tolerance.sqnr_db if tolerance else None
    problem = _problem(reference, outputs)
    if problem:
        return OutputDistance(name, None, 0.0, 0.0, allowed, passed=False, note=problem)
    expected = _flat(reference)
    found = _flat(np.asarray(output) for output in outputs)
    if is_decision(expected):
        return _decision(name, expected, found, tolerance)
    return _signal(name, expected.astype(np.float64), found.astype(np.float64), tolerance)


def is_decision(reference: Array) -> bool:
    """Return whether values are choices, not amounts: truth values, and whole numbers of 32 bits and more.

    These are indices, counts and classes, of which an SQNR says nothing. Whole numbers of 8 and 16 bits are pixels,
    sound or quantized values, and are compared as amounts.
    """
    return reference.dtype.kind == "b" or (reference.dtype.kind in "iu" and reference.dtype.itemsize >= 4)


def _problem(reference: Sequence[Array], outputs: Sequence[Array | None]) -> str | None:
    for expected, found in zip(reference, outputs, strict=True):
        if found is None:
            return "the engine did not return this output"
        if np.shape(found) != expected.shape:
            return f"its shape is {np.shape(found)}, the fp32 model's is {expected.shape}"
        dtype = np.asarray(found).dtype
        if dtype.kind not in "biuf":
            return f"its dtype is {dtype}, which is not a number"
        if dtype.newbyteorder("=") != expected.dtype.newbyteorder("="):
            return f"its dtype is {dtype.name}, the fp32 model's is {expected.dtype.name}"
    return None


def _decision(name: str, expected: Array, found: Array, tolerance: Tolerance | None) -> OutputDistance:
    differing, total = int(np.count_nonzero(expected != found)), expected.size
    mismatch = differing / total if total else 0.0
    first, second = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(second)
    nonfinite = total - int(np.count_nonzero(finite))
    _, cosine, max_abs = _measures(first[finite], second[finite])
    return OutputDistance(
        name,
        sqnr_db=None,
        cosine=cosine,
        max_abs=max_abs,
        tolerance_sqnr_db=None,
        passed=not nonfinite and (tolerance is None or mismatch <= tolerance.mismatch),
        mismatch=mismatch,
        nonfinite=nonfinite,
        note=f"compared by equality: {differing} of {total} differ"
        + (f", {100 * tolerance.mismatch:.4g} % may" if tolerance else ""),
        tolerance_mismatch=tolerance.mismatch if tolerance else None,
    )


def _signal(name: str, expected: Array, found: Array, tolerance: Tolerance | None) -> OutputDistance:
    finite = np.isfinite(expected) & np.isfinite(found)
    alike = finite | (np.isnan(expected) & np.isnan(found)) | (expected == found)
    nonfinite = int(np.count_nonzero(~alike))
    expected, found = expected[finite], found[finite]
    sqnr_db, cosine, max_abs = _measures(expected, found)
    passed, note = (
        nonfinite == 0,
        f"{nonfinite} values are NaN or infinite in one of the two only" if nonfinite else None,
    )
    if max_abs > 0 and not expected.any():  # no signal: the ratio has no meaning
        note = note or f"the fp32 output is all zero: the largest difference is {max_abs:.3g}" + (
            f", {tolerance.max_abs:.3g} is allowed" if tolerance else ""
        )
        passed = passed and (tolerance is None or max_abs <= tolerance.max_abs)
    nearly_zero = sqnr_db is not None and _is_nearly_zero(expected, max_abs, tolerance)
    if nearly_zero:
        note = note or (
            f"the fp32 output is nearly zero, at most {_largest(expected):.3g}: the largest difference is {max_abs:.3g}"
        )
    elif sqnr_db is not None and tolerance is not None:
        passed = passed and sqnr_db >= tolerance.sqnr_db
    allowed = tolerance.sqnr_db if tolerance else None
    return OutputDistance(
        name, sqnr_db, cosine, max_abs, allowed, passed, nonfinite=nonfinite, note=note,
        zero_within=tolerance.zero_within if tolerance else 0.0, nearly_zero=nearly_zero,
    )  # fmt: skip


def _is_nearly_zero(expected: Array, max_abs: float, tolerance: Tolerance | None) -> bool:
    """Return whether an output has too small values for a ratio to mean anything, and differs by less than may be."""
    within = tolerance.zero_within if tolerance else 0.0
    return _largest(expected) <= within and max_abs <= STEPS * within


def _measures(expected: Array, found: Array) -> tuple[float | None, float, float]:
    """Return SQNR in dB (None: no difference, or no signal), cosine, and largest difference of finite float64 values.

    Both are divided by their largest magnitude first, so that no square overflows; SQNR and cosine do not change.
    """
    scale = max(_largest(expected), _largest(found))
    if scale == 0:
        return None, 1.0, 0.0
    first, second = expected / scale, found / scale
    error = first - second
    signal, noise = float(first @ first), float(error @ error)
    norms = np.sqrt(signal) * np.sqrt(float(second @ second))
    cosine = float(np.clip(first @ second / norms, -1, 1)) if norms else 0.0
    max_abs = min(_largest(error) * scale, sys.float_info.max)
    if noise == 0 or signal == 0:
        return None, cosine if signal else 0.0, max_abs
    return 10 * float(np.log10(signal) - np.log10(noise)), cosine, max_abs  # their ratio may overflow


def _largest(values: Array) -> float:
    return float(np.abs(values).max()) if values.size else 0.0


def _flat(arrays: Iterable[Array]) -> Array:
    return np.concatenate([np.ravel(array) for array in arrays])
