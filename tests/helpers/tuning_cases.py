"""Workloads and a simulated device for the tests of tuning."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepack.engines.tvm.codegen.machine import machine
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Workload, rule
from edgepack.engines.tvm.records import Record, Records, Trial
from edgepack.engines.tvm.tuning.timing import ROUNDS, Timed

FLOAT = ("float32", "float32", "float32")
WIDE = machine("x86_64", ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"))
POINTWISE = Workload("flat", FLOAT, 1, 1, 3136, 64, 256)
WINDOW = Workload("window", FLOAT, 1, 14, 14, 256, 256, (3, 3), (1, 1), (1, 1, 1, 1))
DEPTHWISE = Workload("depthwise", FLOAT, 1, 56, 56, 1, 96, (3, 3), (1, 1), (1, 1, 1, 1), groups=96)
Truth = Callable[[Workload, Blocking], float]


def empty(folder: Path) -> Records:
    """Return no records, for an x86 processor with AVX-512."""
    return Records(WIDE, "0.27.0", folder / "records.jsonl")


def record(workload: Workload = POINTWISE, ratios: dict[Blocking, float] | None = None, **changes: object) -> Record:
    """Return a record in which the best of ``ratios`` is used."""
    ratios = {Blocking(1, 8, 2, 16, False): 0.8} if ratios is None else ratios
    trials = tuple(Trial(tile, ratio) for tile, ratio in ratios.items())
    best = min(ratios, key=lambda tile: ratios[tile]) if ratios else None
    made = Record(workload, rule(workload, WIDE), 1000.0, trials, best, ROUNDS, at="2026-01-01T00:00:00Z")
    return replace(made, **changes)  # type: ignore[arg-type]


def optimum(workload: Workload, tile: Blocking) -> float:
    """Return nanoseconds with a best tile at 3 vectors and 9 positions."""
    away = abs(math.log2(tile.vectors / 3)) + abs(math.log2(tile.height * tile.width / 9))
    return workload.products / 50 * (1 + 0.2 * away) * (1.1 if tile.weights_outer else 1)


@dataclass
class Simulated:
    """A device whose times are known: ``truth`` times noise; every call takes a second on ``clock_ns``."""

    truth: Truth = optimum
    noise: float = 0.01
    seed: int = 0
    now_ns: int = 0
    calls: list[tuple[Workload, tuple[Blocking, ...]]] = field(default_factory=list)

    def clock_ns(self) -> int:
        """Return the simulated time."""
        return self.now_ns

    def __call__(self, workload: Workload, tiles: tuple[Blocking, ...], /) -> tuple[Timed, ...]:
        """Return simulated times, without leaving any tile out before the end."""
        draw = random.Random(f"{self.seed} {len(self.calls)}")
        self.calls.append((workload, tiles))
        self.now_ns += 1_000_000_000
        shared = [math.exp(draw.gauss(0, 5 * self.noise)) for _ in range(ROUNDS)]  # what disturbs a whole round
        return tuple(
            Timed(tile, tuple(self.truth(workload, tile) * s * math.exp(draw.gauss(0, self.noise)) for s in shared))
            for tile in tiles
        )
