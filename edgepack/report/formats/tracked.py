"""One run an entry for experiment trackers: what was chosen, what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import ToolchainError
from edgepack.report.entries import labels, make_groups
from edgepack.report.formats.records import record_of
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result

_LONGEST = 500  # letters of a parameter that every tracker takes
# Of a record: what a run was, and what its figures are; the rest says how they were had.
_PARAMETERS = (
    "model", "model_sha256", "target", "precision", "state", "reason", "bundle_sha256", "host", "engine",
    "engine_versions", "scenario", "batch", "threads", "metric",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One entry: its label, its parameters as text and its figures by name, in the units that the names say."""

    model: str
    label: str
    parameters: Mapping[str, str]
    figures: Mapping[str, float]


def make_runs(results: tuple[Result, ...], rows: tuple[BuildRow, ...]) -> tuple[Run, ...]:
    """Return a run for each entry of the report; what was not measured has no figure."""
    found = []
    for group in make_groups(results, rows):
        for entry, label in zip(group.entries, labels(group.entries), strict=True):
            record = record_of(group, entry)
            parameters = {k: str(record[k])[:_LONGEST] for k in _PARAMETERS if record[k] is not None}
            found.append(Run(group.title, label, parameters, _figures(record)))
    return tuple(found)


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    numbers = ((k, v) for k, v in record.items() if k not in _PARAMETERS and isinstance(v, int | float))
    return {key: float(value) for key, value in numbers if math.isfinite(value)}


def log_to_mlflow(runs: tuple[Run, ...], experiment: str, files: tuple[Path, ...]) -> None:
    """Log the runs below one that has the reports as artifacts. Where to is MLflow's own MLFLOW_TRACKING_URI.

    Raises ``ToolchainError`` where MLflow is not installed.
    """
    try:
        import mlflow
    except ImportError:
        raise ToolchainError("MLflow is not installed", hint="pip install 'edgepack[mlflow]'") from None
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name="edgepack report"):
        for file in files:
            mlflow.log_artifact(str(file))
        for run in runs:
            with _nested(mlflow.start_run, f"{run.model} {run.label}"):
                mlflow.log_params(dict(run.parameters))
                mlflow.log_metrics(dict(run.figures))


def _nested(start: Callable[..., AbstractContextManager[Any]], name: str) -> AbstractContextManager[Any]:
    return start(run_name=name[:_LONGEST], nested=True)


def log_to_wandb(runs: tuple[Run, ...], project: str, files: tuple[Path, ...]) -> None:
    """Log each run to a project of Weights & Biases; the first one has the reports as files.

    WANDB_MODE=offline keeps them here. Raises ``ToolchainError`` where it is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise ToolchainError("Weights & Biases is not installed", hint="pip install 'edgepack[wandb]'") from None
    for number, run in enumerate(runs):
        name = f"{run.model} {run.label}"[:_LONGEST]
        with wandb.init(project=project, name=name, config=dict(run.parameters), reinit="finish_previous") as logged:
            logged.summary.update(dict(run.figures))
            for file in files if number == 0 else ():
                logged.save(str(file.absolute()), base_path=str(file.absolute().parent), policy="now")
