"""What measured kernels tell of those that were not: a kernel regression over all records of a processor.

The time of a tile is predicted as

    log(ns / product) = log(cycles by count / product) + level + sum(k_i * r_i) / (SHRINK + sum(k_i))

where r_i are the residuals of the measured tiles of kernels of the same family against the first two terms, level is
their mean, and k_i = exp(-d_i) falls with the distance of sizes and tiles (Nadaraya, "On Estimating Regression", 1964;
Watson, "Smooth regression analysis", 1964). There is nothing to train: a new record counts at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgepack.engines.tvm.codegen.tile import cycles
from edgepack.engines.tvm.codegen.window import TERMS
from edgepack.engines.tvm.codegen.workload import Choice, fits, rule
from edgepack.engines.tvm.records import trials_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.engines.tvm.codegen.tile import Blocking
    from edgepack.engines.tvm.codegen.workload import Choose, Workload
    from edgepack.engines.tvm.records import Records
    from edgepack.specs.types import Array

_SHRINK = 0.3
# A tile that was not measured for a kernel is used when it is predicted to take at most this part of the rule's time,
# and measured neighbours weigh at least this much: 0.5 is one kernel with all sizes within 1.4 times.
_TRANSFER_RATIO = 0.95
_LEAST_WEIGHT = 0.5
_SIZE_SCALE = 1.0  # doubling one size
_TILE_SCALE = 0.5


def family(workload: Workload) -> tuple[object, ...]:
    """Return what kernels have in common whose times are compared: all but the sizes."""
    return (
        workload.kind, workload.types, workload.kernel, workload.strides, workload.groups > 1, workload.channels_first,
        workload.safe,
    )  # fmt: skip


class Model:
    """Predicts times from the records of one processor."""

    def __init__(self, records: Records) -> None:
        self._machine = records.machine
        families: dict[tuple[object, ...], list[tuple[Workload, Blocking, float]]] = {}
        for workload, tile, ns in trials_of(records.by_workload.values()):
            families.setdefault(family(workload), []).append((workload, tile, ns))
        self._best: dict[tuple[object, ...], list[Blocking]] = {}
        for record in records.by_workload.values():
            if record.best is not None:
                self._best.setdefault(family(record.workload), []).append(record.best)
        self._tiles = {name: list(dict.fromkeys(t for _, t, _ in trials)) for name, trials in families.items()}
        self._known: dict[tuple[object, ...], tuple[Array, Array, float]] = {}
        for name, trials in families.items():
            places = np.array([[*_sizes(w), *_shape(t)] for w, t, _ in trials])
            raw = np.array([math.log(ns) - math.log(_counted(w, t)) for w, t, ns in trials])
            level = float(raw.mean())
            self._known[name] = (places, raw - level, level)

    def log_ns(self, workload: Workload, listed: Sequence[Blocking]) -> tuple[Array, Array]:
        """Return the logarithms of the nanoseconds predicted for tiles, up to a constant, and what neighbours weigh."""
        counted = np.array([math.log(_counted(workload, tile)) for tile in listed])
        known = self._known.get(family(workload))
        if known is None or not listed:
            return counted, np.zeros(len(listed))
        places, residuals, level = known
        sizes = _sizes(workload)
        asked = np.array([[*sizes, *_shape(tile)] for tile in listed])
        away = np.abs(asked[:, None, :] - places[None, :, :]).sum(axis=2)
        weights = np.exp(-away)
        total = weights.sum(axis=1)
        return counted + level + weights @ residuals / (_SHRINK + total), total

    def by_time(self, workload: Workload, listed: Sequence[Blocking]) -> list[Blocking]:
        """Return tiles by the time predicted for them, the shortest first."""
        values, _ = self.log_ns(workload, listed)
        return [listed[n] for n in np.argsort(values, kind="stable")]

    def tiles_of_family(self, workload: Workload) -> list[Blocking]:
        """Return the tiles that were measured for kernels of the family and that this one can have too."""
        return [t for t in self._tiles.get(family(workload), []) if fits(t, workload, self._machine)]

    def transferred(self, workload: Workload) -> Blocking | None:
        """Return the tile of a neighbour that is predicted to be faster than the rule's here too, or None.

        Only tiles that a neighbour uses come into question: they were measured twice, the others in few rounds.
        """
        best = dict.fromkeys(self._best.get(family(workload), []))
        listed = [tile for tile in best if fits(tile, workload, self._machine)]
        if not listed:
            return None
        (by_rule,), _ = self.log_ns(workload, [rule(workload, self._machine)])
        values, weights = self.log_ns(workload, listed)
        good = (values < by_rule + math.log(_TRANSFER_RATIO)) & (weights >= _LEAST_WEIGHT)
        if not good.any():
            return None
        return listed[int(np.argmin(np.where(good, values, np.inf)))]


def chooser(records: Records) -> Choose:
    """Return the choice by what was measured: of the kernel itself, else of its neighbours, else the rule."""
    machine = records.machine
    model = Model(records)

    def choose(workload: Workload) -> Choice:
        record = records.by_workload.get(workload)
        if record is not None:
            measured, own = record.best or record.rule, rule(workload, machine)  # the rule may have changed since
            if measured != own and fits(measured, workload, machine):
                return Choice(measured, "tuned")
            return Choice(own)
        tile = model.transferred(workload)
        return Choice(rule(workload, machine)) if tile is None else Choice(tile, "transferred")

    return choose


def distance(a: Blocking, b: Blocking) -> float:
    """Return how far two tiles are apart: doubling the positions, or the channels, is 1."""
    return sum(abs(left - right) for left, right in zip(_shape(a), _shape(b), strict=True))


def _counted(workload: Workload, tile: Blocking) -> float:
    terms = -(-workload.terms // TERMS) if workload.integer else workload.terms
    each = workload.outputs // workload.groups if workload.kind != "depthwise" else workload.outputs
    count = workload.batch * (workload.groups if workload.kind != "depthwise" else 1)
    return count * cycles(tile, *workload.grid, each, terms)


def _sizes(workload: Workload) -> tuple[float, ...]:
    positions = workload.height * workload.width
    sizes = (workload.batch * positions, workload.width, workload.inputs, workload.outputs)
    return tuple(math.log2(size) * _SIZE_SCALE for size in sizes)


def _shape(tile: Blocking) -> tuple[float, ...]:
    """Return a tile as a point: a step of one is a small change."""
    high = float(tile.height > 1)
    return (
        2 * _TILE_SCALE * math.log2(tile.height * tile.width),
        2 * _TILE_SCALE * math.log2(tile.vectors),
        2 * _TILE_SCALE * math.log2(tile.lanes),
        _TILE_SCALE * tile.weights_outer,
        _TILE_SCALE * high,
    )
