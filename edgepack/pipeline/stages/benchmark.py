"""Measures the bundles of a build on this host, in turn, and their speed-up over fp32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.base.stage import stage
from edgepack.benchmark.measure.interleave import Row, measure_rows
from edgepack.engines.targets import is_this_host
from edgepack.errors import EdgepackError
from edgepack.execution.runner import StageRunner
from edgepack.pipeline.toolchain import tool_versions
from edgepack.specs.build import BuildRow
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target
from edgepack.specs.types import Progress, no_progress


@dataclass(frozen=True)
class Measured:
    """Measurements by "target precision"; ``reason`` says why there are none."""

    rows: Mapping[str, Row] = field(default_factory=dict)
    reason: str | None = None


def _installed_engines(*_arguments: object) -> dict[str, str]:
    """Return the versions of all engines that are installed: bundles say only which kind they need."""
    return tool_versions()


@stage("benchmark", host="speed", depends=_installed_engines)
def measure_bundles(
    names: tuple[str, ...],
    bundles: tuple[Path, ...],
    duration_ns: int,
    seed: int,
    out: Path,  # noqa: ARG001
    progress: Progress = no_progress,
) -> Measured:
    """Measure every bundle; each has a process of its own, one works at a time."""
    rows = measure_rows(bundles, duration_ns, RunOptions(), seed, progress)
    return Measured(dict(zip(names, rows, strict=True)))


def measure_rows_here(
    runner: StageRunner, targets: tuple[Target, ...], rows: tuple[BuildRow, ...], duration_s: float, seed: int
) -> Measured:
    """Return the measurements of the rows whose device is this host; a failure to measure is a reason, not an error."""
    here = {target.id for target in targets if is_this_host(target)}
    chosen = [row for row in rows if row.bundle is not None and row.target in here]
    if not chosen:
        return Measured()
    names = tuple(f"{row.target} {row.precision}" for row in chosen)
    bundles = tuple(Path(row.bundle or "") for row in chosen)
    try:
        return runner.run(
            measure_bundles, names, bundles, int(duration_s * 1e9), seed, title=f"{len(chosen)} bundles in turn"
        )
    except EdgepackError as error:
        return Measured(reason=f"not measured: {error.message}")
