"""compare(): is bundle B faster than bundle A here? Paired measurements in turn, several pairs of fresh processes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgepack.base.files import scratch_folder
from edgepack.benchmark.machine import validity
from edgepack.benchmark.machine.state import facts
from edgepack.benchmark.machine.usage import Usage
from edgepack.benchmark.measure import session
from edgepack.benchmark.measure.summary import elsewhere
from edgepack.benchmark.measure.worker import Block, Measured, Open, Opened
from edgepack.benchmark.measure.worker_pool import Asked, Worker, close_all
from edgepack.benchmark.statistics import verdict
from edgepack.benchmark.statistics.verdict import Decision, Verdict
from edgepack.errors import ConfigError
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Cost: TypeAlias = "Callable[[Measured], float]"

FORMAT = 1
DEFAULT_DURATION_NS = 60_000_000_000
_LEAST_DURATION_NS = 1_000_000_000
# Short turns: the less time there is between two that are compared, the more of what disturbs them is the same.
_BLOCK_NS = 10_000_000
_REFRESH_NS = 3_000_000
_BLOCK_QUERIES = 2
_ROUNDS = 32  # of one launch, at least
_LAUNCHES = 12  # planned, where the duration allows
_LAUNCH_NS = 5_000_000_000  # of a longer duration: then more of them, since the interval is made of launches
_WARMUP_NS = 200_000_000
_LONGEST_BLOCK_NS = 10_000_000_000


@dataclass(frozen=True)
class Side:
    """One of the two compared. ``median_ns`` is over the medians of all its rounds."""

    bundle: str
    sha256: str
    target: str
    precision: str
    engine: str
    versions: Mapping[str, str]
    size_bytes: int
    source_sha256: str
    median_ns: int
    queries: int


@dataclass(frozen=True)
class Comparison:
    """``ratio`` is the time of B over the time of A: below 1 B is faster; ``ci95`` is its interval.

    ``verdict`` is about B: "faster" or "slower" when the interval excludes 1, "same" when it lies within ``margin`` of
    1, else "undecided", and then ``minutes_needed`` estimates how long would tell. ``launches`` are the log ratios of
    the pairs of fresh processes that the interval is made of.
    """

    format: int
    ratio: float
    ci95: tuple[float, float]
    verdict: Verdict
    margin: float
    minutes_needed: float | None
    a: Side
    b: Side
    launches: tuple[float, ...]
    rounds: int
    duration_ns: int
    host: Host
    options: RunOptions
    seed: int
    measured_at: str
    load_before: Mapping[str, float]
    load_after: Mapping[str, float]
    valid: bool
    invalid_reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launch:
    """The rounds of one pair of fresh processes: median latency in ns of A and of B, and what the pair took.

    ``round_ns`` is what a round of both took.
    """

    rounds: tuple[tuple[float, float], ...]
    opened: tuple[Opened, Opened]
    queries: tuple[int, int]
    used: Usage
    wall_ns: int
    round_ns: int = 2 * (_BLOCK_NS + _REFRESH_NS)


def compare(
    a: Path,
    b: Path,
    duration_ns: int = DEFAULT_DURATION_NS,
    options: RunOptions = RunOptions(),  # noqa: B008  frozen
    seed: int = 0,
    progress: Progress = no_progress,
    *,
    margin: float = verdict.MARGIN,
) -> Comparison:
    """Measure A and B in turn for about ``duration_ns`` in all, loading included, and say whether B is faster.

    Ends half way when the verdict is clear by then. Raises ``ConfigError`` for settings without sense, and what
    loading a bundle raises.
    """
    with scratch_folder() as folder:

        def start(name: str) -> Worker:
            return Worker(folder / f"{name}.log")

        pair = (Open(a, *_plan(options)), Open(b, *_plan(options)))
        return compare_with(start, pair, duration_ns, seed=seed, progress=progress, margin=margin)


def _plan(options: RunOptions) -> tuple[Scenario, RunOptions]:
    return Scenario("SingleStream", _BLOCK_NS * _ROUNDS, _WARMUP_NS, launches=1), options


def compare_with(
    start: Callable[[str], Asked],
    pair: tuple[Open, Open],
    duration_ns: int,
    *,
    seed: int,
    progress: Progress = no_progress,
    margin: float = verdict.MARGIN,
    clock: Callable[[], float] = session.clock_s,
    costs: tuple[Cost, Cost] | None = None,
) -> Comparison:
    """``compare`` with the processes that ``start`` makes and the requests that open them.

    ``costs`` return of a block of each what is compared, in ns; None: the median latency.
    """
    check_settings(duration_ns, margin)
    before, began, measured_at = facts(), clock(), session.utc_now()
    launches: list[Launch] = []
    planned, rounds = _LAUNCHES, _ROUNDS
    decision: Decision | None = None
    while len(launches) < planned and not _is_over(launches, duration_ns):
        reverse = (len(launches) + seed) % 2 == 1
        launches.append(_launch(start, pair, rounds, clock, costs or (median_latency, median_latency), reverse=reverse))
        if len(launches) == 1:
            planned, rounds = plan_launches(duration_ns, launches[0], rounds)
        ratios = [verdict.launch_ratio(launch.rounds) for launch in launches]
        progress("compare", len(launches), planned)
        if decision := _early(ratios, planned, margin):
            break
    decision = decision or verdict.decide(ratios, verdict.FINAL_ERROR, margin)
    assert decision is not None, "at least two launches are planned"
    return _comparison(
        launches,
        decision,
        (before, facts()),
        wall_s=clock() - began,
        measured_at=measured_at,
        pair=pair,
        seed=seed,
        margin=margin,
    )


def _is_over(launches: Sequence[Launch], duration_ns: int) -> bool:
    """Say whether another launch would take too long: on a machine that became busy, they take longer than planned."""
    passed = sum(launch.wall_ns for launch in launches)
    return len(launches) >= verdict.LEAST_LAUNCHES and passed + launches[-1].wall_ns > duration_ns


def _early(ratios: Sequence[float], planned: int, margin: float) -> Decision | None:
    """Return the verdict half way, by its own share of the error; None when it is not the time or not yet clear."""
    if len(ratios) != planned // 2 or planned < 2 * verdict.LEAST_LAUNCHES:
        return None
    decision = verdict.decide(ratios, verdict.EARLY_ERROR, margin)
    return decision if decision is not None and decision.verdict != "undecided" else None


def check_settings(duration_ns: int, margin: float) -> None:
    """Refuse settings that cannot lead to a verdict. Raises ``ConfigError``."""
    if duration_ns < _LEAST_DURATION_NS:
        raise ConfigError("a comparison needs at least a second", hint="give --duration 60s")
    if not 0 <= margin < 1:
        raise ConfigError(f"the margin {margin:g} is not a fraction", hint="give 0.01 for one per cent")


def plan_launches(duration_ns: int, first: Launch, rounds: int) -> tuple[int, int]:
    """Return how many launches fit, at least three, and the rounds of each that fill the time.

    ``first`` shows what a launch of ``rounds`` rounds takes. A longer duration has more launches, not longer ones.
    """
    fits = duration_ns // max(first.wall_ns, 1)
    planned = max(verdict.LEAST_LAUNCHES, min(max(_LAUNCHES, duration_ns // _LAUNCH_NS), fits))
    spare = (duration_ns - planned * first.wall_ns) / planned
    return int(planned), rounds + max(0, int(spare / first.round_ns))


def median_latency(block: Measured) -> float:
    """Return the median latency of a block in ns."""
    return float(statistics.median(block.latencies_ns))


def _launch(
    start: Callable[[str], Asked],
    pair: tuple[Open, Open],
    rounds: int,
    clock: Callable[[], float],
    costs: tuple[Cost, Cost],
    *,
    reverse: bool,
) -> Launch:
    """Load both in fresh processes and let them take turns; who begins alternates from round to round."""
    began = clock()
    workers: list[Asked] = []
    order = (1, 0) if reverse else (0, 1)
    try:
        workers = [start("a"), start("b")]
        opened = {side: workers[side].ask(pair[side]) for side in order}
        used = sum((one.used for one in opened.values()), Usage())
        request = Block(_BLOCK_NS, _BLOCK_QUERIES, _LONGEST_BLOCK_NS, _REFRESH_NS)
        measured: list[tuple[float, float]] = []
        queries, passed_ns = [0, 0], 0
        for number in range(rounds):
            medians = [0.0, 0.0]
            for side in order if number % 2 == 0 else order[::-1]:
                block = workers[side].ask(request)
                medians[side] = max(costs[side](block), 1.0)
                queries[side] += len(block.latencies_ns)
                used += block.used + block.at_rest
                passed_ns += block.duration_ns + _REFRESH_NS
            measured.append((medians[0], medians[1]))
    finally:
        close_all(workers)
    wall_ns = round((clock() - began) * 1e9)
    round_ns = max(passed_ns // rounds, 1)
    return Launch(tuple(measured), (opened[0], opened[1]), (queries[0], queries[1]), used, wall_ns, round_ns)


def _comparison(
    launches: Sequence[Launch],
    decision: Decision,
    load: tuple[Mapping[str, float], Mapping[str, float]],
    *,
    wall_s: float,
    measured_at: str,
    pair: tuple[Open, Open],
    seed: int,
    margin: float,
) -> Comparison:
    sides = tuple(_side(launches, number, pair[number].bundle) for number in (0, 1))
    minutes = None
    if decision.launches_needed is not None:
        minutes = decision.launches_needed * wall_s / len(launches) / 60
    own = sum((launch.used for launch in launches), Usage())
    reasons = validity.reasons(*load, validity.Run(wall_s, own, session.machine_cores()))
    host = launches[0].opened[0].subject.host
    return Comparison(
        format=FORMAT,
        ratio=decision.ratio,
        ci95=decision.ci95,
        verdict=decision.verdict,
        margin=margin,
        minutes_needed=minutes,
        a=sides[0],
        b=sides[1],
        launches=tuple(verdict.launch_ratio(launch.rounds) for launch in launches),
        rounds=sum(len(launch.rounds) for launch in launches),
        duration_ns=round(wall_s * 1e9),
        host=host,
        options=pair[0].options,
        seed=seed,
        measured_at=measured_at,
        load_before=load[0],
        load_after=load[1],
        valid=not reasons,
        invalid_reasons=reasons,
        notes=(*_elsewhere(launches[0]), *validity.cautions(host, load[1]), *_notes(sides)),
    )


def _side(launches: Sequence[Launch], number: int, bundle: Path) -> Side:
    subject = launches[0].opened[number].subject
    return Side(
        bundle=bundle.name,
        sha256=subject.sha256,
        target=subject.manifest.target,
        precision=subject.manifest.precision,
        engine=subject.engine,
        versions=subject.versions,
        size_bytes=subject.size_bytes,
        source_sha256=subject.manifest.source_sha256,
        median_ns=round(statistics.median(r[number] for launch in launches for r in launch.rounds)),
        queries=sum(launch.queries[number] for launch in launches),
    )


def _elsewhere(launch: Launch) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for opened in launch.opened for text in elsewhere(opened.subject)))


def _notes(sides: tuple[Side, ...]) -> tuple[str, ...]:
    if sides[0].source_sha256 != sides[1].source_sha256:
        return ("the two bundles were built from different models",)
    return ("both are the same bundle",) if sides[0].sha256 == sides[1].sha256 else ()
