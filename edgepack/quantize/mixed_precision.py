"""What to put back to fp32 so that the accuracy gate holds: the fewest and cheapest operators, in bounded tries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgepack.specs.build import Trial


@dataclass(frozen=True)
class Candidate:
    """What can go back to fp32 together: a layer, or a group of nodes around a tensor (``culprits.py``).

    ``noise`` is what of the output's noise goes away with it (noise energy over signal energy). ``macs`` are its
    multiply-adds: what is lost when it runs in fp32 again.
    """

    nodes: tuple[str, ...]
    noise: float
    macs: int


def put_back_order(candidates: Sequence[Candidate], layers: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return what to put back first, second and so on: each entry holds all nodes that are in fp32 by then.

    The noises of single layers add up nearly (they are small and nearly independent: the additive noise model of Lin,
    Talathi and Annapureddy 2016, "Fixed Point Quantization of Deep Convolutional Networks"), so the best next candidate
    is the one that removes most noise for what it costs: its share of all multiply-adds plus that of a mean layer,
    because leaving int8 costs two conversions however small it is. Equal ones go by name. What brings nothing alone
    comes last. ``layers`` are all that are quantized: the last of them never goes back, that would be no int8 model.
    """
    total = sum(one.macs for one in candidates if len(one.nodes) == 1) or 1
    mean = 1 / max(len(layers), 1)
    ranked = sorted(candidates, key=lambda one: (-one.noise / (one.macs / total + mean), one.nodes))
    sets: list[tuple[str, ...]] = []
    left: dict[str, None] = {}
    for one in ranked:
        more = {**left, **dict.fromkeys(one.nodes)}
        if len(more) > len(left) and not more.keys() >= set(layers):
            left = more
            sets.append(tuple(left))
    return tuple(sets)


def search(
    order: tuple[tuple[str, ...], ...],
    first: Trial,
    passes: Callable[[Trial], bool],
    evaluate: Callable[[tuple[str, ...]], Trial],
    budget: int,
) -> tuple[Trial, ...]:
    """Try to make the gate hold by what ``put_back_order`` returned; return every trial, ``first`` included.

    Doubles how far it goes in ``order`` until ``passes`` says yes, then halves the interval, so that about
    2 log2(entries) trials find the first entry that passes (exactly so when accuracy grows along the order). At most
    ``budget`` trials are evaluated besides ``first``.
    """
    trials = [first]
    low, high, count = 0, None, 1
    while high is None and low < len(order) and len(trials) <= budget:
        place = min(count, len(order))
        trial = evaluate(order[place - 1])
        trials.append(trial)
        if passes(trial):
            high = place
        else:
            low = place
            count *= 2
    while high is not None and high - low > 1 and len(trials) <= budget:
        middle = (low + high) // 2
        trial = evaluate(order[middle - 1])
        trials.append(trial)
        if passes(trial):
            high = middle
        else:
            low = middle
    return tuple(trials)


def choose(trials: tuple[Trial, ...], passes: Callable[[Trial], bool]) -> Trial | None:
    """Return the passing trial with the fewest operators put back; None when no trial passes."""
    good = [trial for trial in trials if passes(trial)]
    return min(good, key=lambda trial: (len(trial.left), trial.drop)) if good else None


def best_found(trials: tuple[Trial, ...]) -> Trial:
    """Return the trial with the smallest drop; of equal ones that with the fewest operators put back."""
    return min(trials, key=lambda trial: (trial.drop, len(trial.left)))


def pareto_front(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """Return the trials that no other beats in both drop and cost, cheapest first.

    Cost is the measured p50 where every trial has one, else the estimated share of multiply-adds left in fp32.
    """
    measured = all(trial.p50_ns is not None for trial in trials)

    def cost(trial: Trial) -> float:
        return float(trial.p50_ns or 0) if measured else trial.macs_share

    front = []
    best = float("inf")
    for trial in sorted(trials, key=lambda t: (cost(t), t.drop)):
        if trial.drop < best:
            front.append(trial)
            best = trial.drop
    return tuple(front)


def single_layers(noises: Mapping[str, float], macs: Mapping[str, int]) -> tuple[Candidate, ...]:
    """Join the measured noises with the counted multiply-adds; a layer of unknown size counts as the mean."""
    known = [n for n in macs.values() if n]
    mean = sum(known) // len(known) if known else 1
    return tuple(Candidate((name,), noise, macs.get(name) or mean) for name, noise in sorted(noises.items()))
