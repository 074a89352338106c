"""``--loadgen``: MLCommons' LoadGen drives the same runner, so that edgepack's own loop can be compared with it.

Needs the package mlcommons-loadgen, which is imported here only. The result is not an MLPerf result: nothing was
submitted or reviewed, and the model and the samples are the bundle's own.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.files import scratch_folder
from edgepack.benchmark.statistics.percentiles import queries_needed
from edgepack.errors import ConfigError, EdgepackError, ToolchainError
from edgepack.specs.result import Percentile, Result, Scenario
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from edgepack.benchmark.measure.session import Session

_SUMMARY = "mlperf_log_summary.txt"
_PERCENTILE = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,4})?) percentile latency \(ns\)")
_THROUGHPUT = ("Completed samples per second", "Samples per second", "QPS w/o loadgen overhead")
_MEAN = "Mean latency (ns)"
_WHOLE = re.compile(r"[0-9]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:e[+-]?[0-9]{1,2})?")
_LOGGED = re.compile(r"^[ \t]*(\d{1,9}) ERRORS? encountered", re.MULTILINE | re.IGNORECASE)
_NO_AUDIT = "no-audit.config"  # LoadGen looks for this file and finds none


@dataclass(frozen=True)
class LoadgenRun:
    """What LoadGen's summary says: percentiles of latency in ns, without intervals, and samples per second.

    ``latencies_ns`` are the runner's own, as timed inside LoadGen's calls: without what LoadGen adds.
    """

    percentiles: tuple[Percentile, ...]
    samples_per_second: float | None
    queries: int
    summary: str
    latencies_ns: tuple[int, ...] = ()


def benchmark_with_loadgen(
    bundle: Path, scenario: Scenario, options: RunOptions, progress: Progress = no_progress
) -> Result:
    """``benchmark`` with LoadGen in place of edgepack's own loop: percentiles and throughput are LoadGen's.

    They have no intervals, because LoadGen's summary keeps no single latencies. For Server edgepack's own search finds
    the rate, and LoadGen then tries that rate.
    """
    from edgepack.benchmark import check_scenario
    from edgepack.benchmark.machine import validity
    from edgepack.benchmark.machine.state import facts
    from edgepack.benchmark.machine.usage import usage
    from edgepack.benchmark.measure import session, summary

    check_scenario(scenario)
    loaded = session.open_session(bundle, scenario, options)
    try:
        warmup = session.warm_up(loaded, scenario)
        before, began, used = facts(), session.clock_s(), usage()
        rate = _server_rate(loaded, scenario, progress) if scenario.name == "Server" else None
        progress("LoadGen", 0, 0)
        found = run_loadgen(loaded.issue, loaded.queries, scenario, summary.samples_per_query(scenario), rate)
        wall_s = session.clock_s() - began
        around = summary.Circumstances(
            before=before,
            after=facts(),
            run=validity.Run(wall_s, usage() - used, session.machine_cores()),
            measured_at=session.utc_now(),
            warmup_queries=warmup.queries,
            warmup_ns=warmup.duration_ns,
            warmup_stable=warmup.stable,
            memory=session.used_memory(loaded.resident),
            energy_uj=None,
            energy_source="not measured with LoadGen",
            notes=(*loaded.notes, "driven by MLCommons' LoadGen; this is not an MLPerf result"),
        )
        latencies = np.array(found.latencies_ns, dtype=np.int64)
        result = summary.summarise(
            loaded.subject, scenario, latencies, round(wall_s * 1e9), around, rate=found.samples_per_second
        )
        reasons = (*result.invalid_reasons, *problems(found.summary))
        return dataclasses.replace(result, percentiles=found.percentiles, valid=not reasons, invalid_reasons=reasons)
    finally:
        loaded.close()


def run_loadgen(
    issue: Callable[[Any], Any],
    queries: Sequence[Any],
    scenario: Scenario,
    samples_per_query: int,
    server_rate: float | None = None,
) -> LoadgenRun:
    """Let LoadGen issue ``queries``, each of ``samples_per_query`` samples, by the scenario's own rules.

    LoadGen's sample number i stands for query i, and ``issue`` is called once for each query it issues (for Offline:
    until all its samples are done). Server is tried at ``server_rate`` queries a second. Raises ``ToolchainError``
    without the package, ``ConfigError`` for Server without a rate.
    """
    if scenario.name == "Server" and not server_rate:
        raise ConfigError(
            "LoadGen's Server needs a rate to try, and none keeps the bound", hint="give a longer --latency-bound"
        )
    lg = _import_loadgen()
    rate = _probe(issue, queries[0], samples_per_query)
    latencies: list[int] = []
    failures: list[Exception] = []

    def on_query(samples: Sequence[Any]) -> None:
        try:
            for start in range(0, len(samples) if not failures else 0, samples_per_query):
                query = queries[samples[start].index % len(queries)]
                began = time.perf_counter_ns()
                issue(query)
                latencies.append(time.perf_counter_ns() - began)
        except Exception as error:  # it must not leave LoadGen's C++ frames; it is raised again below
            failures.append(error)
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

    with scratch_folder("edgepack-loadgen-") as folder:
        system, library = (
            lg.ConstructSUT(on_query, _nothing),
            lg.ConstructQSL(len(queries), len(queries), _nothing, _nothing),
        )
        try:
            settings, logs = _test_settings(lg, scenario, rate, server_rate), _log_settings(lg, str(folder))
            lg.StartTestWithLogSettings(system, library, settings, logs, str(folder / _NO_AUDIT))
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        summary = (folder / _SUMMARY).read_text()
    if failures:
        raise failures[0]
    return dataclasses.replace(parse_summary(summary, len(latencies), samples_per_query), latencies_ns=tuple(latencies))


def parse_summary(summary: str, queries: int, samples_per_query: int) -> LoadgenRun:
    """Return what stands in ``mlperf_log_summary.txt``. Raises ``EdgepackError`` when it holds no latencies."""
    fields = summary_fields(summary)
    named = ((_PERCENTILE.fullmatch(key), value) for key, value in fields.items())
    found = {float(key[1]): int(value) for key, value in named if key and _WHOLE.fullmatch(value)}
    if not found:
        raise EdgepackError("LoadGen's summary holds no latencies", hint=summary.strip()[-300:] or "it is empty")
    rate = next((float(fields[key]) for key in _THROUGHPUT if _DECIMAL.fullmatch(fields.get(key, ""))), None)
    mean = fields.get(_MEAN, "")
    if rate is None and _WHOLE.fullmatch(mean) and int(mean):
        rate = samples_per_query * 1e9 / int(mean)
    percentiles = tuple(
        Percentile(p, value if queries >= queries_needed(p) else None, None, queries_needed(p))
        for p, value in sorted(found.items())
    )
    return LoadgenRun(percentiles, rate, queries, summary)


def summary_fields(summary: str) -> dict[str, str]:
    """Return what stands before and after the first colon of each line; of a key that comes twice the last."""
    pairs = (line.partition(":") for line in summary.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def problems(summary: str, logged: int = 0) -> tuple[str, ...]:
    """Return why a run does not count by what ``mlperf_log_summary.txt`` says; ``logged`` errors are in its detail log.

    LoadGen calls a run valid by its durations and numbers of queries alone (mlcommons/inference, number 460), so that
    errors while it ran stand beside "VALID"; a run that was stopped has no verdict.
    """
    found = []
    fields = {key: value for key, value in summary_fields(summary).items() if len(value.split()) == 1}
    verdict = fields.get("Result is")
    failed = [key.removesuffix(" satisfied") for key, value in fields.items() if key.endswith(" satisfied")
              and value.upper() == "NO"]  # fmt: skip
    if verdict is None:
        found.append("LoadGen's summary has no verdict: the run was stopped, or it is not a performance run")
    elif verdict != "VALID" or failed:
        found.append(f"LoadGen calls it invalid: not satisfied are {', '.join(failed) or 'its rules'}")
    if (mode := fields.get("Mode", "PerformanceOnly")) != "PerformanceOnly":
        found.append(f"LoadGen ran in the mode {mode[:40]!r}, which is not one of performance alone")
    errors = max(logged, int(match[1]) if (match := _LOGGED.search(summary)) else 0)
    if errors:
        found.append(f"LoadGen logged {errors} error{'s' if errors > 1 else ''}: see its detailed log")
    return tuple(found)


def _probe(issue: Callable[[Any], Any], query: Any, samples_per_query: int) -> float:
    """Return about how many samples a second the runner does; LoadGen sizes Offline's only query by it."""
    began = time.perf_counter_ns()
    issue(query)
    return samples_per_query * 1e9 / max(time.perf_counter_ns() - began, 1)


def _server_rate(loaded: Session, scenario: Scenario, progress: Progress) -> float:
    from edgepack.benchmark.measure.server import find_rate

    return find_rate(loaded.issue, loaded.queries, scenario, progress).rate


def _test_settings(lg: Any, scenario: Scenario, rate: float, server_rate: float | None) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario.name)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = max(scenario.duration_ns // 1_000_000, 1)
    settings.min_query_count = scenario.queries
    settings.offline_expected_qps = rate
    if server_rate is not None and scenario.latency_bound_ns is not None:
        settings.server_target_qps = server_rate
        settings.server_target_latency_ns = scenario.latency_bound_ns
        settings.server_target_latency_percentile = 0.99
        settings.min_query_count = max(scenario.queries, queries_needed(99.0))
    settings.sample_index_rng_seed = settings.schedule_rng_seed = settings.qsl_rng_seed = scenario.seed
    return settings


def _log_settings(lg: Any, folder: str) -> Any:
    output = lg.LogOutputSettings()
    output.outdir = folder
    output.copy_summary_to_stdout = False
    settings = lg.LogSettings()
    settings.log_output = output
    settings.enable_trace = False
    return settings


def _import_loadgen() -> Any:
    try:
        return importlib.import_module("mlperf_loadgen")
    except ImportError as error:
        raise ToolchainError("LoadGen is not installed", hint="pip install mlcommons-loadgen") from error


def _nothing(*_: Any) -> None:
    """Stand in for what LoadGen calls and edgepack does not need: its samples are in memory already."""
