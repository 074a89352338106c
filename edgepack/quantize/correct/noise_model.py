"""Chooses the scale of every channel so that quantization, by a model of its noise, disturbs the layers least.

Rounding to a step ``d`` is taken as noise of the mean square d^2 / 12 (Bennett, "Spectra of Quantized Signals", 1948),
independent from value to value. One step serves a whole activation tensor, so a channel of small values drowns in the
noise of the large ones; one step serves all weights of an output channel, so scaling an input channel up makes the
others' weights relatively smaller. Both are weighed against each other here for all tensors and layers together, where
SmoothQuant (Xiao et al. 2022) and cross-layer equalization (Nagel et al. 2019) fix the exchange by a rule.

Scaled channels all reach the ends of the step's range, so each of them clips what goes further in the next sample,
where a channel far below the largest had room. What is lost so is counted as noise as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.quantize.correct.channel_groups import FIXED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.specs.types import Array

# The maximum is smoothed as the norm of this order, taken by squaring four times, so that it can be minimised.
_SQUARINGS = 4
_ORDER = 2.0**_SQUARINGS
# No channel is scaled by more than this either way: the samples do not say so much.
_MOST = 64.0
_ITERATIONS = 60
# Levels of an activation, and of a weight. Where neighbours are limited (``saturation.py``) steps are wider by this.
_ACTIVATION_LEVELS, _WEIGHT_LEVELS = 255.0, 127.0
SATURATING_STEP = 1.3
# Share of a channel's values that lie beyond the range in a sample that goes beyond it. Chosen by trial on six
# networks: 0.03 costs up to 2 dB where samples do not go further, without it single outputs lose 8.
_CLIPPED_SHARE = 0.01


@dataclass(frozen=True)
class Site:
    """A tensor that is quantized with one step. Arrays are by channel: its ``numbers`` (which scale), ``above`` and
    ``below`` (the largest value, and minus the least one, each at least 0), and ``gain``: how much a noise of mean
    square 1 in this channel disturbs what reads it, relative to the energy there. ``above_tail`` and ``below_tail``
    are the lengths of the tails of ``above`` and ``below`` (``tails.py``) in ``samples`` samples.
    """

    numbers: Array
    above: Array
    below: Array
    gain: Array
    above_tail: Array
    below_tail: Array
    samples: int


@dataclass(frozen=True)
class Reader:
    """A layer that reads scaled channels. ``numbers`` [groups, inputs]; ``weight`` [groups, outputs, inputs]: the
    largest absolute weight over kernel positions; ``energy`` [groups, inputs]: mean square of the channel, relative to
    the energy of the layer's output, times the number of kernel positions.
    """

    numbers: Array
    weight: Array
    energy: Array


def choose_scales(sites: Sequence[Site], readers: Sequence[Reader], count: int) -> tuple[Array, float, float]:
    """Return the scale of each of ``count`` numbers, and the modelled noise before and after.

    The number FIXED has the scale 1. Deterministic: the same inputs give the same scales.
    """
    from scipy.optimize import minimize

    start = np.zeros(count)
    high = np.full(count, np.log(_MOST))
    high[FIXED] = 0.0

    def total(logs: Array) -> tuple[float, Array]:
        slope = np.zeros(count)
        value = sum(_site_noise(site, logs, slope) for site in sites)
        value += sum(_reader_noise(reader, logs, slope) for reader in readers)
        return value, slope

    before = total(start)[0]
    if not np.isfinite(before) or before <= 0:
        return np.ones(count), before, before

    def relative(logs: Array) -> tuple[float, Array]:
        value, slope = total(logs)
        return float(np.log(value / before)), slope / value

    found = minimize(
        relative, start, jac=True, method="L-BFGS-B", bounds=list(zip(-high, high, strict=True)),
        options={"maxiter": _ITERATIONS, "maxcor": 20},
    )  # fmt: skip
    after = total(found.x)[0]
    if not np.isfinite(after) or after >= before:
        return np.ones(count), before, before
    return np.exp(found.x), before, after


def noise_of(sites: Sequence[Site], readers: Sequence[Reader], scales: Array) -> float:
    """Return the modelled noise of some places at the given scales."""
    logs, unused = np.log(scales), np.zeros(len(scales))
    return sum(_site_noise(s, logs, unused) for s in sites) + sum(_reader_noise(r, logs, unused) for r in readers)


def _site_noise(site: Site, logs: Array, slope: Array) -> float:
    """Return the noise of one tensor's step, and add its derivative by the logarithms of the scales to ``slope``."""
    scale = np.exp(logs[site.numbers])
    above, above_share = _smooth_maximum(site.above * scale)
    below, below_share = _smooth_maximum(site.below * scale)
    width = above + below
    gain = site.gain / scale**2
    passed = gain.sum()
    value = width**2 * passed / (12 * _ACTIVATION_LEVELS**2)
    if value <= 0:
        return 0.0
    moved = 2 * value * ((above * above_share + below * below_share) / width - gain / passed)
    for end, share, largest, tail in (
        (above, above_share, site.above, site.above_tail),
        (below, below_share, site.below, site.below_tail),
    ):
        clipped, by_logs = _clipped_noise(end / scale, share, largest, tail, site.gain / site.samples)
        value += clipped
        moved += by_logs
    np.add.at(slope, site.numbers, moved)
    return float(value)


def _clipped_noise(end: Array, share: Array, largest: Array, tail: Array, gain: Array) -> tuple[float, Array]:
    """Return the noise of values beyond one end of a range, and its derivative by the logarithms of the scales.

    ``end``: where the range ends in the unit of each channel; ``share`` of each channel in where it ends. The next of
    n samples goes beyond the largest of these by x with the density exp(-x / tail) / (n tail), so the mean square of
    what is beyond ``end`` is 2 tail^2 exp(-(end - largest) / tail) / n.
    """
    length = np.where(tail > 0, tail, 1.0)
    noise = 2 * _CLIPPED_SHARE * gain * tail**2 * np.exp(-(end - largest) / length)
    pulled = noise * end / length
    return float(noise.sum()), pulled - pulled.sum() * share


def _reader_noise(reader: Reader, logs: Array, slope: Array) -> float:
    """The same for the steps of one layer's weights."""
    scale = np.exp(logs[reader.numbers])
    largest, share = _smooth_maximum(reader.weight / scale[:, None, :])
    energy = reader.energy * scale**2
    passed = energy.sum(axis=-1, keepdims=True)  # [groups, 1]
    noise = largest**2 * passed / (12 * _WEIGHT_LEVELS**2)  # [groups, outputs]
    value = noise.sum()
    if value <= 0:
        return 0.0
    pulled = np.einsum("go,goi->gi", noise, share)
    moved = 2 * (noise.sum(axis=-1, keepdims=True) * energy / np.maximum(passed, 1e-300) - pulled)
    np.add.at(slope, reader.numbers, moved)
    return float(value)


def _smooth_maximum(values: Array) -> tuple[Array, Array]:
    """Return a smooth form of the maximum over the last axis, and each value's share in it (they sum to 1)."""
    largest = values.max(axis=-1, keepdims=True)
    power = values / np.where(largest > 0, largest, 1.0)
    for _ in range(_SQUARINGS):
        power = power * power
    total = power.sum(axis=-1, keepdims=True)
    smooth = largest * total ** (1 / _ORDER)
    return smooth[..., 0], power / np.where(total > 0, total, 1.0)
