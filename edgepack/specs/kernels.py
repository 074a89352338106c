"""What an engine that tunes its kernels says of them: a search, what it brought to a whole model, what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgepack.specs.types import Precision

State = Literal["known", "transferred", "new"]


@dataclass(frozen=True)
class TunedKernel:
    """What is known of one kernel after tuning: ``kernel``, in the engine's words, is called ``count`` times.

    ``state``: known before, near one that was known, or new. ``measured``: whether it is measured now; if not, time
    ended. ``default_ns`` is its time as the engine makes it untuned, ``ratio`` how many times that it takes now.
    ``transfer_ratio``: the same of what records of other kernels proposed.
    """

    kernel: str
    count: int
    state: State
    measured: bool
    default_ns: float = 0.0
    ratio: float = 1.0
    trials: int = 0
    transfer_ratio: float | None = None


@dataclass(frozen=True)
class KernelSearch:
    """The outcome of a search; ``saved_ns`` is what measuring the known kernels took when they were measured.

    ``cpu`` is the processor that it was made on, ``records`` the file that keeps it.
    """

    kernels: tuple[TunedKernel, ...]
    took_ns: int
    saved_ns: int
    complete: bool
    cpu: str
    records: Path
    failures: tuple[str, ...] = ()

    @property
    def default_ns(self) -> float:
        """Nanoseconds that all measured kernels of the model take untuned."""
        return sum(k.default_ns * k.count for k in self.kernels if k.measured)

    @property
    def tuned_ns(self) -> float:
        """Nanoseconds that they take now."""
        return sum(k.default_ns * k.ratio * k.count for k in self.kernels if k.measured)

    def count(self, state: State) -> int:
        """Return how many kernels were known, near a known one, or new."""
        return sum(kernel.state == state for kernel in self.kernels)


@dataclass(frozen=True)
class WholeModel:
    """How many times the time of the untuned code the tuned code takes: the median of ``turns`` pairs of processes.

    ``low`` and ``high`` are an interval of the ratio of at least 95 %. ``default_ns`` and ``tuned_ns`` are medians, CPU
    time where there is one thread, else time passed.
    """

    ratio: float
    low: float
    high: float
    default_ns: float
    tuned_ns: float
    turns: int


@dataclass(frozen=True)
class KernelTuning:
    """What tuning a model's kernels for a target found; ``whole`` is None where this host cannot run the target's code.

    The next build for the target reads ``search.records``.
    """

    target: str
    precision: Precision
    threads: int
    seed: int
    budget_ns: int
    search: KernelSearch
    whole: WholeModel | None
    versions: Mapping[str, str]


@dataclass(frozen=True)
class KernelRecords:
    """A target's records: the file, how many kernels it holds, how many of them are faster than untuned.

    ``merged`` were taken from another file just now; ``cut`` says that the last line was incomplete and is ignored.
    """

    target: str
    path: Path
    kernels: int
    faster: int
    merged: int = 0
    cut: bool = False
