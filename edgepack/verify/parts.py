"""The parts of outputs that mean different things, each with its own signal and noise.

The balanced SQNR is that of the mean over all parts of noise over signal: every part counts alike, however large its
values are. Boxes of hundreds of pixels do not hide scores below 1 that are lost beside them. The signal is what varies
between samples: what all of them have in common, as the place of an anchor or a common mean, tells none from another,
and would hide that int8 lost all the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.verify.distance import is_decision
from edgepack.verify.means import CONSTANT

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# A part is at most as bad as this, in noise over signal: one that is lost must not hide what happens to the others.
_MOST_NOISE = 10.0
_LEAST_NOISE = 1e-20
_RESAMPLES = 1000
# From so many samples on their variation is known well enough to be what noise is compared with. Of fewer the whole
# signal is: two that happen to be alike would make noise of everything.
FEWEST = 8


@dataclass(frozen=True)
class Parts:
    """``labels``: int32 in the shape of one sample's output, the part of each value; ``names``: of the parts."""

    labels: Array
    names: tuple[str, ...]


def write_parts(path: Path, parts: Mapping[str, Parts], bounded: Sequence[str] = ()) -> None:
    """Write the parts of outputs, by the output's name, and which outputs stay within [-1, 1] by construction."""
    import numpy as np

    texts = {"names": _text([[name, found.names] for name, found in parts.items()]), "bounded": _text(list(bounded))}
    arrays = {str(place): found.labels for place, found in enumerate(parts.values())}
    np.savez(path, **texts, **arrays)  # type: ignore[arg-type]


def _text(value: object) -> Array:
    import numpy as np

    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def read_parts(path: Path) -> dict[str, Parts]:
    """Return the parts that ``write_parts`` wrote."""
    import numpy as np

    with np.load(path) as data:
        names = json.loads(data["names"].tobytes())
        return {name: Parts(data[str(place)], tuple(found)) for place, (name, found) in enumerate(names)}


def read_bounded(path: Path) -> frozenset[str]:
    """Return the outputs that stay within [-1, 1] by construction, as ``write_parts`` wrote them."""
    import numpy as np

    with np.load(path) as data:
        return frozenset(json.loads(data["bounded"].tobytes()))


@dataclass(frozen=True)
class Balance:
    """The balanced SQNR over ``n`` samples with its 95 % interval, and the part that lost most.

    ``sqnr_db`` is None where nothing differs, and where no output is an amount. ``worst_whole_db`` is what the worst
    part's SQNR would be if what is the same in all samples counted as signal.
    """

    n: int
    sqnr_db: float | None
    ci95_db: tuple[float, float] | None
    worst: str | None
    worst_db: float | None
    worst_whole_db: float | None = None


NO_BALANCE = Balance(0, None, None, None, None)


@dataclass(frozen=True)
class Energies:
    """Of one part and each sample, float64 [n]: what noise is compared with, the noise, and the whole signal."""

    signal: Array
    noise: Array
    whole: Array


class PartEnergies:
    """Sums up energies of the fp32 outputs and of the differences to them, part by part and sample by sample.

    ``means`` are those of the fp32 outputs over all samples that are to come (``means.py``). Where their shape is not
    that of the labels in all samples, an output is one part.
    """

    def __init__(self, names: Sequence[str], parts: Mapping[str, Parts], means: Mapping[str, Array]) -> None:
        self._names, self._means = names, means
        shapes = {name: mean.shape for name, mean in means.items()}
        self._parts = {name: found for name, found in parts.items() if shapes.get(name) == found.labels.shape}
        self._sums: dict[str, list[tuple[float, ...]]] = {}
        self._output: dict[str, str] = {}  # of each part

    def add(self, expected: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        """Take in one sample; decisions are not amounts and do not count.

        Values that are infinite or NaN in both alike do not count; where only one is, the value of the other counts
        as lost.
        """
        import numpy as np

        for name in self._names:
            if is_decision(np.asarray(expected[name])):
                continue
            first, second = np.asarray(expected[name], np.float64), np.asarray(found[name], np.float64)
            if first.shape != second.shape:
                second = np.zeros_like(first)
            usable = np.isfinite(first)
            difference = np.where(usable, first - np.where(np.isfinite(second), second, 0.0), 0.0)
            whole, noise = np.where(usable, first, 0.0), difference
            varying = np.where(usable, first - self._means[name], 0.0) if name in self._means else whole
            squares = [np.square(values) for values in (varying, noise, whole)]
            known = self._parts.get(name)
            if known is None:
                self._add(name, name, tuple(float(values.sum()) for values in squares))
                continue
            count, labels = len(known.names), known.labels.ravel()
            sums = (np.bincount(labels, values.ravel(), count) for values in squares)
            for part, *three in zip(known.names, *sums, strict=True):
                self._add(f"{name}: {part}", name, tuple(map(float, three)))

    def _add(self, part: str, output: str, energies: tuple[float, ...]) -> None:
        self._output[part] = output
        self._sums.setdefault(part, []).append(energies)

    def energies(self, silent: Collection[str] = ()) -> dict[str, Energies]:
        """Return the energies of each part; parts without any signal are left out.

        So are those of ``silent`` outputs, which are nearly zero, unless there is nothing else.
        """
        import numpy as np

        arrays = {part: np.asarray(rows) for part, rows in self._sums.items()}
        found = {part: _energies(*rows.T) for part, rows in arrays.items() if rows[:, 2].sum() > 0}
        heard = {part: rows for part, rows in found.items() if self._output[part] not in silent}
        return heard or found

    def noise(self, share: float = 1.0) -> float:
        """Return the mean over the parts of noise over signal, each at most 10; 0 where no part has a signal.

        ``share`` of the samples have a noise; of the others only the signal was added, to know it better.
        """
        ratios = [
            min(float(one.noise.sum()) / (share * float(one.signal.sum())), _MOST_NOISE)
            for one in self.energies().values()
        ]
        return sum(ratios) / len(ratios) if ratios else 0.0


def _energies(varying: Array, noise: Array, whole: Array) -> Energies:
    n = len(whole)
    if is_known(varying.sum(), whole.sum(), n):
        return Energies(varying * n / (n - 1), noise, whole)  # of so many samples the mean is one itself
    return Energies(whole, noise, whole)


def is_known(varying: Array | float, whole: Array | float, n: Array | int) -> Any:
    """Return whether what varies between ``n`` samples is known, and so is what noise is compared with."""
    return (varying > CONSTANT * whole) & (n >= FEWEST)


def noise_db(noise: float) -> float:
    """Return a noise over signal as an SQNR in dB, at most 200."""
    return -10 * math.log10(max(noise, _LEAST_NOISE)) if math.isfinite(noise) else -200.0


def balance(energies: Mapping[str, Energies], seed: int) -> Balance:
    """Return the figures of what ``PartEnergies`` summed; ``seed`` fixes the bootstrap over samples."""
    import numpy as np

    if not energies:
        return NO_BALANCE
    signal = np.stack([one.signal for one in energies.values()])
    noise = np.stack([one.noise for one in energies.values()])
    n = signal.shape[1]
    ratios = np.minimum(noise.sum(axis=1) / signal.sum(axis=1), _MOST_NOISE)
    worst = int(ratios.argmax())
    if not ratios[worst]:
        return Balance(n, None, None, None, None)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    drawn = np.minimum((counts @ noise.T) / np.maximum(counts @ signal.T, 1e-300), _MOST_NOISE).mean(axis=1)
    low, high = (noise_db(float(v)) for v in np.percentile(drawn, [97.5, 2.5]))
    name, of_worst = list(energies.items())[worst]
    return Balance(
        n,
        noise_db(float(ratios.mean())),
        (low, high) if n > 1 else None,
        name,
        noise_db(ratios[worst]),
        noise_db(float(of_worst.noise.sum() / of_worst.whole.sum())),
    )
