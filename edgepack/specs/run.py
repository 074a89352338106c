"""How a compiled model is run, and how far its answers are from the fp32 model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_ROUNDED = 1e-9  # figures are computed from others


@dataclass(frozen=True)
class RunOptions:
    """How to load a compiled model; ``tune`` searches all but ``device``. None is the engine's default.

    An engine without such a setting leaves it out. What else is known of an option stands in its ``metadata``, which
    ``base/run_options.py`` reads: ``help`` says what it does, ``least`` and ``most`` are its bounds, ``words`` are
    values that are said otherwise than by name and value, and ``flag`` says that the command line has it.
    """

    threads: int | None = field(
        default=None,
        metadata={"help": "Number of threads; without it the engine chooses.", "least": 1, "most": 1024, "flag": True},
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
    amx: bool | None = field(
        default=None,
        metadata={
            "help": "Compute in the processor's matrix tiles (AMX) where it has them; the first model that a process "
            "loads decides for all of it."
        },
    )


Change = tuple[str, Any]  # a field of RunOptions, or "batch", and a value of it


@dataclass(frozen=True)
class OutputDistance:
    """How far one output is from the fp32 model's, over the golden vectors or over an evaluation set.

    ``sqnr_db`` is 10 log10(sum ref^2 / sum (ref - out)^2), None when the outputs are identical (infinite) or when SQNR
    is not what they are compared by, which ``note`` then says. ``mismatch`` is the fraction of elements that differ,
    for outputs that are decisions (bool, whole numbers of 32 bits and more), ``tolerance_mismatch`` the largest that is
    allowed. ``nonfinite`` counts the values that are NaN or infinite in one of the two only. ``batch`` is how many
    samples were run at once. ``way`` is how it was run where that is not how the others were: another engine, or tuned.
    ``zero_within`` is so near to zero that values of this output count as zero; ``nearly_zero`` says that all fp32
    values are, and that the largest difference, not the SQNR, is what is judged, and right.
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
    tolerance_mismatch: float | None = None
    batch: int = 1
    way: str = ""
    zero_within: float = 0.0
    nearly_zero: bool = False

    @property
    def identical(self) -> bool:
        """Say whether no value differs at all."""
        return self.passed and not (self.max_abs or self.mismatch or self.nonfinite)


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
class ClassFigure:
    """A metric of one class, of which ``things`` are labelled (for masks: pixels), for fp32 and for this precision."""

    name: str
    things: int
    fp32: float
    value: float


@dataclass(frozen=True)
class Accuracy:
    """A metric measured on the same samples for fp32 and for this precision.

    ``drop`` is how much worse this precision is, in the metric's own unit: fp32 - value, or value - fp32 where less is
    better. Of a metric that is read as per cent all are fractions. ``ci95`` is the interval of that *paired*
    difference. ``metric`` is a name in verify/metrics or the user's module:function. ``truth`` says what answers were
    compared with: labels, or, where there were none, the answers of the fp32 model. ``classes`` has the classes by
    themselves where the metric is a mean over them: those that changed most first, at most 100.
    """

    metric: str
    n: int
    fp32: float
    value: float
    drop: float
    ci95: tuple[float, float]
    truth: Literal["labels", "fp32"] = "labels"
    classes: tuple[ClassFigure, ...] = ()

    @property
    def what(self) -> tuple[str, str]:
        """What was measured, and by which truth: figures of two are comparable where it is the same."""
        return self.metric, self.truth

    def drops_more_than(self, most: float) -> bool:
        """Return whether the drop is beyond ``most``: 0.99 less 0.98 is not, though it is 0.010000000000000009."""
        return self.drop > most + _ROUNDED * max(1.0, abs(self.fp32))


@dataclass(frozen=True)
class ChangedAnswers:
    """How many of fp32's answers another precision does not give again, on the same samples, without labels.

    ``answers`` says in words what is counted: boxes, classes, pixels and others. ``changed`` of the ``n`` that fp32
    gives on ``samples`` are not given again; ``unsure`` of these were found, but with a score too low to be shown.
    ``ci95`` is the interval of the share.
    """

    answers: str
    n: int
    changed: int
    samples: int
    ci95: tuple[float, float]
    unsure: int = 0

    @property
    def share(self) -> float:
        """Return the share of fp32's answers that changed."""
        return self.changed / self.n

    def more_than(self, most: float) -> bool:
        """Return whether the share is beyond ``most``."""
        return self.share > most + _ROUNDED
