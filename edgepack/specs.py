"""The frozen values that flow between stages; no I/O, standard library only.

Every value here can be written as JSON and read back by ``documents.py``; the dataclass is the schema. A ``Path``
inside a value is relative to the folder that the value's document stands in. Units are in the names.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
    Feeds: TypeAlias = Mapping[str, Array]
else:
    Array = Feeds = Any

# What a user named: a file, a folder, or "module:function" or "file.py:function". A stage that takes it depends on what
# is there, see execution/stage.py.
USER_SOURCE = "a user's file, folder or function"
UserSource: TypeAlias = Annotated[str, USER_SOURCE]
Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
Asked: TypeAlias = Literal["int8", "fp32", "fp16", "bf16"]
Ran: TypeAlias = Literal["int8", "fp32", "fp16", "bf16", "fused", "unknown"]
Observer: TypeAlias = str  # a name in calibrate/observers, checked where it is read
Severity: TypeAlias = Literal["note", "warning", "error"]


class Progress(Protocol):
    """Called by long work: ``done`` of ``total`` units of the stage named ``what``; ``total`` 0 means unknown."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Tell how far the work is."""


def no_progress(_what: str, _done: int, _total: int, /) -> None:
    """A ``Progress`` that shows nothing."""


# --- models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of an input or output; a symbolic or unknown dimension is a string."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file that was loaded and checked.

    ``sha256`` covers the file and its external data; ``size_bytes`` too. ``external`` names the external data files,
    relative to the model's folder and inside it.
    """

    path: Path
    sha256: str
    size_bytes: int
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    external: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnostic:
    """Something found while checking: what, where (``node`` is a node's name), and a hint."""

    severity: Severity
    message: str
    node: str | None = None
    hint: str | None = None


# --- data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the model's input: resize, crop, then ``(pixel * scale - mean) / std``.

    ``pixel`` is 0..255. ``resize_short`` scales the shorter side to that many pixels keeping the aspect ratio;
    ``resize`` is an exact (height, width); at most one of the two. ``crop`` is a centre crop (height, width).
    ``mean`` and ``std`` have one entry per channel, in the order of ``color``.
    """

    resize_short: int | None = None
    resize: tuple[int, int] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    crop: tuple[int, int] | None = None
    color: Literal["RGB", "BGR", "L"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    dtype: Literal["float32", "uint8"] = "float32"


@dataclass(frozen=True)
class Recipe:
    """One calibration recipe, ``calibration/<name>.toml``."""

    name: str
    title: str
    preprocessing: Preprocessing | None = None
    samples: int = 256
    observer: Observer = "minmax"
    percentile: float = 99.99
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleSet:
    """Which samples of which source, in which order; the samples themselves are read when they are needed.

    ``sha256`` covers the contents of the chosen samples, their labels, and the preprocessing. ``indices`` counts
    in the source's own sorted order. ``classes`` are the names of class folders, in label order (pictures only).
    """

    source: str
    kind: Literal["pictures", "npz", "callable"]
    sha256: str
    indices: tuple[int, ...]
    labelled: bool
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class Finding:
    """What one check of a calibration set found; a warning has a ``hint`` that says what to change.

    ``check`` is what it is about: files, copies, overlap, channels, labels, range, preprocessing, samples, or what a
    check of another package names.
    """

    check: str
    severity: Literal["warning", "note"]
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Lint:
    """What was found about the samples of a calibration, warnings first; ``model_runs`` is what it cost.

    ``eval_sha256`` and ``eval_samples`` are None where there was no other set to compare with.
    """

    model_sha256: str
    data_sha256: str
    eval_sha256: str | None
    samples: int
    eval_samples: int | None
    observer: Observer
    model_runs: int
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that call for a change."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")


@dataclass(frozen=True)
class TensorRange:
    """What was seen of one tensor and the range chosen for it.

    ``minimum`` and ``maximum`` are the extremes seen. ``low`` and ``high`` are the range chosen by the observer for
    asymmetric quantization; ``magnitude`` is the one for symmetric quantization: ``[-magnitude, magnitude]``.
    """

    minimum: float
    maximum: float
    low: float
    high: float
    magnitude: float


@dataclass(frozen=True)
class Ranges:
    """Activation statistics per tensor; a document that can be inspected, diffed and reused."""

    model_sha256: str
    data_sha256: str
    observer: Observer
    percentile: float | None
    samples: int
    tensors: Mapping[str, TensorRange]
    tools: Mapping[str, str] = field(default_factory=dict)


# --- targets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EngineFacts:
    """``[engine]``: the engine on the device. ``device`` is OpenVINO's device name or an execution provider.

    ``glibc`` is the oldest C library that machine code is linked for, as "2.31".
    ``build_on`` "device": the engine's files fit one device only, so the device makes them when it installs.
    For NVIDIA's devices ``cuda`` and ``python`` are the versions that their system brings and ``l4t`` is the major
    release of Jetson Linux (/etc/nv_tegra_release), which distinguishes two generations of one board.
    """

    version: str | None = None
    device: str = "CPU"
    max_opset: int | None = None
    build_on: Literal["host", "device"] = "host"
    glibc: str | None = None
    cuda: str | None = None
    python: str | None = None
    l4t: str | None = None


@dataclass(frozen=True)
class Compute:
    """``[compute]``: instruction set (names as in /proc/cpuinfo), cores, GPU compute capability, precisions.

    ``cpu_model`` is a regular expression that the host's CPU model must match for the host to be this device.
    ``dla_cores`` counts NVIDIA's deep-learning accelerators; 0 says that there are none.
    ``l1_bytes`` is a core's data cache, ``l2_bytes`` the next one, which ``l2_cores`` of the cores share (absent: one);
    TVM's code is blocked for them.
    """

    isa: tuple[str, ...] = ()
    cores: int | None = None
    gpu_sm: str | None = None
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    cpu_model: str | None = None
    dla_cores: int | None = None
    l1_bytes: int | None = None
    l2_bytes: int | None = None
    l2_cores: int | None = None


@dataclass(frozen=True)
class QuantizationRules:
    """``[quantization]``: how this target's engine wants its int8 models.

    ``saturates``: int8 multiply-adds clip sums of two products at 16 bits (x86 without VNNI).
    ``operators``: operator types to quantize; empty means the engine's default list (``engines/int8.py``).
    ``leave``: operator types or node-name patterns (fnmatch) never quantized.
    ``engine``: whose fusion patterns and weight packing are followed (``engines/int8.py``); it follows the backend.
    """

    activation_type: Literal["uint8", "int8"] = "uint8"
    activation_symmetric: bool = False
    weight_type: Literal["int8", "uint8"] = "int8"
    weight_symmetric: bool = True
    per_channel: bool = True
    quantize_bias: bool = True
    saturates: bool = False
    operators: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    engine: str = "onnxruntime"


@dataclass(frozen=True)
class Limits:
    """``[limits]``: memory, bandwidth and dense peak operations per second for each precision."""

    memory_bytes: int | None = None
    bandwidth_bytes_per_s: int | None = None
    peak_ops_per_s: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PowerFacts:
    """``[power]``: where the power sensors are and the modes the board has."""

    sensor: str | None = None
    rails: tuple[str, ...] = ()
    tdp_w: float | None = None


@dataclass(frozen=True)
class Target:
    """One device profile, ``targets/<id>.toml``. A fact that is not known is absent."""

    id: str
    title: str
    backend: str
    arch: str
    os: str = "linux"
    engine: EngineFacts = EngineFacts()
    compute: Compute = Compute()
    quantization: QuantizationRules = QuantizationRules()
    limits: Limits = Limits()
    power: PowerFacts = PowerFacts()
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """Facts about the machine this runs on. ``isa`` holds the x86 or ARM flags that matter to an engine, sorted."""

    cpu: str
    arch: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    os: str
    kernel: str
    python: str
    gpu: str | None = None
    power_mode: str | None = None


# --- compiled models and running them ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class CompiledModel:
    """The engine's own native files. ``files`` are relative to ``folder``; ``entry`` is the one the engine opens.

    ``built`` is the folder in which a device keeps what its engine builds of them; None is the user's cache.
    """

    backend: str
    precision: Precision
    folder: Path
    entry: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    versions: Mapping[str, str]
    device: str = "CPU"
    built: Path | None = None


@dataclass(frozen=True)
class RunOptions:
    """How to load a compiled model; ``tune`` searches all but ``device``. None is the engine's default.

    An engine without such a setting leaves it out. What else is known of an option stands in its ``metadata``, which
    ``base/run_options.py`` reads: ``help`` says what it does, ``least`` and ``most`` are its bounds, ``words`` are
    values that are said otherwise than by name and value, and ``flag`` says that the command line has it.
    """

    threads: int | None = field(
        default=None,
        metadata={"help": "Threads of the engine; else its own default.", "least": 1, "most": 1024, "flag": True},
    )
    device: str | None = field(default=None, metadata={"help": "The engine's name of a device; else the bundle's."})
    hint: Literal["latency", "throughput"] = field(
        default="latency", metadata={"help": "What the engine arranges its threads for."}
    )
    streams: int | None = field(
        default=None,
        metadata={"help": "Inferences that run at the same time, for throughput.", "least": 1, "most": 1024},
    )
    pinning: bool | None = field(default=None, metadata={"help": "Bind threads to cores."})
    spinning: bool | None = field(default=None, metadata={"help": "Let waiting threads burn CPU."})
    optimization: Literal["off", "basic", "extended", "layout", "all"] | None = field(
        default=None,
        metadata={
            "help": "How far the engine rewrites the graph when it loads it; 'layout' and below it matter to ONNX "
            "Runtime only."
        },
    )
    arena: bool | None = field(default=None, metadata={"help": "Keep memory for the next inference."})
    reuse_outputs: bool | None = field(
        default=None, metadata={"help": "Write outputs into the arrays of the call before."}
    )
    fixed_batch: int | None = field(
        default=None,
        metadata={
            "help": "Load a model whose batch is free for this one, and others are then run by a second load; 0 loads "
            "it for any. By default OpenVINO, which is slower where the batch is free, is loaded for the batch that is "
            "measured, else 1, and other engines for any.",
            "least": 0,
            "most": 65_536,
            "words": {0: "batch left free"},
        },
    )


Change = tuple[str, Any]  # a field of RunOptions, or "batch", and a value of it


# --- verification and accuracy ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OutputDistance:
    """How far one output is from the fp32 model's, over the golden vectors or over an evaluation set.

    ``sqnr_db`` is 10 log10(sum ref^2 / sum (ref - out)^2), None when the outputs are identical (infinite) or when SQNR
    is not what they are compared by, which ``note`` then says. ``mismatch`` is the fraction of elements that differ,
    for outputs that are decisions (bool, whole numbers of 32 bits and more). ``nonfinite`` counts the values that are
    NaN or infinite in one of the two only.
    """

    name: str
    sqnr_db: float | None
    cosine: float
    max_abs: float
    tolerance_sqnr_db: float | None
    passed: bool
    mismatch: float | None = None
    nonfinite: int = 0
    note: str | None = None


@dataclass(frozen=True)
class Verification:
    """Numerics of a compiled model against the golden vectors, and where they were run."""

    passed: bool
    outputs: tuple[OutputDistance, ...]
    samples: int
    engine: str
    versions: Mapping[str, str]
    isa: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True)
class Accuracy:
    """A metric measured on the same samples for fp32 and for this precision.

    ``drop`` = fp32 - value, as a fraction; ``ci95`` is the interval of that *paired* difference.
    ``metric`` is a name in verify/metrics or the user's module:function.
    """

    metric: str
    n: int
    fp32: float
    value: float
    drop: float
    ci95: tuple[float, float]


# --- bundles ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileEntry:
    """One member of a bundle."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Payload:
    """One engine's files in a bundle, in order of preference.

    ``key`` holds facts that a device must have exactly, by name, for files that fit no other; empty: any device.
    """

    backend: str
    device: str
    precision: Precision
    entry: str
    files: tuple[str, ...]
    key: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Requirements:
    """What a device must have. ``engine`` maps an engine's package to the oldest version that may run the payload."""

    arch: str | None
    isa: tuple[str, ...]
    engine: Mapping[str, str]


@dataclass(frozen=True)
class MeasuredAccuracy:
    """The accuracy in a manifest, with its circumstances; a field is None with the reason in ``note``."""

    accuracy: Accuracy | None
    sqnr_db: float | None
    cosine: float | None
    agreement: float | None
    n: int
    engine: str
    isa: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``, the first member of a bundle."""

    format: int
    name: str
    version: str
    target: str
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None
    classes: tuple[str, ...]
    layers: Mapping[str, int]
    accuracy: MeasuredAccuracy | None
    requirements: Requirements
    payloads: tuple[Payload, ...]
    toolchain: Mapping[str, str]
    source_sha256: str
    calibration_sha256: str | None
    files: tuple[FileEntry, ...]
    options: Mapping[str, str] = field(default_factory=dict)


# --- measurements -----------------------------------------------------------------------------------------------------


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
    """

    name: Literal["SingleStream", "MultiStream", "Server", "Offline"]
    duration_ns: int
    warmup_ns: int
    batch: int = 1
    seed: int = 0
    queries: int = 1
    latency_bound_ns: int | None = None
    launches: int = 5


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
class Roof:
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
    roof: Roof
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
class Result:
    """One measurement, one JSON document.

    ``memory_load_bytes`` is what loading added to the resident memory, ``memory_peak_bytes`` the process's highest.
    ``latencies_ns`` are in the order of issue, one a query (one a batch for Offline); of very long measurements only
    ``distribution_ns``, evenly spaced order statistics from the fastest to the slowest, is kept.
    ``notes`` are circumstances that a reader should know and that do not void the measurement. ``energy_uj`` is of one
    sample above the machine at rest, whose power was ``energy_idle_uw``.
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


# --- builds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latency:
    """Nearest-rank percentiles of single-stream latency."""

    p50: int
    p90: int | None


@dataclass(frozen=True)
class Trial:
    """One way of quantizing that the search tried.

    ``left`` names the layers put back to fp32. ``macs_share`` is their share of all multiply-adds, an estimate of what
    they cost; ``p50_ns`` is the latency measured on this host, None where it was not. ``front`` says that no other
    trial is better in both accuracy and cost.
    """

    left: tuple[str, ...]
    metric: str
    value: float
    drop: float
    sqnr_db: float | None
    macs_share: float
    p50_ns: int | None = None
    passed: bool = False
    front: bool = False


@dataclass(frozen=True)
class Correction:
    """One step of ``--method auto`` that was tried on an int8 model: the SQNR with it, and whether it was kept.

    SQNR is that of all outputs on calibration samples that no step was fitted on; None where the step had nothing to do
    in this model.
    """

    name: str
    sqnr_db: float | None
    kept: bool


_ROW_COLUMNS = ("target", "precision", "status", "MB", "accuracy", "drop (points)", "SQNR (dB)", "p50 (ms)")


@dataclass(frozen=True, repr=False)
class BuildRow:
    """One target and precision of a build; what was not measured is None, with the reason in ``notes``.

    ``exit_code`` is that of the error which ended a failed row (``errors.py``). Intervals are of 95 %. ``model`` is the
    build's name and ``source_sha256`` the digest of the model it began with: reports keep models apart by it.
    ``evaluated_with`` is the engine, and its version, that accuracy and closeness were measured with, ``evaluated_isa``
    the instruction set of that host. ``command`` is what builds the row's bundle again, in words, from the
    folder that the build ran in.
    """

    target: str
    precision: Precision
    status: Literal["ok", "failed", "gate_missed"]
    reason: str | None = None
    bundle: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    accuracy: Accuracy | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    agreement: float | None = None
    n: int | None = None
    sqnr_ci95_db: tuple[float, float] | None = None
    cosine_ci95: tuple[float, float] | None = None
    agreement_ci95: tuple[float, float] | None = None
    latency_ns: Latency | None = None
    speedup_over_fp32: float | None = None
    speedup_ci95: tuple[float, float] | None = None
    measured_on: str | None = None
    exit_code: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    corrections: tuple[Correction, ...] = ()
    model: str = ""
    source_sha256: str = ""
    evaluated_with: str = ""
    evaluated_isa: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """Return target, precision, status with the reason, size, accuracy, drop, SQNR and p50 as short texts."""
        accuracy, p50 = self.accuracy, self.latency_ns.p50 if self.latency_ns else None
        return (
            self.target,
            self.precision,
            self.status if self.reason is None else f"{self.status}: {self.reason}",
            "" if self.size_bytes is None else f"{self.size_bytes / 1e6:.2f}",
            "" if accuracy is None else f"{accuracy.metric} {accuracy.value:.4g} (n={accuracy.n})",
            "" if accuracy is None else f"{100 * accuracy.drop:+.2f}",
            "" if self.sqnr_db is None else f"{self.sqnr_db:.1f}",
            "" if p50 is None else f"{p50 / 1e6:.3f}",
        )

    def __repr__(self) -> str:
        cells = (f"{name} {cell}" for name, cell in zip(_ROW_COLUMNS[3:], self.cells()[3:], strict=True) if cell)
        return f"<BuildRow {' '.join(self.cells()[:3])}; {', '.join(cells)}>"


@dataclass(frozen=True, repr=False)
class BuildResult:
    """What ``build`` returns, ``--json`` prints and ``build.json`` holds.

    ``lint`` is what was found about the calibration samples of an int8 build; its warnings are in ``warnings`` too.
    """

    name: str
    rows: tuple[BuildRow, ...]
    warnings: tuple[str, ...]
    out: str
    report: str | None
    versions: Mapping[str, str]
    stages_run: int
    stages_reused: int
    lint: Lint | None = None

    def __repr__(self) -> str:
        rows = "".join(f"\n  {row!r}" for row in self.rows)
        return f"<BuildResult {self.name}: {len(self.rows)} rows in {self.out}{rows}>"

    def _repr_html_(self) -> str:
        """Return a table of the rows, which notebooks show."""
        head = "".join(f"<th>{name}</th>" for name in _ROW_COLUMNS)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells()) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><caption>{html.escape(self.name)}</caption><tr>{head}</tr>{body}</table>"


@dataclass(frozen=True)
class LayerRecord:
    """One operator of the int8 model: its name and operator in the ONNX graph, and what its Q/DQ ask for.

    ``left`` says why a layer with weights was left in float. ``reads`` and ``makes`` are its first input and output
    tensor, by which an engine may name it. ``sqnr_db`` is of its output against the fp32 model's, in the whole int8
    model: it holds the noise of all layers before. It is None where ``identical`` is true, and where it was not
    measured. ``macs`` and ``weight_bytes`` are for a batch of 1.
    """

    name: str
    operator: str
    weighted: bool
    asked: Asked
    left: str | None = None
    reads: str = ""
    makes: str = ""
    sqnr_db: float | None = None
    identical: bool = False
    macs: int | None = None
    weight_bytes: int | None = None


@dataclass(frozen=True)
class LayerRecords:
    """The operators in graph order. ``samples`` were run by ``engine``, with Q/DQ computed as they are written."""

    samples: int
    engine: str
    layers: tuple[LayerRecord, ...]
    format: int = 1
