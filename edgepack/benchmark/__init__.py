"""benchmark(): one bundle, one LoadGen scenario, one result."""

from __future__ import annotations

from pathlib import Path

from edgepack.errors import ConfigError
from edgepack.specs.result import Result, Scenario
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress

DEFAULT_DURATION_NS = 10_000_000_000
OFFICIAL_DURATION_NS = 600_000_000_000  # LoadGen's minimum duration
_MOST_LAUNCHES = 100


def benchmark(bundle: Path, scenario: Scenario, options: RunOptions, progress: Progress = no_progress) -> Result:
    """Measure a bundle by a LoadGen scenario, in ``scenario.launches`` fresh processes one after the other.

    Real inputs are fed: the bundle's golden ones in turn. Ends when the scenario's duration has passed and there are
    queries enough for its percentile, at the latest after twice the duration more or a minute. Server's search runs in
    this process, which should be a fresh one: call it through ``children.call``. The numbers are edgepack's own, by
    LoadGen's definitions; they are not MLPerf results.
    Raises ``ConfigError`` for an invalid scenario, and what loading the bundle raises.
    """
    check_scenario(scenario)
    if scenario.name == "Server":
        from edgepack.benchmark.measure.server import benchmark_server

        return benchmark_server(bundle, scenario, options, progress)
    from edgepack.benchmark.measure.launches import benchmark_launches

    return benchmark_launches(bundle, scenario, options, progress)


def check_scenario(scenario: Scenario) -> None:
    """Refuse settings that cannot be measured. Raises ``ConfigError``."""
    if scenario.duration_ns <= 0:
        raise ConfigError("the duration must be greater than 0", hint="give --duration 10s")
    if scenario.warmup_ns < 0:
        raise ConfigError("the warm-up cannot be negative", hint="give --warmup 1s")
    if scenario.queries < 1:
        raise ConfigError(f"the number of queries is {scenario.queries}", hint="give 1 or more")
    if not 1 <= scenario.launches <= _MOST_LAUNCHES:
        raise ConfigError(
            f"the number of launches is {scenario.launches}", hint=f"give 1 to {_MOST_LAUNCHES}; 5 is typical"
        )
    if scenario.batch != 1 and scenario.name != "Offline":
        raise ConfigError(
            f"--batch needs --scenario Offline; {scenario.name} has a fixed number of samples per query",
            hint="add --scenario Offline",
        )
    if scenario.steady_ns and scenario.name == "Server":
        raise ConfigError(
            "--until-steady cannot be used with Server", hint="measure SingleStream, MultiStream or Offline"
        )
    if scenario.name == "Server" and not (scenario.latency_bound_ns and scenario.latency_bound_ns > 0):
        raise ConfigError("Server needs a bound for its p99 latency", hint="add --latency-bound 20ms")
