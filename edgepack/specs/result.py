"""What was measured of a bundle."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgepack.specs.bundle import MeasuredAccuracy
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host
from edgepack.specs.types import Precision


@dataclass(frozen=True)
class Percentile:
    """A nearest-rank percentile in ns with its 95 % interval; the value is None when the queries do not support it."""

    p: float
    value_ns: int | None
    ci95_ns: tuple[int, int] | None
    queries_needed: int


@dataclass(frozen=True)
class Scenario:
    """A LoadGen scenario and its settings.

    ``duration_ns`` and ``queries`` are both minima. ``batch`` is the samples in one call of the runner, for Offline.
    ``latency_bound_ns`` is what Server's p99 must keep. ``launches`` fresh processes share the duration, because two
    loads of the same bundle differ (where memory came to lie, say), and the intervals must know by how much.
    With ``steady_ns`` the machine is brought to its steady state first, in at most that time.
    """

    name: Literal["SingleStream", "MultiStream", "Server", "Offline"]
    duration_ns: int
    warmup_ns: int
    batch: int = 1
    seed: int = 0
    queries: int = 1
    latency_bound_ns: int | None = None
    launches: int = 5
    steady_ns: int = 0


@dataclass(frozen=True)
class Memory:
    """Resident memory of the measuring process (``VmRSS`` and ``VmHWM`` of /proc/self/status), in bytes.

    ``before_bytes`` is Python with edgepack before the engine was imported; the others count from zero, so it is in
    them. A peak is None where the kernel does not let a process reset its own peak. The GPU's memory is what NVIDIA's
    driver counts for this process after loading and after inference; None without one.
    """

    before_bytes: int
    load_bytes: int
    load_peak_bytes: int | None
    infer_bytes: int
    infer_peak_bytes: int | None
    gpu_load_bytes: int | None = None
    gpu_infer_bytes: int | None = None


@dataclass(frozen=True)
class Peak:
    """The most operations a second that any ``kernel`` of a probe reached; a multiply-add is two operations."""

    precision: Precision
    ops_per_s: int
    kernel: str


@dataclass(frozen=True)
class Bandwidth:
    """The most bytes a second that a ``kernel`` read from, or moved in, a working set of this size."""

    working_set_bytes: int
    bytes_per_s: int
    kernel: str


@dataclass(frozen=True)
class Peaks:
    """What this host can do at most, as measured by a short probe with the best kernels at hand.

    ``bandwidths`` are for working sets from the smallest, which caches hold, to one that is larger than they are.
    ``threads`` worked at once; ``versions`` are of the packages whose kernels were tried.
    """

    threads: int
    peaks: tuple[Peak, ...]
    bandwidths: tuple[Bandwidth, ...]
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerLimit:
    """One layer of a query against the roof: at least ``floor_ns`` are needed, ``time_ns`` were taken.

    ``ops`` counts multiply-adds twice and nothing else, None where they are not known; ``moved_bytes`` are inputs,
    weights and outputs once. ``fraction`` is floor_ns / time_ns: how much of the speed that the roof allows was had.
    ``bound`` is why it takes the time it takes: "precision" is not run in the precision asked for, "compute" and
    "memory" are the side of the roof that it is near, "overhead" is near to neither. ``reason`` says it in words.
    """

    name: str
    operator: str
    asked: str
    executed: str
    ops: int | None
    moved_bytes: int | None
    floor_ns: int
    time_ns: int
    fraction: float | None
    bound: Literal["compute", "memory", "overhead", "precision"]
    reason: str


@dataclass(frozen=True)
class Limit:
    """A floor for the latency of a query, of ``samples`` samples, and how near the measurement came to it.

    ``floor_ns`` is the sum over the layers, which run one after another; ``fraction`` is floor_ns / median latency.
    Times of layers are the engine's own profile of ``runs`` inferences, which took ``profiled_ns`` each; layers are in
    graph order, ``costliest`` names the ten that took most, the most first. A fraction above 1 says that the probe fell
    short of the roof, as under load, or that a kernel needs fewer operations than were counted.
    """

    floor_ns: int
    fraction: float
    samples: int
    ops: int
    moved_bytes: int
    roof: Peaks
    runs: int
    profiled_ns: int
    layers: tuple[LayerLimit, ...]
    costliest: tuple[str, ...]


@dataclass(frozen=True)
class Tuned:
    """How a result's run options were found: by ``edgepack tune`` on this device (``device_key``).

    ``ratio`` is the time with them over the time with the engine's defaults, below 1 is faster, with its 95 % interval,
    when they were tuned; ``for_scenario`` is what they were tuned for.
    """

    device_key: str
    for_scenario: str
    ratio: float
    ci95: tuple[float, float]
    tuned_at: str
    seed: int


@dataclass(frozen=True)
class Imported:
    """Where a result is from that edgepack did not measure: what was not recorded there is not known here."""

    tool: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Attestation:
    """The signature of the device that measured, over all else in the document; ``keyid`` is of its key.

    ``verdict`` is what a reader of the file found of it; what stands in a file there is not looked at.
    """

    keyid: str
    signature: str
    verdict: str = ""
    trusted: bool = False


@dataclass(frozen=True)
class Steady:
    """What was run, untimed, until the machine was as warm and as fast as it stays: see ``machine/steady.py``.

    ``reached`` is False when that took longer than was allowed. Temperatures are of the hottest sensor at the beginning
    and the end, None where the machine tells none. ``slowed`` says what lowered the clocks meanwhile.
    """

    reached: bool
    duration_ns: int
    temperature_before_c: float | None
    temperature_c: float | None
    slowed: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Result:
    """One measurement, one JSON document.

    ``memory_load_bytes`` is what loading added to the resident memory, ``memory_peak_bytes`` the process's highest.
    ``latencies_ns`` are in the order of issue, one a query (one a batch for Offline); of very long measurements only
    ``distribution_ns``, evenly spaced order statistics from the fastest to the slowest, is kept.
    ``notes`` are circumstances that a reader should know and that do not void the measurement. ``energy_uj`` is of one
    sample above the machine at rest, whose power was ``energy_idle_uw``. ``stands_for_target``: was this measured on
    the device that the bundle is for, by its engine? Where not, it says nothing of that device; None: not known.
    ``model_bytes`` is the size of the engines' own files in the bundle. ``load_ns`` is what the first process took to
    check and load it, the engine's own start included, and ``first_answer_ns`` until it had its first answer.
    """

    format: int
    bundle_sha256: str
    bundle_name: str
    target: str
    precision: Precision
    host: Host
    engine: str
    versions: Mapping[str, str]
    options: RunOptions
    scenario: Scenario
    queries: int
    warmup_queries: int
    duration_ns: int
    percentiles: tuple[Percentile, ...]
    samples_per_second: float
    samples_per_second_ci95: tuple[float, float] | None
    memory_load_bytes: int | None
    memory_peak_bytes: int | None
    energy_uj: int | None
    energy_source: str
    load_before: Mapping[str, float]
    load_after: Mapping[str, float]
    valid: bool
    invalid_reasons: tuple[str, ...]
    accuracy: MeasuredAccuracy | None
    size_bytes: int
    latencies_ns: tuple[int, ...] = ()
    distribution_ns: tuple[int, ...] = ()
    coefficient_of_variation: float | None = None
    memory: Memory | None = None
    warmup_ns: int = 0
    warmup_stable: bool = True
    source_sha256: str = ""
    measured_at: str = ""
    notes: tuple[str, ...] = ()
    limit: Limit | None = None
    tuned: Tuned | None = None
    imported: Imported | None = None
    energy_idle_uw: int | None = None
    stands_for_target: bool | None = None
    model_bytes: int | None = None
    load_ns: int | None = None
    first_answer_ns: int | None = None
    steady: Steady | None = None
    attestation: Attestation | None = None

    def cells(self) -> dict[str, str]:
        """Return what is shown first, as people read it: what was measured, where, and the figures that there are."""
        known = {f"p{one.p:g} ms": one.value_ns / 1e6 for one in self.percentiles if one.value_ns is not None}
        return {
            "bundle": f"{self.bundle_name} {self.precision} for {self.target}",
            "scenario": self.scenario.name,
            "queries": str(self.queries),
            **{name: f"{value:.4g}" for name, value in known.items()},
            "samples per second": f"{self.samples_per_second:.4g}",
            "engine": " ".join((self.engine, *self.versions.values())),
            "measured on": self.host.cpu,
            **({} if self.valid else {"invalid": "; ".join(self.invalid_reasons)}),
        }

    def __repr__(self) -> str:
        bundle, *others = self.cells().items()
        return f"<Result {bundle[1]}; {', '.join(' '.join(pair) for pair in others)}>"

    def _repr_html_(self) -> str:
        """Return the figures as a table, which notebooks show."""
        rows = (f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in self.cells().items())
        return f"<table>{''.join(rows)}</table>"
