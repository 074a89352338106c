"""Which layers to put back to fp32 so that the accuracy gate holds: the fewest and cheapest, in bounded tries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgepack.specs.build import Trial


@dataclass(frozen=True)
class LayerCost:
    """A quantized layer: the noise that it adds to the output (noise energy over signal energy), and its cost.

    ``macs`` are its multiply-adds: what is lost when it runs in fp32 again.
    """

    name: str
    noise: float
    macs: int


def put_back_order(layers: tuple[LayerCost, ...]) -> tuple[str, ...]:
    """Return layer names in the order in which they go back to fp32.

    The noises of single layers add up nearly (they are small and nearly independent: the additive noise model of Lin,
    Talathi and Annapureddy 2016, "Fixed Point Quantization of Deep Convolutional Networks"), so the best next layer is
    the one that removes most noise for what it costs. A layer's cost is its share of all multiply-adds plus the mean
    share, because leaving int8 costs two conversions however small the layer is. Equal layers go by name.
    """
    total = sum(layer.macs for layer in layers) or 1
    mean = 1 / max(len(layers), 1)
    ranked = sorted(layers, key=lambda layer: (-layer.noise / (layer.macs / total + mean), layer.name))
    return tuple(layer.name for layer in ranked)


def search(
    order: tuple[str, ...],
    first: Trial,
    passes: Callable[[Trial], bool],
    evaluate: Callable[[tuple[str, ...]], Trial],
    budget: int,
) -> tuple[Trial, ...]:
    """Try to make the gate hold by putting layers back in ``order``; return every trial, ``first`` included.

    Doubles the number of layers put back until ``passes`` says yes, then halves the interval, so that about
    2 log2(layers) trials find the smallest prefix that passes (exactly so when accuracy grows with the prefix). At most
    ``budget`` trials are evaluated besides ``first``. Not all layers are ever put back: that would be no int8 model.
    """
    trials = [first]
    most = len(order) - 1
    low, high, count = 0, None, 1
    while high is None and low < most and len(trials) <= budget:
        trial = evaluate(order[: min(count, most)])
        trials.append(trial)
        if passes(trial):
            high = len(trial.left)
        else:
            low = len(trial.left)
            count *= 2
    while high is not None and high - low > 1 and len(trials) <= budget:
        middle = (low + high) // 2
        trial = evaluate(order[:middle])
        trials.append(trial)
        if passes(trial):
            high = middle
        else:
            low = middle
    return tuple(trials)


def choose(trials: tuple[Trial, ...], passes: Callable[[Trial], bool]) -> Trial | None:
    """Return the passing trial with the fewest layers put back; None when no trial passes."""
    good = [trial for trial in trials if passes(trial)]
    return min(good, key=lambda trial: (len(trial.left), trial.drop)) if good else None


def best_found(trials: tuple[Trial, ...]) -> Trial:
    """Return the trial with the smallest drop; of equal ones that with the fewest layers put back."""
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


def layer_costs(noises: Mapping[str, float], macs: Mapping[str, int]) -> tuple[LayerCost, ...]:
    """Join the measured noises with the counted multiply-adds; a layer of unknown size counts as the mean."""
    known = [n for n in macs.values() if n]
    mean = sum(known) // len(known) if known else 1
    return tuple(LayerCost(name, noise, macs.get(name) or mean) for name, noise in sorted(noises.items()))
