"""Measures several bundles in turn, in rounds, so that what slows the machine slows all of them alike.

Each bundle is held by a process of its own and only one measures at a time. The speed-up over fp32 is taken round by
round, so that it does not depend on how busy the machine was.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.files import scratch_folder
from edgepack.benchmark.machine import energy, validity
from edgepack.benchmark.machine.state import facts
from edgepack.benchmark.machine.usage import usage
from edgepack.benchmark.measure import session, summary
from edgepack.benchmark.measure.worker import Block, Closing, Measured, Open, Opened
from edgepack.benchmark.measure.worker_pool import Asked, Worker, close_all
from edgepack.benchmark.statistics.bootstrap import mean_interval
from edgepack.errors import EdgepackError
from edgepack.specs.result import Memory, Result, Scenario
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ROUND_NS = 100_000_000  # of each bundle in a round
_LEAST_ROUNDS = 8
_BLOCK_QUERIES = 2
_LEAST_QUERIES = 64  # for p90, by early stopping
_PATIENCE = 4  # times the duration, for those queries
_LONGEST_BLOCK_NS = 10_000_000_000
_NO_ENERGY = "not measured: several bundles took turns; 'edgepack benchmark BUNDLE' measures it"
_WARMUP_SHARE = 5
_ONE_PROCESS = "in one process: how much another load would differ is not in the intervals"
_SPINNING = 0.05
_RESIDENT_PER_FILE_BYTE = 4
_RESIDENT_BYTES = 200 << 20


@dataclass(frozen=True)
class Speedup:
    """Time of ``over`` (a bundle's sha256) divided by the time of this bundle; above 1 this one is faster."""

    ratio: float
    ci95: tuple[float, float] | None
    over: str


@dataclass(frozen=True)
class Row:
    """One bundle's outcome; ``result`` is None with the ``reason`` when it could not be measured."""

    bundle: Path
    result: Result | None
    reason: str | None
    speedup: Speedup | None


@dataclass
class _Turn:
    """One bundle's worker and what it has measured so far."""

    bundle: Path
    worker: Asked
    opened: Opened
    blocks: list[Measured] = field(default_factory=list)
    failure: str | None = None
    memory: Memory | None = None


def measure_rows(
    bundles: tuple[Path, ...],
    duration_ns: int,
    options: RunOptions,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[Row, ...]:
    """Measure single-stream latency of each bundle for ``duration_ns``, in turn; return one row each, in their order.

    A bundle that cannot be loaded or whose process dies costs its row. The speed-up is over the fp32 bundle of the same
    target; its interval is of rounds in one process each, so differences between two loads of the same bundle are not
    in it: ``compare`` measures those too. Bundles whose memory does not fit together are measured a target at a time.
    """
    scenario = Scenario("SingleStream", duration_ns, max(duration_ns // _WARMUP_SHARE, 1), seed=seed, launches=1)
    rows: dict[Path, Row] = {}
    with scratch_folder() as folder:
        groups = groups_that_fit(bundles, facts().get("memory_available_bytes"))
        for number, group in enumerate(groups):

            def start(bundle: Path, number: int = number) -> Worker:
                return Worker(folder / f"{number}-{bundle.stem}.log")

            def tell(done: int, total: int, number: int = number) -> None:
                progress("benchmark", number * total + done, len(groups) * total)

            rows |= measure_group(group, scenario, options, start, tell)
    return tuple(rows[bundle] for bundle in bundles)


def measure_group(
    bundles: Sequence[Path],
    scenario: Scenario,
    options: RunOptions,
    start: Callable[[Path], Asked],
    tell: Callable[[int, int], None],
) -> dict[Path, Row]:
    """Measure bundles in turn by the workers that ``start`` makes; ``tell`` is called with rounds done and in all."""
    rows: dict[Path, Row] = {}
    turns: list[_Turn] = []
    try:
        for bundle in dict.fromkeys(bundles):
            worker = start(bundle)
            try:
                turns.append(_Turn(bundle, worker, worker.ask(Open(bundle, scenario, options))))
            except EdgepackError as error:
                rows[bundle] = Row(bundle, None, f"{error.message} ({error.hint})", None)
                worker.close()
        around = _run_rounds(turns, scenario, tell)
        rows |= {turn.bundle: _row(turn, turns, scenario, around) for turn in turns}
    finally:
        close_all([turn.worker for turn in turns])
    return rows


def _run_rounds(turns: list[_Turn], scenario: Scenario, tell: Callable[[int, int], None]) -> summary.Circumstances:
    """Measure all rounds and return what surrounded them; what is each bundle's own is filled in by ``_row``."""
    before, began, used = facts(), session.clock_s(), usage()
    measured_at = session.utc_now()
    _rounds(turns, scenario, tell)
    wall, own = session.clock_s() - began, usage() - used
    own = sum((block.used + block.at_rest for turn in turns for block in turn.blocks), own)
    sensor, source = energy.find_sensor()
    return summary.Circumstances(
        before=before,
        after=facts(),
        run=validity.Run(wall, own, session.machine_cores()),
        measured_at=measured_at,
        warmup_queries=0,
        warmup_ns=0,
        warmup_stable=True,
        memory=None,
        energy_uj=None,
        energy_source=source if sensor is None else _NO_ENERGY,
    )


def _rounds(turns: list[_Turn], scenario: Scenario, tell: Callable[[int, int], None]) -> None:
    """Let the bundles take turns, every other round in reverse order, until each has its duration and its queries."""
    total = max(_LEAST_ROUNDS, math.ceil(scenario.duration_ns / _ROUND_NS))
    request = Block(max(scenario.duration_ns // total, 1), _BLOCK_QUERIES, max(scenario.duration_ns, _LONGEST_BLOCK_NS))
    number = 0
    while waiting := [turn for turn in turns if not _has_enough(turn, scenario)]:
        for turn in waiting if number % 2 == 0 else reversed(waiting):
            try:
                turn.blocks.append(turn.worker.ask(request))
            except EdgepackError as error:
                turn.failure = f"{error.message} ({error.hint})"
        number += 1
        tell(min(number, total), total)
    tell(total, total)  # where queries are slow, fewer rounds fill the duration
    for turn in turns:
        if turn.failure is None:
            turn.memory = turn.worker.ask(Closing()).memory


def _has_enough(turn: _Turn, scenario: Scenario) -> bool:
    passed = sum(block.duration_ns for block in turn.blocks)
    queries = sum(len(block.latencies_ns) for block in turn.blocks)
    patience = _PATIENCE * scenario.duration_ns
    return (
        turn.failure is not None or (passed >= scenario.duration_ns and queries >= _LEAST_QUERIES) or passed >= patience
    )


def _row(turn: _Turn, turns: Sequence[_Turn], scenario: Scenario, around: summary.Circumstances) -> Row:
    if turn.failure is not None:
        return Row(turn.bundle, None, turn.failure, None)
    latencies = np.concatenate([np.array(block.latencies_ns, dtype=np.int64) for block in turn.blocks])
    notes = [*turn.opened.notes, f"measured in turn with {len(turns) - 1} other bundles, {_ONE_PROCESS}"]
    waiting = sum(block.at_rest.cpu_s for block in turn.blocks[1:])
    if waiting > _SPINNING * around.run.wall_s:
        notes.append(f"the engine used {waiting:.1f} s of CPU while the others were measured: its threads spin")
    warmup = turn.opened.warmup
    own = dataclasses.replace(
        around,
        warmup_queries=warmup.queries,
        warmup_ns=warmup.duration_ns,
        warmup_stable=warmup.stable,
        memory=turn.memory,
        notes=tuple(notes),
    )
    duration_ns = sum(block.duration_ns for block in turn.blocks)
    result = summary.summarise(turn.opened.subject, scenario, latencies, duration_ns, own)
    return Row(turn.bundle, result, None, _speedup(turn, turns, scenario.seed))


def _speedup(turn: _Turn, turns: Sequence[_Turn], seed: int) -> Speedup | None:
    """Return the speed-up over the fp32 bundle of the same model and target; None where there is none."""
    mine = turn.opened.subject
    for other in turns:
        over = other.opened.subject
        same = (over.manifest.target, over.manifest.source_sha256) == (
            mine.manifest.target,
            mine.manifest.source_sha256,
        )
        if same and over.manifest.precision == "fp32" and other.failure is None:
            if other is turn:
                return Speedup(1.0, None, over.sha256)
            ratio, interval = paired_ratio(_medians(other), _medians(turn), seed)
            return Speedup(ratio, interval, over.sha256)
    return None


def _medians(turn: _Turn) -> list[float]:
    return [statistics.median(block.latencies_ns) for block in turn.blocks]


def paired_ratio(
    numerator: Sequence[float], denominator: Sequence[float], seed: int
) -> tuple[float, tuple[float, float] | None]:
    """Return the geometric mean of the rounds' ratios and its 95 % interval by block bootstrap, None below 8 rounds."""
    logs = np.log([max(a, 1.0) / max(b, 1.0) for a, b in zip(numerator, denominator, strict=False)])
    interval = mean_interval(logs, seed)
    ends = (math.exp(interval.ends[0]), math.exp(interval.ends[1])) if interval else None
    return math.exp(float(logs.mean())), ends


def groups_that_fit(bundles: Sequence[Path], available_bytes: float | None) -> list[tuple[Path, ...]]:
    """Return the bundles in one group, or a target at a time when all would take over half of the free memory."""
    needed = sum(_RESIDENT_BYTES + _RESIDENT_PER_FILE_BYTE * _size(bundle) for bundle in bundles)
    if available_bytes is None or needed <= available_bytes / 2:
        return [tuple(bundles)] if bundles else []
    by_target: dict[str, list[Path]] = {}
    for bundle in bundles:
        by_target.setdefault(_target(bundle), []).append(bundle)
    return [tuple(group) for group in by_target.values()]


def _size(bundle: Path) -> int:
    return bundle.stat().st_size if bundle.is_file() else 0


def _target(bundle: Path) -> str:
    """Return the target of a bundle; a bundle that cannot be opened is a group of its own, and its row says why."""
    from edgepack.bundle.archive import open_bundle

    try:
        return open_bundle(bundle).manifest.target
    except EdgepackError:
        return str(bundle)
