"""How close a model's outputs are to the fp32 model's, without labels: SQNR, cosine, agreement; summed as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgepack.base.intervals import mean_ci95, proportion_ci95
from edgepack.specs.types import Array

_RESAMPLES = 2000


@dataclass(frozen=True)
class Closeness:
    """Label-free closeness over ``n`` samples with 95 % intervals; of several outputs the worst one's.

    ``sqnr_db`` is None when the outputs are identical. ``agreement`` is None without an output of class scores.
    """

    n: int
    sqnr_db: float | None
    sqnr_ci95_db: tuple[float, float] | None
    cosine: float
    cosine_ci95: tuple[float, float] | None
    agreement: float | None
    agreement_ci95: tuple[float, float] | None


class ClosenessSums:
    """Adds up samples one by one; memory is a few numbers a sample."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._signal: dict[str, list[float]] = {name: [] for name in names}
        self._noise: dict[str, list[float]] = {name: [] for name in names}
        self._cosine: dict[str, list[float]] = {name: [] for name in names}
        self._agree: list[bool] = []
        self._scores = True

    def add(self, expected: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        """Compare one sample's outputs; an output of another shape or with NaN counts as pure noise."""
        import numpy as np

        for name in self._names:
            first = np.asarray(expected[name], np.float64).ravel()
            second = np.asarray(found[name], np.float64).ravel()
            usable = first.shape == second.shape and bool(np.isfinite(second).all())
            second = second if usable else np.zeros_like(first)
            signal, energy = float(first @ first), float(second @ second)
            noise = float(np.square(first - second).sum())
            self._signal[name].append(signal)
            self._noise[name].append(noise)
            self._cosine[name].append(_cosine(float(first @ second), signal, energy))
        name = self._names[0]
        fp32, scores = expected[name], found[name]
        if fp32.ndim == 2 and fp32.shape[-1] >= 2 and fp32.dtype.kind == "f" and fp32.shape == scores.shape:
            self._agree.extend(bool(x) for x in agreement(fp32, scores))
        else:
            self._scores = False

    def result(self, seed: int) -> Closeness:
        """Return the figures; ``seed`` fixes the bootstrap."""
        import numpy as np

        n = len(self._signal[self._names[0]])
        worst, db = self._names[0], math.inf
        for name in self._names:
            value = sqnr_db(np.array(self._signal[name]), np.array(self._noise[name]))
            if value is not None and value < db:
                worst, db = name, value
        least = min(self._names, key=lambda name: float(np.mean(self._cosine[name])))
        cosines = np.array(self._cosine[least])
        agree = np.array(self._agree, bool)
        scores = self._scores and len(agree) > 0
        return Closeness(
            n=len(agree) if scores else n,
            sqnr_db=db if math.isfinite(db) else None,
            sqnr_ci95_db=sqnr_ci95_db(np.array(self._signal[worst]), np.array(self._noise[worst]), seed),
            cosine=float(np.mean(cosines)),
            cosine_ci95=mean_ci95(cosines),
            agreement=float(agree.mean()) if scores else None,
            agreement_ci95=proportion_ci95(int(agree.sum()), len(agree)) if scores else None,
        )


def _cosine(product: float, first: float, second: float) -> float:
    if first == 0 and second == 0:
        return 1.0
    return product / math.sqrt(first * second) if first > 0 and second > 0 else 0.0


def agreement(reference: Array, scores: Array) -> Array:
    """Return for each sample whether both score vectors [n, classes] have the same highest class; bool [n]."""
    import numpy as np

    result: Array = (reference.argmax(axis=1) == scores.argmax(axis=1)) & np.isfinite(scores).all(axis=1)
    return result


def sqnr_db(signal: Array, noise: Array) -> float | None:
    """Return 10 log10(sum(signal) / sum(noise)) of per-sample energies [n]; None when there is no noise at all.

    The figure is kept within -200 and 200 dB: beyond, one of the two is zero but for rounding.
    """
    total_signal, total_noise = float(signal.sum()), float(noise.sum())
    if total_noise == 0:
        return None
    ratio = min(max(total_signal / total_noise, 1e-20), 1e20)
    return 10 * math.log10(ratio)


def sqnr_ci95_db(signal: Array, noise: Array, seed: int) -> tuple[float, float] | None:
    """Return the 95 % percentile-bootstrap interval of the SQNR over samples; None where it is not finite."""
    import numpy as np

    n = len(signal)
    if n < 2 or float(noise.sum()) == 0:
        return None
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = 10 * np.log10((counts @ signal) / (counts @ noise))
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
