"""The observers: each chooses the range of one tensor from its statistics, one module each.

Every observer gives two ranges: [low, high] for asymmetric 8-bit quantization, which always holds zero, and a magnitude
m for symmetric quantization over [-m, m]. None goes beyond the extremes seen.

To add one, add a module with a ``RangeObserver`` and a line to ``OBSERVERS``, which nothing else names; an installed
package adds its own by an entry point in the group ``edgepack.observers``. Names are known without importing numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from edgepack.base.extensions import Table
from edgepack.errors import ConfigError
from edgepack.specs.data import Recipe, TensorRange

if TYPE_CHECKING:
    from edgepack.calibrate.histogram import Histogram
    from edgepack.calibrate.statistics import Statistics
    from edgepack.specs.types import Array


class Ends(NamedTuple):
    """The range [low, high] for asymmetric quantization, and [-magnitude, magnitude] for symmetric quantization."""

    low: float
    high: float
    magnitude: float


@dataclass(frozen=True)
class Seen:
    """What was seen of one tensor, which holds at least one value.

    ``percentile`` (50..100) is for the observers that name it among their parameters. The histograms are there for
    observers that need counts: of the values, and of their magnitudes. Neither counts exact zeros.
    """

    statistics: Statistics
    percentile: float

    @cached_property
    def plain(self) -> TensorRange:
        """The range of the extremes, widened to hold zero."""
        minimum, maximum = self.statistics.minimum, self.statistics.maximum
        magnitude = max(abs(minimum), abs(maximum))
        return TensorRange(minimum, maximum, min(minimum, 0.0), max(maximum, 0.0), magnitude)

    @cached_property
    def histogram(self) -> Histogram:
        """The distribution of the values."""
        from edgepack.calibrate.histogram import to_histogram

        return to_histogram(self._counted, self.statistics.minimum, self.statistics.maximum)

    @cached_property
    def folded(self) -> Histogram:
        """The distribution of the magnitudes."""
        from edgepack.calibrate.histogram import fold_counts, to_histogram

        return to_histogram(fold_counts(self._counted), 0.0, self.plain.magnitude)

    @cached_property
    def _counted(self) -> Array:
        assert self.statistics.counts is not None, "the observer says that it needs counts"
        return self.statistics.counts.table()


@dataclass(frozen=True)
class RangeObserver:
    """One way of choosing a range.

    ``needs_counts`` says that it looks at the distribution, which costs counting every value; else it has the extremes
    only. ``parameters`` are the settings that it takes: "percentile" or none. What it returns is cut to what was seen.
    ``among``: names of observers whose ranges are tried on the layers that read the tensor; ``choose`` then serves the
    tensors that nothing can be tried on.
    """

    choose: Callable[[Seen], Ends]
    needs_counts: bool = True
    parameters: tuple[str, ...] = ()
    among: tuple[str, ...] = ()


OBSERVERS: Table[RangeObserver] = Table(
    "observer",
    "edgepack.observers",
    {
        "auto": "edgepack.calibrate.observers.auto:OBSERVER",
        "minmax": "edgepack.calibrate.observers.minmax:OBSERVER",
        "percentile": "edgepack.calibrate.observers.percentile:OBSERVER",
        "entropy": "edgepack.calibrate.observers.entropy:OBSERVER",
        "mse": "edgepack.calibrate.observers.mse:OBSERVER",
    },
    RangeObserver,
)


def observers_of_statistics() -> tuple[str, ...]:
    """Return the observers that choose from statistics alone, without samples to try ranges on."""
    return tuple(name for name, observer in OBSERVERS.all() if not observer.among)


def choose_range(observer: RangeObserver, statistics: Statistics, percentile: float) -> TensorRange:
    """Return the range of a tensor with at least one value; ``percentile`` (50..100) is for those that take it."""
    seen = Seen(statistics, percentile)
    if observer.needs_counts and (statistics.counts is None or seen.histogram.total == 0):
        return seen.plain
    low, high, magnitude = observer.choose(seen)
    plain = seen.plain
    return TensorRange(
        minimum=plain.minimum,
        maximum=plain.maximum,
        low=max(min(low, 0.0), plain.low),
        high=min(max(high, 0.0), plain.high),
        magnitude=min(magnitude, plain.magnitude),
    )


def choose_observer(recipe: Recipe | None, name: str | None, percentile: float | None) -> tuple[str, float]:
    """Return the observer and the percentile to calibrate with: what was asked for, else the recipe's, else usual ones.

    Raises ``ConfigError`` for an observer that is not known; ``ToolchainError`` for one that cannot be imported.
    """
    usual = recipe or Recipe(name="", title="")
    check_observer(name or usual.observer, "" if name or recipe is None else f"the recipe {recipe.name!r}")
    return name or usual.observer, percentile or usual.percentile


def check_observer(name: str, where: str = "") -> RangeObserver:
    """Return the observer ``name`` of a document at ``where``. Raises as ``choose_observer``."""
    try:
        return OBSERVERS.get(name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}" if where else error.message, hint=error.hint) from None


def check_percentile_goes_with(name: str) -> None:
    """Raise ``ConfigError`` when the observer ``name`` takes no percentile."""
    if "percentile" in OBSERVERS.get(name).parameters:
        return
    takers = [other for other, observer in OBSERVERS.all() if "percentile" in observer.parameters]
    raise ConfigError(
        f"--percentile cannot be used with --observer {name}", hint=f"use --observer {' or '.join(takers)}"
    )
