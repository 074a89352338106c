"""tune(): which run options make a bundle fastest on this device, and are they faster than the engine's own defaults?

First a search by successive halving, in which all candidates take turns; then the best one is compared with the
defaults in pairs of fresh processes, as ``compare`` does, on measurements that the search has not seen. Only when their
interval excludes 1, and the golden vectors still hold, is it kept: chance can make the search end with the defaults,
not with something slower.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import scratch_folder, storage_errors
from edgepack.benchmark.compare import Comparison, compare_with, median_latency
from edgepack.benchmark.machine import validity
from edgepack.benchmark.machine.state import facts
from edgepack.benchmark.machine.usage import Usage
from edgepack.benchmark.measure import session
from edgepack.benchmark.measure.queries import batch_is_dynamic
from edgepack.benchmark.measure.worker import Block, Measured, Open
from edgepack.benchmark.measure.worker_pool import Asked, Worker
from edgepack.benchmark.tune.candidates import changes
from edgepack.benchmark.tune.halving import ROUNDS, Arm, better_half, run_rounds
from edgepack.benchmark.tune.space import combinations, describe_changes, with_changes
from edgepack.bundle.archive import open_bundle
from edgepack.device.host import host_facts
from edgepack.errors import ConfigError, EdgepackError
from edgepack.execution import child
from edgepack.runtime.load import choose_payload, runs_native
from edgepack.runtime.native import note_built
from edgepack.runtime.tuning import (
    TunedFor,
    Tuning,
    TuningTrial,
    device_facts,
    path_beside,
    with_tuning,
    write_beside,
    write_into,
)
from edgepack.runtime.verify import verify
from edgepack.specs.result import Scenario
from edgepack.specs.run import Change, RunOptions
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_DURATION_NS = 60_000_000_000
_LEAST_DURATION_NS = 5_000_000_000
_SEARCH_SHARE = 0.6  # of the time; the rest compares the best with the defaults
_SINGLES_SHARE = 0.5  # of the search
_BLOCK_NS = 50_000_000
_LONGEST_BLOCK_NS = 10_000_000_000
_WARMUP_NS = 200_000_000
_HELPS = -0.005  # log ratio from which a change is worth combining
_RESIDENT_BYTES = 200 << 20
_RESIDENT_PER_FILE_BYTE = 4
_LIMIT_S = 600.0

Clock = Callable[[], float]
Start = Callable[[str], Asked]
Check = Callable[[RunOptions], str | None]


@dataclass(frozen=True)
class Setting:
    """What is tuned, and for what. ``most`` processes may be held at once; ``device`` are the facts of the key."""

    bundle: Path
    scenario: TunedFor
    changes: tuple[Change, ...]
    device: Mapping[str, str]
    most: int

    def open(self, made: Sequence[Change]) -> Open:
        """Return the request that loads the bundle with these changes."""
        candidate = with_changes(made)
        plan = Scenario(self.scenario, 8 * _BLOCK_NS, _WARMUP_NS, batch=candidate.batch, launches=1)
        return Open(self.bundle, plan, candidate.options)

    def cost(self, made: Sequence[Change]) -> Callable[[Measured], float]:
        """Return what is to be small, in ns: the median latency, or for Offline the time of a sample."""
        if self.scenario == "SingleStream":
            return median_latency
        batch = with_changes(made).batch
        return lambda block: block.duration_ns / (batch * max(len(block.latencies_ns), 1))


def tune(
    bundle: Path,
    scenario: TunedFor = "SingleStream",
    duration_ns: int = DEFAULT_DURATION_NS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Tuning:
    """Search for about ``duration_ns`` and return the outcome; nothing is stored.

    Raises ``ConfigError`` for a duration that is too short, and what loading the bundle raises.
    """
    if duration_ns < _LEAST_DURATION_NS:
        raise ConfigError("tuning needs at least 5 s", hint="give --duration 60s")
    opened = open_bundle(bundle)
    host = host_facts()
    payload, versions, _ = choose_payload(opened.manifest, host, runs_native(opened))
    setting = Setting(
        bundle=bundle.absolute(),
        scenario=scenario,
        changes=changes(
            payload.backend, host.cores, scenario, free_batch=batch_is_dynamic(opened.manifest.inputs), isa=host.isa
        ),
        device=device_facts(host, payload, payload.device, versions),
        most=_fitting(opened.size_bytes, facts().get("memory_available_bytes")),
    )
    with scratch_folder() as folder:

        def start(name: str) -> Worker:
            return Worker(folder / f"{name}.log")

        def check(options: RunOptions) -> str | None:
            return _verified(setting.bundle, options, folder / "verify.log")

        return tune_with(start, check, setting, duration_ns, seed=seed, progress=progress)


def tune_and_store(
    bundle: Path,
    scenario: TunedFor = "SingleStream",
    duration_ns: int = DEFAULT_DURATION_NS,
    seed: int = 0,
    progress: Progress = no_progress,
    *,
    into: Path | None = None,
) -> tuple[Tuning, Path]:
    """``tune``, and write the outcome where ``load`` finds it; return it and the file.

    That is beside the bundle, or with ``into`` a copy of the bundle that carries it. Raises ``StorageError``, before
    the search, where that cannot be written.
    """
    place = path_beside(bundle) if into is None else into
    opened = open_bundle(bundle)
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place.parent):
            pass
    payload, _, _ = choose_payload(opened.manifest, host_facts(), runs_native(opened))
    tuning = tune(bundle, scenario, duration_ns, seed, progress)
    tunings = with_tuning(opened, payload, tuning)
    if into is None:
        return tuning, write_beside(bundle, tunings)
    write_into(opened, tunings, into)
    note_built(open_bundle(into).sha256)  # its code ran here just now: the copy may, too
    return tuning, into


def tune_with(
    start: Start,
    check: Check,
    setting: Setting,
    duration_ns: int,
    *,
    seed: int,
    progress: Progress = no_progress,
    clock: Clock = session.clock_s,
) -> Tuning:
    """``tune`` with the processes that ``start`` makes.

    ``check`` says why options may not be taken, None if they may.
    """
    began, tuned_at, before = clock(), session.utc_now(), facts()

    def left_s(share: float) -> float:
        passed = clock() - began
        progress("tune", min(round(passed), round(duration_ns / 1e9)), round(duration_ns / 1e9))
        return share * duration_ns / 1e9 - passed

    arms = _search(start, setting, seed, left_s, clock)
    own = sum((arm.used for arm in arms), Usage())
    run = validity.Run(clock() - began, own, session.machine_cores())
    reasons = validity.reasons(before, facts(), run)
    default, others = arms[0], arms[1:]
    trials = tuple(_trial(arm, default) for arm in others)
    notes: list[str] = []
    best = _best(others, default, check, notes)
    found: Comparison | None = None
    if best is not None:
        rest_ns = max(round(left_s(1.0) * 1e9), 1_000_000_000)
        pair = (setting.open(()), setting.open(best.changes))
        costs = (setting.cost(()), setting.cost(best.changes))
        found = compare_with(start, pair, rest_ns, seed=seed, costs=costs)
        reasons = found.invalid_reasons
        if found.verdict != "faster":
            low, high = found.ci95
            notes.append(
                f"the best found, {describe_changes(best.changes)}, takes {found.ratio:.3f} times as long as the "
                f"defaults ({low:.3f}..{high:.3f}): {found.verdict}, so the defaults stay"
            )
    better = found is not None and found.verdict == "faster"
    chosen = with_changes(best.changes if best is not None and better else ())
    default_ns = found.a.median_ns if found else round(math.exp(_mean_log(default)))
    return Tuning(
        device=setting.device,
        scenario=setting.scenario,
        options=chosen.options,
        batch=chosen.batch,
        verdict="faster" if better else "default",
        ratio=found.ratio if found and better else 1.0,
        ci95=found.ci95 if found and better else (1.0, 1.0),
        default_ns=default_ns,
        tuned_ns=found.b.median_ns if found and better else default_ns,
        trials=trials,
        seed=seed,
        budget_ns=duration_ns,
        took_ns=round((clock() - began) * 1e9),
        tuned_at=tuned_at,
        valid=not reasons,
        invalid_reasons=reasons,
        notes=tuple(notes),
    )


def _search(start: Start, setting: Setting, seed: int, left_s: Callable[[float], float], clock: Clock) -> list[Arm]:
    """Return all candidates that were tried, the default first, with what was measured of them; all are closed."""
    block = Block(_BLOCK_NS, 1, _LONGEST_BLOCK_NS)
    with ExitStack() as stack:
        began = clock()
        default = _arm(start, setting, (), stack)
        if default.failure is not None:
            raise EdgepackError(f"the bundle does not run with the defaults: {default.failure}")
        run_rounds([default], block, 0, 1)  # to see what a round takes
        each_s = max(clock() - began, 1e-3)
        room = left_s(_SEARCH_SHARE * _SINGLES_SHARE) / (each_s + ROUNDS * _BLOCK_NS / 1e9)
        count = max(1, min(len(setting.changes), setting.most - 1, int(room)))
        singles = [_arm(start, setting, (change,), stack) for change in setting.changes[:count]]
        default.costs.clear()
        run_rounds([default, *singles], block, 0, ROUNDS)
        alive = better_half(singles, default)
        _end([arm for arm in singles if arm not in alive])
        helped = [(arm.changes[0], value) for arm in singles if (value := arm.against(default) or 0.0) < _HELPS]
        room = left_s(_SEARCH_SHARE) / (each_s + 3 * ROUNDS * _BLOCK_NS / 1e9)
        count = max(0, min(setting.most - 1 - len(alive), int(room), 12))
        combined = [_arm(start, setting, made, stack) for made in combinations(helped, count, seed)]
        alive += [arm for arm in combined if arm.failure is None]
        number, rounds = ROUNDS, ROUNDS
        while alive and left_s(_SEARCH_SHARE) > 0:
            run_rounds([default, *alive], block, number, rounds)
            number, rounds = number + rounds, 2 * rounds
            if len(alive) == 1:
                break
            kept = better_half(alive, default)
            _end([arm for arm in alive if arm not in kept])
            alive = kept
        return [default, *singles, *combined]


def _arm(start: Start, setting: Setting, made: tuple[Change, ...], stack: ExitStack) -> Arm:
    """Load the bundle with changes in a process that ends with ``stack``; one that cannot is an arm with the reason."""
    worker = start(describe_changes(made).replace(" ", "-").replace(",", ""))
    stack.callback(worker.close)
    arm = Arm(made, worker, setting.cost(made))
    try:
        arm.used = worker.ask(setting.open(made)).used
    except EdgepackError as error:
        arm.failure = f"{error.message} ({error.hint})"
    return arm


def _end(arms: Sequence[Arm]) -> None:
    for arm in arms:
        arm.worker.close()


def _best(arms: Sequence[Arm], default: Arm, check: Check, notes: list[str]) -> Arm | None:
    """Return the fastest of those measured to the end that is faster than the default and computes what it should."""
    last = max((max(arm.costs, default=-1) for arm in arms), default=-1)
    known = [
        (value, arm)
        for arm in arms
        if arm.failure is None and last in arm.costs and (value := arm.against(default)) is not None and value < 0
    ]
    for _, arm in sorted(known, key=lambda pair: pair[0]):
        problem = check(with_changes(arm.changes).options)
        if problem is None:
            return arm
        notes.append(f"{describe_changes(arm.changes)} is not taken: {problem}")
    return None


def _trial(arm: Arm, default: Arm) -> TuningTrial:
    value = arm.against(default)
    return TuningTrial(
        describe_changes(arm.changes), math.exp(value) if value is not None else None, len(arm.costs), arm.failure
    )


def _mean_log(arm: Arm) -> float:
    return sum(math.log(cost) for cost in arm.costs.values()) / max(len(arm.costs), 1)


def _fitting(size_bytes: int, available_bytes: float | None) -> int:
    """Return how many processes with the bundle fit into half of the free memory, at least 2."""
    if available_bytes is None:
        return 16
    return max(2, min(32, int(available_bytes / 2 / (_RESIDENT_BYTES + _RESIDENT_PER_FILE_BYTE * size_bytes))))


def _verified(bundle: Path, options: RunOptions, log: Path) -> str | None:
    """Return why the bundle may not run with these options here; None when its golden vectors hold."""
    try:
        found = child.call(verify, bundle, options, limit_s=_LIMIT_S, log=log)
    except EdgepackError as error:
        return f"{error.message} ({error.hint})"
    return None if found.passed else "the outputs are too far from the golden vectors"
