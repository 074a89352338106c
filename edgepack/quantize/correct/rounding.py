"""Rounds the weights of a layer so that its output changes least, by second moments of its input.

The rounding of one weight is made good by the weights that are not rounded yet: Frantar and Alistarh, "Optimal Brain
Compression" (2022), in the order and with the Cholesky form of Frantar et al., "GPTQ" (2022). New here are the limit of
neighbours on x86 without VNNI (``saturation.py``), kept while rounding, and a scale searched for each output channel by
the error that is left in its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.quantize.saturation import PAIR_LIMIT

if TYPE_CHECKING:
    from edgepack.quantize.weight_rows import Reduction
    from edgepack.specs.types import Array

_LEVELS = 127.0
_BLOCK = 64
# Factors of the scale that are tried for each channel.
_TRIED = 2
# Added to the diagonal, relative to its mean: directions in which the samples say nothing must not run away.
_DAMPING = 0.01
# Scales tried for each output channel, relative to the one at which its largest weight is 127.
FACTORS = (0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
SAFE_FACTORS = (0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0)


@dataclass(frozen=True)
class Rounded:
    """``integers`` [channels, terms] as whole numbers; ``scale`` [channels]; ``error`` [channels]: mean square
    of the change of the channel's output.
    """

    integers: Array
    scale: Array
    error: Array


def round_rows_second_order(
    rows: Reduction, moments: Array, largest: Array, factors: tuple[float, ...], *, per_channel: bool
) -> Rounded:
    """Return the best rounding of ``rows`` over ``factors`` times the scale ``largest`` [channels].

    ``moments`` [groups, terms, terms]; the channels are those of group after group. ``rows.pairs`` are kept within the
    limit. With ``per_channel`` False one factor serves all channels. Only the two factors that leave least error when
    each weight is rounded alone are tried; the scale of what is found is then the one that leaves least error with
    these integers.
    """
    from edgepack.quantize.weights import round_rows

    groups, terms = moments.shape[0], moments.shape[1]
    channels = len(rows.rows) // groups
    real = rows.rows.astype(np.float64).reshape(groups, channels, terms)
    chosen = _promising(rows, moments, largest, np.asarray(factors), per_channel=per_channel)  # [tried, channels]
    scales = (largest * chosen).reshape(len(chosen), groups, channels).transpose(1, 0, 2)  # [groups, tried, channels]
    flat = scales.reshape(groups, -1)
    repeated = np.tile(real, (1, len(chosen), 1))
    # In short reductions the greedy order may do worse than rounding each weight alone, so that is a candidate too.
    alone = np.stack([round_rows(rows, factor * largest) for factor in chosen]).reshape(
        len(chosen), groups, channels, -1
    )
    integers = np.concatenate(
        [_round_groups(repeated, moments, flat, rows.pairs), alone.transpose(1, 0, 2, 3).reshape(repeated.shape)],
        axis=1,
    )
    scales = np.concatenate([scales, scales], axis=1)
    change = integers * scales.reshape(groups, -1, 1) - np.tile(repeated, (1, 2, 1))
    error = np.einsum("gct,gct->gc", np.matmul(change, moments), change).reshape(groups, -1, channels)
    together = np.full((groups, channels), int(error.sum(axis=(0, 2)).argmin()))
    best = error.argmin(axis=1) if per_channel else together
    group, channel = np.indices((groups, channels))
    found = integers.reshape(groups, -1, channels, terms)[group, best, channel]
    scale = _fitted_scale(found, real, moments, scales[group, best, channel], per_channel=per_channel)
    change = found * scale[:, :, None] - real
    error = np.einsum("gct,gct->gc", np.matmul(change, moments), change)
    return Rounded(found.reshape(groups * channels, terms), scale.reshape(-1), error.reshape(-1))


def _promising(rows: Reduction, moments: Array, largest: Array, factors: Array, *, per_channel: bool) -> Array:
    """Return for each channel the factors that leave least error without second moments: [tried, channels]."""
    from edgepack.quantize.weights import squared_error

    channels = len(rows.rows) // moments.shape[0]
    importance = np.repeat(np.einsum("gtt->gt", moments), channels, axis=0)
    errors = np.stack([squared_error(rows, largest * factor, importance) for factor in factors])
    if not per_channel:
        errors = np.broadcast_to(errors.sum(axis=1, keepdims=True), errors.shape)
    order = np.argsort(errors, axis=0, kind="stable")[:_TRIED]
    return np.asarray(factors[order])


def _fitted_scale(integers: Array, real: Array, moments: Array, scale: Array, *, per_channel: bool) -> Array:
    """Return the scale [groups, channels] at which ``integers`` are nearest to ``real`` in the output (least squares).

    It stays within 2 % of ``scale``, for which the integers were made.
    """
    weighted = np.matmul(integers, moments)
    top, bottom = (weighted * real).sum(axis=2), (weighted * integers).sum(axis=2)
    if not per_channel:
        top, bottom = np.full_like(top, top.sum()), np.full_like(bottom, bottom.sum())
    fitted = top / np.where(bottom > 0, bottom, 1.0)
    usable = (bottom > 0) & (np.abs(fitted / scale - 1) < 0.02)
    if not per_channel and not usable.all():
        return scale
    return np.asarray(np.where(usable, fitted, scale).astype(np.float32).astype(np.float64))


def _round_groups(real: Array, moments: Array, scale: Array, orders: tuple[Array, ...]) -> Array:
    """Round ``real`` [groups, rows, terms] in units of ``scale`` [groups, rows]: whole numbers as float32.

    A weight that is zero stays zero: pruning made it so.
    """
    order = _order_of_terms(moments, orders)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    partners = _partners(place, orders)
    factor = _inverse_factor(moments[:, order][:, :, order]).astype(np.float32)
    left = (real / scale[:, :, None])[:, :, order].astype(np.float32)  # 24 bits are enough to round to 8
    kept = real[:, :, order] != 0
    result = np.zeros_like(left)
    terms = len(order)
    start = 0
    while start < terms:
        end = min(start + _BLOCK, terms)
        residues = np.zeros((*left.shape[:2], end - start), np.float32)
        for i in range(start, end):
            low, high = _limits(left, result, i, partners[i])
            result[:, :, i] = np.clip(np.rint(left[:, :, i]), low, high) * kept[:, :, i]
            residue = (left[:, :, i] - result[:, :, i]) / factor[:, None, i, i]
            residues[:, :, i - start] = residue
            left[:, :, i + 1 : end] -= residue[:, :, None] * factor[:, None, i, i + 1 : end]
        left[:, :, end:] -= np.matmul(residues, factor[:, start:end, end:])
        start = end
    return result[:, :, place]


def _inverse_factor(moments: Array) -> Array:
    """Return the upper triangular U with U^T U = inverse of the damped moments, for each group.

    With the order of the terms turned round, the damped moments are L L^T, and U is the inverse of L, turned back: a
    fifth of the work of inverting first.
    """
    from scipy.linalg.lapack import dpotrf, dtrtri

    terms = moments.shape[1]
    diagonal = np.einsum("gii->gi", moments)
    mean = diagonal.mean(axis=1, keepdims=True)
    damped = moments.astype(np.float64).copy()
    added = np.where(diagonal > 1e-12 * mean, 0.0, 1.0) + np.maximum(_DAMPING * mean, 1e-30)
    damped[:, np.arange(terms), np.arange(terms)] += np.where(mean > 0, added, 1.0)
    result = np.empty_like(damped)
    for group, values in zip(result, damped, strict=True):
        lower, failed = dpotrf(values[::-1, ::-1], lower=1, clean=1)
        if failed:
            raise np.linalg.LinAlgError("the second moments are not positive definite")
        group[:] = dtrtri(lower, lower=1, overwrite_c=1)[0][::-1, ::-1]
    return result


def _order_of_terms(moments: Array, orders: tuple[Array, ...]) -> Array:
    """Return the terms by falling mean square, neighbours of the first order side by side."""
    size = np.einsum("gii->gi", moments).mean(axis=0)
    lead = np.arange(len(size))
    if orders:
        first, second = orders[0].T
        lead[second] = first
        size[first] = size[second] = np.maximum(size[first], size[second])
    return np.lexsort((np.arange(len(size)), lead, -size[lead]))


def _partners(place: Array, orders: tuple[Array, ...]) -> list[list[int]]:
    """Return for each place in the order of rounding the places of its term's neighbours."""
    partners: list[list[int]] = [[] for _ in place]
    for pairs in orders:
        for one, two in place[pairs].tolist():
            partners[one].append(two)
            partners[two].append(one)
    return partners


def _limits(left: Array, result: Array, i: int, partners: list[int]) -> tuple[Array, Array]:
    """Return the least and greatest integers of term ``i``.

    A neighbour that is rounded already leaves the rest of the limit; with one that is not, an excess is shared.
    """
    low, high = np.full(left.shape[:2], -_LEVELS, np.float32), np.full(left.shape[:2], _LEVELS, np.float32)
    for other in partners:
        if other < i:
            fixed = result[:, :, other]
            high = np.minimum(high, np.where(fixed > 0, PAIR_LIMIT - fixed, _LEVELS))
            low = np.maximum(low, np.where(fixed < 0, -PAIR_LIMIT - fixed, -_LEVELS))
        else:
            total = left[:, :, i] + left[:, :, other]
            share = np.rint(left[:, :, i] - np.sign(total) * np.maximum(np.abs(total) - PAIR_LIMIT, 0) / 2)
            high = np.minimum(high, np.where(total > PAIR_LIMIT, np.maximum(share, 0), _LEVELS))
            low = np.maximum(low, np.where(total < -PAIR_LIMIT, np.minimum(share, 0), -_LEVELS))
    return low, high
