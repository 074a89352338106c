"""Tries a placement that leaves in float what gains nothing in int8, where int8 is not clearly faster than fp32."""

from __future__ import annotations

import dataclasses
import glob
import math
from collections.abc import Callable
from dataclasses import dataclass

from edgepack.benchmark.statistics.verdict import EARLY_ERROR, FINAL_ERROR, decide
from edgepack.errors import EdgepackError
from edgepack.execution.runner import StageRunner
from edgepack.pipeline.gate import Attempt, InTurn
from edgepack.pipeline.limits import Limits
from edgepack.quantize.worthwhile import Worth, find_worthwhile
from edgepack.specs.data import Ranges
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

# int8 that is so many times as fast as fp32 stays as it is; where it is hardly more, another run may see less.
FAST = 1.15
_HARDLY_MORE = 1.3
# The least that a placement must gain in time to be kept, and the most that it may lose.
_LEAST_GAIN = 1.03
_MOST_LOSS_DB = 0.5
# Rounds in which models are measured in turn: first few; where these decide nothing, as many again and more.
_LOOKS = ((9, EARLY_ERROR), (18, FINAL_ERROR))
NOTE = "placement"


@dataclass(frozen=True)
class Placed:
    """The attempt that is kept, and what was tried in words; None where nothing was."""

    attempt: Attempt
    note: str | None = None


@dataclass(frozen=True)
class Gain:
    """How many times as fast one of two models is as the other: the ratio of their times, and its 95 % interval."""

    ratio: float
    ci95: tuple[float, float]

    def reaches(self, least: float, base: float) -> bool | None:
        """Say whether the ratio is ``least`` or more and surely above ``base``; None where that is open."""
        low, high = self.ci95
        if low > base:
            return self.ratio >= least
        return False if high < least else None

    def in_words(self) -> str:
        """Return the ratio with its interval."""
        return f"{self.ratio:.2f} times as fast ({self.ci95[0]:.2f} to {self.ci95[1]:.2f})"


def place_for_speed(
    runner: StageRunner,
    model: OnnxModel,
    ranges: Ranges,
    rules: QuantizationRules,
    plain: Attempt,
    first: Attempt,
    limits: Limits,
    build: Callable[[QuantizationRules, str], Attempt],
    time: InTurn,
) -> Placed:
    """Return ``first``, or where it is not clearly faster than ``plain``, the fp32 model, what is faster and as good.

    What is left in float is the choice with the least cost by the engine's costs (``quantize/worthwhile.py``), the same
    on every machine; one that could gain too little to be seen is not tried. It is kept only when it is faster on this
    machine beyond the interval of the rounds' ratios, and not worse; where the interval decides nothing, as on a busy
    machine, it is left out and the note says so. ``build`` quantizes by other rules, corrections included, and
    evaluates.
    """
    whole, first_ns = measure_gain(time, plain, first, FAST, FAST)
    if whole.reaches(FAST, FAST):
        return Placed(first, _fast_enough(whole))
    worth = runner.run(find_worthwhile, model, ranges, rules, title="what is worth computing in int8")
    if worth is None or not worth.left:
        return Placed(first)
    if worth.least_ns >= worth.float_ns:
        return Placed(
            first, f"none was tried for speed: int8 is {whole.in_words()} as fp32, and no operator gains by it"
        )
    saved_ns = worth.whole_ns - worth.least_ns
    if first_ns < _LEAST_GAIN * (first_ns - saved_ns):
        return Placed(first, _too_little(worth, saved_ns / first_ns))
    chosen = dataclasses.replace(rules, leave=(*rules.leave, *map(glob.escape, worth.left)))
    what = f"{len(worth.left)} operators in fp32, as they gain nothing in int8"
    try:
        other = build(chosen, f"{len(worth.left)} operators in fp32 for speed")
    except EdgepackError as error:
        return Placed(first, f"{what}: tried and left out: {error.message}")
    gain, _ = measure_gain(time, first, other, _LEAST_GAIN, 1.0)
    words = f"{what}: {gain.in_words()} as without, which is {whole.in_words()} as fp32"
    reason = why_not(first, other, limits) or _why_no_faster(gain)
    return Placed(first, f"{words}; left out: {reason}") if reason is not None else Placed(other, words)


def measure_gain(time: InTurn, slow: Attempt, quick: Attempt, least: float, base: float) -> tuple[Gain, int]:
    """Return how many times as fast ``quick`` is as ``slow``, and its latency in ns: the median over the rounds.

    Rounds are measured until it is known whether the gain reaches ``least`` beyond ``base``, at most 18.
    """
    for rounds, error in _LOOKS:
        turns = time((slow, quick), rounds)
        found = decide([math.log(b / a) for a, b in turns], error)
        if found is None:
            raise ValueError(f"{len(turns)} rounds have no interval")
        gain = Gain(1 / found.ratio, (1 / found.ci95[1], 1 / found.ci95[0]))
        if gain.reaches(least, base) is not None:
            break
    return gain, sorted(b for _, b in turns)[len(turns) // 2]


def _fast_enough(whole: Gain) -> str | None:
    """Return why nothing was tried, where another run might have tried something."""
    if whole.ci95[0] >= _HARDLY_MORE:
        return None
    return f"none was tried for speed: int8 is {whole.in_words()} as fp32"


def _too_little(worth: Worth, share: float) -> str:
    return (
        f"none was tried for speed: {len(worth.left)} operators in fp32 promise {100 * share:.1f} % of the time alone"
    )


def _why_no_faster(gain: Gain) -> str | None:
    reached = gain.reaches(_LEAST_GAIN, 1.0)
    if reached is None:
        return "not decided, as the machine was busy; built again when it is idle, it may be kept"
    return None if reached else "no faster"


def why_not(first: Attempt, other: Attempt, limits: Limits) -> str | None:
    """Return why ``other`` is worse than ``first``; None where it is not."""
    if not all(output.passed for output in other.evaluation.verification.outputs):
        return "its outputs fail verification"
    if limits.broken_by(other.evaluation):
        return "it misses the gate"
    before, after = first.evaluation.balance.sqnr_db, other.evaluation.balance.sqnr_db
    if before is not None and after is not None and after < before - _MOST_LOSS_DB:
        return f"its balanced SQNR is {after:.1f} dB instead of {before:.1f}"
    return None
