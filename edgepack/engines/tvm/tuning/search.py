"""Finds faster tiles for the kernels of a model by measuring them, the ones that cost most first, within a time.

For each kernel the rule's tile is measured in turns with tiles that records of other kernels point to, tiles that the
prediction likes, and some drawn at random; while time is left, the best found is refined, the slowest kernel first.
A tile is used when it was faster than the rule's in nearly every round, and so again alone with it in another process.
Every record is kept as soon as it is made, so
that an interrupted search goes on where it was.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgepack.engines.tvm.codegen.workload import Workload, rule, tiles
from edgepack.engines.tvm.cost_model import Model, distance
from edgepack.engines.tvm.records import Record, Records, Trial
from edgepack.engines.tvm.tuning.timing import ROUNDS, Timed
from edgepack.errors import ChildError
from edgepack.specs.kernels import KernelSearch, State, TunedKernel
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.engines.tvm.codegen.tile import Blocking

_TRANSFERRED, _PREDICTED, _RANDOM = 3, 8, 3
_NEIGHBOURS, _REFINED = 4, 4
_MOST_REFINEMENTS = 3
_LEAST_SHARE = 0.01  # of the model's time: less is not worth a refinement
# Faster than the rule's tile: by more than its share that noise explains, and in so many of the rounds; by chance alone
# 11 of 13 or more happen in 1.1 % of the cases (binomial distribution, one half).
_FASTER_RATIO = 0.98
_FASTER_ROUNDS = 11


class Measure(Protocol):
    """Times tiles of a kernel; the first is the one against which the others count."""

    def __call__(self, workload: Workload, tiles: tuple[Blocking, ...], /) -> tuple[Timed, ...]:
        """Return the times in the order of the tiles. Raises ``ChildError`` when a tile crashes the process."""


@dataclass(frozen=True)
class Used:
    """A kernel of a model and how often the model calls it."""

    workload: Workload
    count: int


def search(
    used: Sequence[Used],
    records: Records,
    measure: Measure,
    budget_ns: int,
    seed: int,
    *,
    cpu: str,
    now: Callable[[], str],
    progress: Progress = no_progress,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> KernelSearch:
    """Measure until the kernels are known well or ``budget_ns`` is over; return what is known then.

    The same seed and the same times give the same search. Raises ``StorageError`` when a record cannot be kept.
    """
    tuner = _Tuner(records, measure, seed, cpu, now, clock_ns)
    machine = records.machine
    began = clock_ns()
    before = Model(records)
    ordered = sorted(used, key=lambda u: -u.count * predicted_cost(before, u.workload, machine))
    states: dict[Workload, State] = {}
    for use in ordered:
        known = use.workload in records.by_workload
        near = not known and before.transferred(use.workload) is not None
        states[use.workload] = "known" if known else "transferred" if near else "new"
    saved_ns = sum(records.by_workload[u.workload].took_ns for u in ordered if states[u.workload] == "known")
    todo = [u for u in ordered if states[u.workload] != "known"]

    def left() -> bool:
        passed = clock_ns() - began
        progress(tuner.words(used, len(todo)), min(passed, budget_ns) // 1_000_000_000, budget_ns // 1_000_000_000)
        return passed < budget_ns

    complete = True
    for use in todo:
        if not left():
            complete = False
            break
        tuner.first(use.workload)
    if complete:
        complete = _refine(tuner, ordered, left)
    return KernelSearch(
        kernels=tuple(_as_tuned(use, states[use.workload], records, tuner) for use in ordered),
        took_ns=clock_ns() - began,
        saved_ns=saved_ns,
        complete=complete,
        cpu=cpu,
        records=records.path,
        failures=tuple(tuner.failures),
    )


def predicted_cost(model: Model, workload: Workload, machine: Machine) -> float:
    """Return the predicted cost of a kernel with the rule's tile, up to a constant factor."""
    (value,), _ = model.log_ns(workload, [rule(workload, machine)])
    return math.exp(value)


def _refine(tuner: _Tuner, ordered: Sequence[Used], left: Callable[[], bool]) -> bool:
    """Refine the slowest kernels again and again; return whether nothing is left to try."""
    known = tuner.records.by_workload
    costs = {use.workload: use.count * known[use.workload].rule_ns for use in ordered if use.workload in known}
    least = _LEAST_SHARE * sum(costs.values())
    turns = {workload: 0 for workload, cost in costs.items() if cost >= least}
    while turns:
        if not left():
            return False
        workload = max(turns, key=lambda w: costs[w] / (1 + turns[w]))
        better = tuner.again(workload)
        turns[workload] += 1
        if not better or turns[workload] >= _MOST_REFINEMENTS:
            del turns[workload]
    return True


def _as_tuned(use: Used, state: State, records: Records, tuner: _Tuner) -> TunedKernel:
    record = records.by_workload.get(use.workload)
    if record is None:
        return TunedKernel(describe(use.workload), use.count, state, measured=False)
    return TunedKernel(
        describe(use.workload), use.count, state, measured=True, default_ns=record.rule_ns, ratio=record.ratio,
        trials=len(record.trials), transfer_ratio=tuner.transfers.get(use.workload),
    )  # fmt: skip


class _Tuner:
    """Chooses what to measure next of a kernel, and keeps what was measured."""

    def __init__(
        self, records: Records, measure: Measure, seed: int, cpu: str, now: Callable[[], str],
        clock_ns: Callable[[], int],
    ) -> None:  # fmt: skip
        self.records, self._measure, self._seed = records, measure, seed
        self._cpu, self._now, self._clock_ns = cpu, now, clock_ns
        self.transfers: dict[Workload, float] = {}
        self.failures: list[str] = []
        self._done = 0

    def words(self, used: Sequence[Used], todo: int) -> str:
        """Return how many kernels are done and the gain so far."""
        known = [(u.count, r) for u in used if (r := self.records.by_workload.get(u.workload)) is not None]
        before = sum(count * r.rule_ns for count, r in known)
        after = sum(count * r.rule_ns * r.ratio for count, r in known)
        gain = f", {before / after:.2f}x so far" if after else ""
        return f"{min(self._done, todo)} of {todo} new kernels{gain}"

    def first(self, workload: Workload) -> None:
        """Measure a kernel that is not known."""
        machine, model = self.records.machine, Model(self.records)
        by_rule = rule(workload, machine)
        space = [t for t in tiles(workload, machine) if t != by_rule]
        near = model.by_time(workload, [t for t in model.tiles_of_family(workload) if t != by_rule])
        proposed = model.transferred(workload)
        chosen = [] if proposed is None else [proposed]
        chosen += near[:_TRANSFERRED]
        chosen += self._liked(model, workload, [t for t in space if t not in chosen], _PREDICTED, _RANDOM, 0)
        self._try(workload, by_rule, list(dict.fromkeys(chosen)), None)
        self._done += 1
        record = self.records.by_workload.get(workload)
        if proposed is not None and record is not None:
            ratio = next((trial.ratio for trial in record.trials if trial.tile == proposed), None)
            if ratio is not None:
                self.transfers[workload] = ratio

    def again(self, workload: Workload) -> bool:
        """Measure more tiles of a known kernel; return whether a better one was found."""
        machine, model = self.records.machine, Model(self.records)
        record = self.records.by_workload[workload]
        tried = {trial.tile for trial in record.trials} | set(record.failed) | {record.rule}
        space = [t for t in tiles(workload, machine) if t not in tried]
        if not space:
            return False
        best = record.best or record.rule
        near = sorted(space, key=lambda t: distance(t, best))[:_NEIGHBOURS]
        rest = [t for t in space if t not in near]
        chosen = near + self._liked(model, workload, rest, _REFINED, 1, len(tried))
        if record.best is not None:
            chosen.insert(0, record.best)
        before = record.best
        self._try(workload, record.rule, chosen, record)
        return self.records.by_workload[workload].best != before

    def _liked(
        self, model: Model, workload: Workload, space: list[Blocking], best: int, drawn: int, turn: int
    ) -> list[Blocking]:
        """Return the tiles with the least time predicted, and some others at random."""
        ordered = model.by_time(workload, space)
        draw = random.Random(f"{self._seed} {turn} {workload}")
        rest = ordered[best:]
        return ordered[:best] + draw.sample(rest, min(drawn, len(rest)))

    def _try(self, workload: Workload, by_rule: Blocking, chosen: list[Blocking], known: Record | None) -> None:
        """Measure tiles in turns with the rule's and keep the outcome; what crashes is left out."""
        began = self._clock_ns()
        timed = self._timed(workload, (by_rule, *chosen))
        base = timed[0]
        if not base.ns:
            self.failures.append(f"{describe(workload)}: {base.failure}")
            return
        ratios = {t.tile: _ratios(t, base) for t in timed[1:] if t.ns}
        trials = {trial.tile: trial.ratio for trial in known.trials} if known else {}
        trials |= {tile: statistics.median(of) for tile, of in ratios.items()}
        kept = None
        if known is not None and known.best in ratios and trials[known.best] < 1:
            # It was clearly faster twice and is not slower now: noise may hide it today.
            kept = known.best
            trials[kept] = math.sqrt(known.ratio * trials[kept])
        best = self._confirmed(workload, by_rule, ratios, trials, kept)
        failed = {t.tile for t in timed[1:] if not t.ns} | set(known.failed if known else ())
        self.records.add(
            Record(
                workload=workload,
                rule=by_rule,
                rule_ns=min(base.ns),
                trials=tuple(Trial(tile, ratio) for tile, ratio in trials.items()),
                best=best,
                rounds=len(base.ns),
                failed=tuple(sorted(failed, key=str)),
                took_ns=self._clock_ns() - began + (known.took_ns if known else 0),
                cpu=self._cpu,
                at=self._now(),
            )
        )

    def _confirmed(
        self,
        workload: Workload,
        by_rule: Blocking,
        ratios: dict[Blocking, list[float]],
        trials: dict[Blocking, float],
        kept: Blocking | None,
    ) -> Blocking | None:
        """Return the fastest tile if it is faster again, alone with the rule's; else the one that is ``kept``.

        The least of many noisy times is too small; that of the second measurement, which is noted, is not.
        """
        faster = [tile for tile, of in ratios.items() if tile != kept and is_faster(of)]
        if not faster:
            return kept
        best = min(faster, key=lambda tile: trials[tile])
        if kept is not None and trials[best] >= trials[kept]:
            return kept
        again = self._timed(workload, (by_rule, best))
        if not again[0].ns or not again[1].ns:
            return kept
        found = _ratios(again[1], again[0])
        trials[best] = statistics.median(found)
        if not is_faster(found) or (kept is not None and trials[best] >= trials[kept]):
            return kept
        return best

    def _timed(self, workload: Workload, chosen: tuple[Blocking, ...]) -> list[Timed]:
        """Return the times; where the process crashes, those of halves, until the tile that does it is alone."""
        try:
            return list(self._measure(workload, chosen))
        except ChildError as error:
            first, rest = chosen[0], chosen[1:]
            if not rest:
                return [Timed(first, failure=error.message)]
            if len(rest) == 1:
                alone = self._timed(workload, (first,))
                return [*alone, Timed(rest[0], failure=error.message)]
            middle = len(rest) // 2
            left = self._timed(workload, (first, *rest[:middle]))
            right = self._timed(workload, (first, *rest[middle:]))
            return [left[0], *left[1:], *_against(right, left[0])]


def _against(timed: list[Timed], base: Timed) -> list[Timed]:
    """Return times of another process as if the first tile had taken there what it took here."""
    first = timed[0]
    if not first.ns or not base.ns:
        return timed[1:]
    return [
        Timed(t.tile, tuple(ns / own * here for ns, own, here in zip(t.ns, first.ns, base.ns, strict=False)), t.failure)
        for t in timed[1:]
    ]


def _ratios(timed: Timed, base: Timed) -> list[float]:
    return [ns / own for ns, own in zip(timed.ns, base.ns, strict=False)]


def is_faster(ratios: Sequence[float]) -> bool:
    """Say whether a tile is faster than the rule's: it was in every round, and in nearly all of them it was."""
    return (
        len(ratios) == ROUNDS
        and statistics.median(ratios) < _FASTER_RATIO
        and sum(ratio < 1 for ratio in ratios) >= _FASTER_ROUNDS
    )


def describe(workload: Workload) -> str:
    """Return a kernel in words, as ``window 3x3 stride 2, 1x56x56 of 64 from 64, float32``."""
    places = f"{workload.batch}x{workload.height}x{workload.width}"
    kernel = (
        f" {workload.kernel[0]}x{workload.kernel[1]}" if workload.kind in ("window", "depthwise", "winograd") else ""
    )
    stride = f" stride {workload.strides[0]}" if max(workload.strides) > 1 else ""
    return (
        f"{workload.kind}{kernel}{stride}, {places} of {workload.outputs} from {workload.inputs}, {workload.types[0]}"
    )
