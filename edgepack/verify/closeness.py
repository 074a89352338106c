"""How close a model's outputs are to the fp32 model's, without labels: SQNR, cosine, agreement; summed as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgepack.base.intervals import mean_ci95, proportion_ci95
from edgepack.specs.types import Array
from edgepack.verify.distance import is_decision

_RESAMPLES = 2000
_LEAST_DB = -200.0


@dataclass(frozen=True)
class Closeness:
    """Label-free closeness over ``n`` samples with 95 % intervals; of several outputs the worst one's.

    ``sqnr_db`` is None when no amount differs. ``agreement`` is None without an output of class scores. ``mismatch`` is
    the share of values that differ in the worst output of decisions (``distance.is_decision``), of which an SQNR says
    nothing; None without one. ``nonfinite`` counts the samples in which a value is NaN or infinite in one model only.
    """

    n: int
    sqnr_db: float | None
    sqnr_ci95_db: tuple[float, float] | None
    cosine: float
    cosine_ci95: tuple[float, float] | None
    agreement: float | None
    agreement_ci95: tuple[float, float] | None
    mismatch: float | None = None
    nonfinite: int = 0

    @property
    def identical(self) -> bool:
        """Say whether nothing differs at all."""
        return self.sqnr_db is None and not self.mismatch and not self.nonfinite


class ClosenessSums:
    """Adds up samples one by one; memory is a few numbers a sample."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._signal: dict[str, list[float]] = {name: [] for name in names}
        self._noise: dict[str, list[float]] = {name: [] for name in names}
        self._cosine: dict[str, list[float]] = {name: [] for name in names}
        self._decisions: dict[str, list[int]] = {}  # of each output that is one: differing values, all values
        self._nonfinite = 0
        self._agree: list[bool] = []
        self._scores = True

    def add(self, expected: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        """Compare one sample's outputs; one of another shape or type, or NaN or infinite by itself, is pure noise.

        Where both are NaN or the same infinity, as the scores of a forbidden class, they agree and count for nothing.
        """
        import numpy as np

        damaged = False
        for name in self._names:
            first, second = np.asarray(expected[name]), np.asarray(found[name])
            if is_decision(first):
                self._count(name, first, second)
            one, other, usable = _comparable(first, second)
            damaged |= first.shape == second.shape and first.dtype == second.dtype and not usable
            with np.errstate(over="ignore", invalid="ignore"):
                signal, energy = float(one @ one), float(other @ other)
                self._cosine[name].append(_cosine(float(one @ other), signal, energy))
                self._signal[name].append(signal)
                self._noise[name].append(float(np.square(one - other).sum()))
        self._nonfinite += damaged
        self._add_scores(expected[self._names[0]], found[self._names[0]])

    def _count(self, name: str, expected: Array, found: Array) -> None:
        import numpy as np

        alike = (expected.shape, expected.dtype) == (found.shape, found.dtype)
        counts = self._decisions.setdefault(name, [0, 0])
        counts[0] += int(np.count_nonzero(expected != found)) if alike else expected.size
        counts[1] += expected.size

    def _add_scores(self, fp32: Array, scores: Array) -> None:
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
            value = None if name in self._decisions else sqnr_db(self._energies(name)[0], self._energies(name)[1])
            if value is not None and value < db:
                worst, db = name, value
        least = min(self._names, key=lambda name: float(np.mean(self._cosine[name])))
        cosines = np.array(self._cosine[least])
        agree = np.array(self._agree, bool)
        scores = self._scores and len(agree) > 0
        return Closeness(
            n=len(agree) if scores else n,
            sqnr_db=db if math.isfinite(db) else None,
            sqnr_ci95_db=sqnr_ci95_db(*self._energies(worst), seed) if math.isfinite(db) else None,
            cosine=float(np.mean(cosines)),
            cosine_ci95=mean_ci95(cosines),
            agreement=float(agree.mean()) if scores else None,
            agreement_ci95=proportion_ci95(int(agree.sum()), len(agree)) if scores else None,
            mismatch=max((d / total if total else 0.0 for d, total in self._decisions.values()), default=None),
            nonfinite=self._nonfinite,
        )

    def decisions(self) -> Mapping[str, tuple[int, int]]:
        """Return how many values of each output that is a decision differ, and how many there are."""
        return {name: (differing, total) for name, (differing, total) in self._decisions.items()}

    def _energies(self, name: str) -> tuple[Array, Array]:
        """Return signal and noise of each sample."""
        import numpy as np

        return np.array(self._signal[name]), np.array(self._noise[name])


def _comparable(expected: Array, found: Array) -> tuple[Array, Array, bool]:
    """Return both as flat float64 where a ratio has a meaning, and whether the second could be compared at all.

    What is not finite in both alike is 0 in both. A second of another shape or type, or with NaN or infinities where
    the first has none or others, is all 0.
    """
    import numpy as np

    first, second = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    finite = np.isfinite(first)
    if (expected.shape, expected.dtype) != (found.shape, found.dtype):
        return np.where(finite, first, 0.0), np.zeros_like(first), False
    usable = bool(((first == second) | (np.isnan(first) & np.isnan(second)) | (finite & np.isfinite(second))).all())
    one = np.where(finite, first, 0.0)
    return one, np.where(finite, second, 0.0) if usable else np.zeros_like(one), usable


def _cosine(product: float, first: float, second: float) -> float:
    if first == 0 and second == 0:
        return 1.0
    norm = math.sqrt(first) * math.sqrt(second)
    return product / norm if 0 < norm < math.inf and math.isfinite(product) else 0.0


def agreement(reference: Array, scores: Array) -> Array:
    """Return for each sample whether both score vectors [n, classes] have the same highest class; bool [n].

    A class whose score is -inf is a forbidden one, no damage; with a NaN score nothing agrees.
    """
    import numpy as np

    result: Array = (reference.argmax(axis=1) == scores.argmax(axis=1)) & ~np.isnan(scores).any(axis=1)
    return result


def sqnr_db(signal: Array, noise: Array) -> float | None:
    """Return 10 log10(sum(signal) / sum(noise)) of per-sample energies [n]; None when there is no noise at all.

    The figure is kept within -200 and 200 dB: beyond, one of the two is zero but for rounding. Energies too large for a
    float64 are of a model that went astray.
    """
    total_signal, total_noise = float(signal.sum()), float(noise.sum())
    if total_noise == 0:
        return None
    if not math.isfinite(total_noise):
        return _LEAST_DB
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
