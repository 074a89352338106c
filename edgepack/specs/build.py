"""What a build returns."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgepack.specs.changes import Changes
from edgepack.specs.data import Lint
from edgepack.specs.embed import EmbeddedCheck
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import Accuracy, ChangedAnswers
from edgepack.specs.types import Precision

_MOST_PAGE_BYTES = 4 << 20  # of a report that is put into a notebook, which keeps it
# A row's note on its latency begins so where it does not count.
DISTURBED = "disturbed: "
# A row's note on its latency where this host is not the row's target.
NOT_HERE = "not measured: no such device here"


@dataclass(frozen=True)
class Latency:
    """Nearest-rank percentiles of single-stream latency."""

    p50: int
    p90: int | None


@dataclass(frozen=True)
class Trial:
    """One way of quantizing that the search tried.

    ``left`` names the operators put back to fp32. ``macs_share`` is their share of all multiply-adds, an estimate of
    what they cost; ``p50_ns`` is the latency measured on this host, None where it was not. ``front`` says that no other
    trial is better in both accuracy and cost. ``change`` is the share of fp32's answers that changed.
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
    change: float | None = None


@dataclass(frozen=True)
class Correction:
    """One step of ``--method auto`` that was tried on an int8 model: the SQNR with it, and whether it was kept.

    SQNR is that of all outputs, their parts counting alike, on calibration samples that no step was fitted on; None
    where the step had nothing to do in this model, or failed: then ``reason`` says why.
    """

    name: str
    sqnr_db: float | None
    kept: bool
    reason: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What the model is that a row was made of, in fp32 and simplified.

    ``macs`` are the multiply-adds of one sample, None where a shape is not known.
    """

    parameters: int
    macs: int | None
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


_ROW_COLUMNS = ("target", "precision", "status", "MB", "accuracy", "drop", "SQNR (dB)", "p50 (ms)")


@dataclass(frozen=True, repr=False)
class BuildRow:
    """One target and precision of a build; what was not measured is None, with the reason in ``notes``.

    ``exit_code`` is that of the error which ended a failed row (``errors.py``). Intervals are of 95 %. ``model`` is the
    build's name and ``source_sha256`` the digest of the model it began with: reports keep models apart by it.
    ``mismatch`` is the share of values that differ in outputs that are decisions, None without one. ``evaluated_with``
    is the engine, and its version, that accuracy and closeness were measured with, ``evaluated_isa``
    the instruction set of that host. ``command`` is what builds the row's bundle again, in words, from the folder that
    the build ran in. ``balanced_sqnr_db`` is the SQNR in which all parts of all outputs count alike and what varies
    between samples is the signal; ``worst_output`` is the part that lost most. "poor" is a row below fp32 whose
    balanced SQNR is less than was asked for: its bundle is there, but nothing recommends it. "skipped" is a precision
    that the target does not offer. ``change`` says how many of fp32's answers are not given again.
    ``model_bytes`` is the size of the engines' own files in the bundle. ``embedded`` is what was put into the graph of
    its task, and how that compares with the outer way; None where nothing was. ``changes`` says which answers
    changed against fp32; None where that is not told of such answers.
    """

    target: str
    precision: Precision
    status: Literal["ok", "poor", "failed", "gate_missed", "skipped"]
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
    balanced_sqnr_db: float | None = None
    balanced_ci95_db: tuple[float, float] | None = None
    worst_output: str | None = None
    worst_output_db: float | None = None
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
    mismatch: float | None = None
    model_bytes: int | None = None
    facts: ModelFacts | None = None
    change: ChangedAnswers | None = None
    embedded: EmbeddedCheck | None = None
    changes: Changes | None = None

    @property
    def judged_sqnr_db(self) -> float | None:
        """Return the SQNR that a row is judged by: the balanced one, or that of the worst output where it alone is."""
        return self.sqnr_db if self.balanced_sqnr_db is None else self.balanced_sqnr_db

    def cells(self) -> tuple[str, ...]:
        """Return target, precision, status with the reason, size, accuracy, drop, SQNR and p50 as short texts."""
        accuracy, p50 = self.accuracy, self.latency_ns.p50 if self.latency_ns else None
        return (
            self.target,
            self.precision,
            self.status if self.reason is None else f"{self.status}: {self.reason}",
            "" if self.size_bytes is None else f"{self.size_bytes / 1e6:.2f}",
            "" if accuracy is None else f"{accuracy.metric} {accuracy.value:.4g} (n={accuracy.n})",
            "" if accuracy is None else f"{accuracy.drop:+.4g}",
            "" if self.judged_sqnr_db is None else f"{self.judged_sqnr_db:.1f}",
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
        """Return a table of the rows, which notebooks show, and below it the report's page, as it is in its file."""
        head = "".join(f"<th>{name}</th>" for name in _ROW_COLUMNS)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells()) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><caption>{html.escape(self.name)}</caption><tr>{head}</tr>{body}</table>{self._page()}"

    def _page(self) -> str:
        """Return the report in a frame of its own: its scripts reach nothing of the notebook."""
        path = Path(self.report) if self.report else None
        if path is None or not path.is_file() or path.stat().st_size > _MOST_PAGE_BYTES:
            return ""
        page, title = (html.escape(text) for text in (path.read_text(encoding="utf-8"), f"report of {self.name}"))
        style = "width:100%;height:760px;border:1px solid #ccc;border-radius:8px"
        return f'<iframe title="{title}" style="{style}" sandbox="allow-scripts" srcdoc="{page}"></iframe>'
