"""Tries a placement that leaves in float what gains nothing in int8, where int8 is not clearly faster than fp32."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Callable
from dataclasses import dataclass

from edgepack.errors import EdgepackError
from edgepack.execution.runner import StageRunner
from edgepack.pipeline.gate import Attempt
from edgepack.pipeline.limits import Limits
from edgepack.quantize.worthwhile import find_worthwhile
from edgepack.specs.data import Ranges
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

# int8 that is so many times as fast as fp32 stays as it is.
FAST = 1.15
# The least that a placement must gain in time to be kept, as its noise is of some per cent; the most it may lose.
_LEAST_GAIN = 1.03
_MOST_LOSS_DB = 0.5
NOTE = "placement"


@dataclass(frozen=True)
class Placed:
    """The attempt that is kept, and what was tried in words; None where nothing was."""

    attempt: Attempt
    note: str | None = None


def place_for_speed(
    runner: StageRunner,
    model: OnnxModel,
    ranges: Ranges,
    rules: QuantizationRules,
    plain: Attempt,
    first: Attempt,
    limits: Limits,
    build: Callable[[QuantizationRules, str], Attempt],
    time: Callable[[tuple[Attempt, ...]], tuple[int, ...]],
) -> Placed:
    """Return ``first``, or where it is not clearly faster than ``plain``, the fp32 model, what is faster and as good.

    What is left in float is the choice with the least cost by the engine's costs (``quantize/worthwhile.py``), the same
    on every machine; one that could gain too little to be seen is not tried. It is kept only when it is faster on this
    machine, and not worse: ``time`` measures median latencies of models in turn, in ns, and ``build`` quantizes by
    other rules, corrections included, and evaluates.
    """
    plain_ns, first_ns = time((plain, first))
    if plain_ns >= FAST * first_ns:
        return Placed(first)
    worth = runner.run(find_worthwhile, model, ranges, rules, title="what is worth computing in int8")
    if worth is None or first_ns < _LEAST_GAIN * (first_ns - worth.whole_ns + worth.least_ns):
        return Placed(first)  # what it may bring is less than what must be seen
    chosen = dataclasses.replace(rules, leave=(*rules.leave, *map(glob.escape, worth.left)))
    what = f"{len(worth.left)} operators in fp32, as they gain nothing in int8"
    try:
        other = build(chosen, f"{len(worth.left)} operators in fp32 for speed")
    except EdgepackError as error:
        return Placed(first, f"{what}: tried and left out: {error.message}")
    plain_ns, first_ns, other_ns = time((plain, first, other))
    words = f"{what}: {plain_ns / other_ns:.2f} times as fast as fp32, {plain_ns / first_ns:.2f} without"
    reason = why_not(first, other, limits)
    if reason is None and other_ns * _LEAST_GAIN > first_ns:
        reason = "no faster"
    if reason is not None:
        return Placed(first, f"{words} (median latencies in turn); left out: {reason}")
    return Placed(other, f"{words} (median latencies in turn)")


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
