"""Samples, how they are prepared, and what was found and measured on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgepack.specs.task import Task
from edgepack.specs.types import Observer


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the model's input: resize, crop, then ``(pixel * scale - mean) / std``.

    ``pixel`` is 0..255. ``resize_short`` scales the shorter side to that many pixels keeping the aspect ratio;
    ``resize`` is an exact (height, width); at most one of the two. ``crop`` is a centre crop (height, width).
    ``mean`` and ``std`` have one entry per channel, in the order of ``color``. ``resampler`` is whose definition of
    ``interpolation`` it is: Pillow's filters widen when they shrink a picture, OpenCV's do not (``data/resample.py``).

    With ``letterbox`` the picture keeps its aspect ratio within ``resize``, is made larger only with ``scale_up``, lies
    at ``anchor`` and is surrounded by pixels of the value ``pad``; ``rounding`` is that of its sides. ``stride`` pads
    only to a multiple of it, for a model whose sides are free, and to ``least_width`` at least. With ``fixed_height``
    every picture becomes as high as ``resize``, and one that is then too wide is squeezed: a model reads lines of text
    of one height.
    """

    resize_short: int | None = None
    resize: tuple[int, int] | None = None
    interpolation: Literal["nearest", "area", "bilinear", "bicubic", "lanczos"] = "bilinear"
    crop: tuple[int, int] | None = None
    color: Literal["RGB", "BGR", "L"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    dtype: Literal["float32", "uint8"] = "float32"
    resampler: Literal["pillow", "opencv"] = "pillow"
    letterbox: bool = False
    pad: int = 114
    anchor: Literal["center", "top-left"] = "center"
    scale_up: bool = True
    rounding: Literal["nearest", "down"] = "nearest"
    stride: int | None = None
    fixed_height: bool = False
    least_width: int | None = None


@dataclass(frozen=True)
class Recipe:
    """One calibration recipe, ``calibration/<name>.toml``.

    ``classes`` names a file with one class of the task in a line, beside the recipe. ``outputs`` are those of the
    model's that are used, in this order; the others are left out of what is built. Without it all are used.
    """

    name: str
    title: str
    preprocessing: Preprocessing | None = None
    samples: int = 256
    observer: Observer = "auto"
    percentile: float = 99.99
    sources: Mapping[str, str] = field(default_factory=dict)
    task: Task | None = None
    classes: str = ""
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleSet:
    """Which samples of which source, in which order; the samples themselves are read when they are needed.

    ``sha256`` covers the contents of the chosen samples, their labels, and the preprocessing. ``indices`` counts
    in the source's own sorted order. ``kind`` is a row of ``data.samples.SOURCES``. ``classes`` are the names of
    classes, in label order, where the source or the task knows them. ``task`` is what labels are read for. ``skipped``
    says what was left out of the source because it is broken, ``notes`` what else is to be known about it.
    """

    source: str
    kind: str
    sha256: str
    indices: tuple[int, ...]
    labelled: bool
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    task: Task | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What one check of a calibration set found; a warning has a ``hint`` that says what to change.

    ``check`` is what it is about: files, copies, overlap, channels, labels, range, preprocessing, texts, samples, or
    what a check of another package names. ``proven``: it was measured on labels that the fp32 model itself answers far
    worse than it can, so that no accuracy on these samples is to be believed.
    """

    check: str
    severity: Literal["warning", "note"]
    message: str
    hint: str | None = None
    proven: bool = False


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
    ``chosen``: the observer whose range it is, where one of several was chosen.
    """

    minimum: float
    maximum: float
    low: float
    high: float
    magnitude: float
    chosen: str = ""


@dataclass(frozen=True)
class TensorStatistics:
    """What was counted of one tensor: its extremes, and how often each code of calibrate/histogram.py occurs.

    ``values``: whether there were any, and whether all were finite; the extremes are 0 where not. ``counts`` is base64
    of zlib of little-endian int64 rows: a page's number and its 512 counts.
    """

    values: Literal["finite", "empty", "infinite"]
    minimum: float
    maximum: float
    counts: str


@dataclass(frozen=True)
class SampleStatistics:
    """Statistics of activations over samples that may be elsewhere; documents of one model merge exactly.

    ``data_sha256`` has one digest for each set of samples that was counted.
    """

    format: int
    model_sha256: str
    data_sha256: tuple[str, ...]
    samples: int
    tensors: Mapping[str, TensorStatistics]
    tools: Mapping[str, str] = field(default_factory=dict)


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
