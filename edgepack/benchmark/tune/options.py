"""With which run options a bundle is measured: those asked for, else those tuned on this device, else the defaults."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgepack.benchmark import check_scenario
from edgepack.runtime.load import tuning_here
from edgepack.runtime.tuning import Tuning, about
from edgepack.specs.result import Result, Scenario
from edgepack.specs.run import RunOptions


def plan_of(bundle: Path, scenario: Scenario, options: RunOptions | None) -> tuple[Scenario, RunOptions, Tuning | None]:
    """Return how a bundle is to be measured, and the tuning that says so where there is one.

    A tuning for Offline brings its batch, unless another is asked for. Raises ``ConfigError`` for a scenario that makes
    no sense, and what ``tuning_here`` raises.
    """
    check_scenario(scenario)
    tuning = tuning_here(bundle, scenario.name) if options is None else None
    if tuning is None:
        return scenario, options or RunOptions(), None
    if scenario.name == "Offline" and scenario.batch == 1:
        scenario = dataclasses.replace(scenario, batch=tuning.batch)
    return scenario, tuning.options, tuning


def with_tuning(result: Result, tuning: Tuning | None) -> Result:
    """Return the result saying where its run options are from."""
    if tuning is None:
        return result
    note = f"run options as tuned on this device at {tuning.tuned_at}"
    return dataclasses.replace(result, tuned=about(tuning), notes=(*result.notes, note))
