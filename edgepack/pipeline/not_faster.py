"""Says of a row that is not faster than fp32 on its target why, by layer, and what to take instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.stage import stage
from edgepack.engines import ENGINES
from edgepack.errors import EdgepackError
from edgepack.execution.runner import StageRunner
from edgepack.pipeline.toolchain import tool_versions
from edgepack.profiling.layers import report_layers
from edgepack.specs.build import BuildRow
from edgepack.specs.run import RunOptions

_MOST = 3  # layers that are named
_LEAST_SHARE = 0.02  # of the time, for a layer or for conversions to be named
_LONGEST = 40  # letters of a layer's name
NOTE = "not faster"


@dataclass(frozen=True)
class CostlyLayer:
    """A layer that int8 gains nothing at, or little: its share of the time with that of the engine's node, and why."""

    name: str
    operator: str
    time_share: float
    reason: str


@dataclass(frozen=True)
class Costs:
    """Where the time of a bundle goes on this host: shares of all nodes' time; the layers with the largest first."""

    conversion_share: float
    layers: tuple[CostlyLayer, ...]


def _installed_engines(*_arguments: object) -> dict[str, str]:
    return tool_versions()


@stage("costs", host="speed", depends=_installed_engines)
def find_costs(bundle: Path, out: Path) -> Costs:  # noqa: ARG001 - a stage has a folder
    """Run a bundle with the engine's profiler on; return what keeps it from being fast.

    Raises what ``load`` raises; ``ConfigError`` for an engine that does not tell.
    """
    found = report_layers(bundle, RunOptions())
    layers = [
        CostlyLayer(layer.name, layer.operator, layer.time_share, layer.reason)
        for layer in found.layers
        if layer.reason is not None and layer.time_share is not None and layer.time_share >= _LEAST_SHARE
    ]
    return Costs(found.conversion_share, tuple(sorted(layers, key=lambda layer: (-layer.time_share, layer.name))))


def is_not_faster(row: BuildRow) -> bool:
    """Say whether a row was measured and is not faster than fp32 beyond the interval."""
    if row.precision == "fp32" or row.speedup_over_fp32 is None:
        return False
    low, _ = row.speedup_ci95 or (row.speedup_over_fp32, row.speedup_over_fp32)
    return low <= 1


def explain(runner: StageRunner, rows: Iterable[BuildRow], engines: Mapping[str, str]) -> tuple[BuildRow, ...]:
    """Return the rows; those that are not faster than fp32 say so, why, and that fp32 is recommended.

    ``engines`` names the engine of each target.
    """
    return tuple(_explained(runner, row, engines[row.target]) if is_not_faster(row) else row for row in rows)


def _explained(runner: StageRunner, row: BuildRow, engine: str) -> BuildRow:
    return dataclasses.replace(row, notes={**row.notes, NOTE: f"{_ratio_in_words(row)}; {_why(runner, row, engine)}"})


def _why(runner: StageRunner, row: BuildRow, engine: str) -> str:
    if not ENGINES.get(engine).layers:
        return f"why is not known: {engine} does not report what it executes"
    try:
        costs = runner.run(find_costs, Path(row.bundle or ""), title=f"of each layer, {row.target} {row.precision}")
    except EdgepackError as error:
        return f"why is not known: {error.message}"
    return costs_in_words(costs)


def _ratio_in_words(row: BuildRow) -> str:
    ratio, interval = row.speedup_over_fp32 or 0.0, row.speedup_ci95
    how = "slower" if (interval[1] if interval else ratio) < 1 else "not surely faster"
    spread = f", 95 % interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
    return f"{row.precision} is {how} than fp32 here ({ratio:.2f} times as fast{spread}): fp32 is recommended"


def costs_in_words(costs: Costs) -> str:
    """Return where the time goes: conversions, then the layers that cost most, those of one reason together."""
    words = []
    if costs.conversion_share >= _LEAST_SHARE:
        words.append(f"conversions between precisions take {100 * costs.conversion_share:.0f} % of the time")
    kinds: dict[str, list[CostlyLayer]] = {}
    for layer in costs.layers[:_MOST]:
        kinds.setdefault(layer.reason.partition(":")[0], []).append(layer)
    words += [_kind_in_words(kind, layers) for kind, layers in kinds.items()]
    return "; ".join(words) or "no layer stands out: the model is too small, or bound by memory"


def _kind_in_words(kind: str, layers: Sequence[CostlyLayer]) -> str:
    """Return the names of layers, their share of the time, and the reason; its details where they are all the same."""
    names = ", ".join(f"{layer.operator} {_short(layer.name)}" for layer in layers)
    reasons = {layer.reason for layer in layers}
    reason = reasons.pop() if len(reasons) == 1 else kind
    return f"{names} ({100 * sum(layer.time_share for layer in layers):.0f} %): {reason}"


def _short(name: str) -> str:
    """Return the first of the names that an exporter joined by semicolons, without its middle where it is long."""
    first = name.partition(";")[0]
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST // 2 - 1]}…{first[-_LONGEST // 2 :]}"
