"""Measures how far measurements can be believed on this machine; slow, so it is no test: run it by hand.

    python tests/benchmark/repeatability.py BUNDLE [--pairs 20] [--comparisons 20] [--seconds 10]

1. The same bundle measured twice, several times: do the intervals of the median cover the pooled one?
2. ``compare`` of a bundle with itself: how often does it say that there is no difference?
3. ``compare`` with each query prolonged by 3 %: is the slow-down found within two minutes?
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from edgepack import children
from edgepack.benchmark import benchmark
from edgepack.benchmark.compare import compare, compare_with
from edgepack.benchmark.statistics import nearest_rank
from edgepack.benchmark.worker import Open
from edgepack.benchmark.workers import Worker
from edgepack.specs import RunOptions, Scenario

SECOND = 10**9
OPTIONS = RunOptions(threads=1)


def coverage(bundle, pairs, seconds, folder):
    import numpy as np

    covered = valid = 0
    for pair in range(pairs):
        scenario = Scenario("SingleStream", seconds * SECOND, SECOND, seed=pair)
        both = [
            children.call(benchmark, bundle, scenario, OPTIONS, limit_s=600.0, log=folder / "log") for _ in range(2)
        ]
        pooled = nearest_rank(np.sort(np.concatenate([r.latencies_ns or r.distribution_ns for r in both])), 50.0)
        intervals = [r.percentiles[0].ci95_ns for r in both]
        covered += all(i is not None and i[0] <= pooled <= i[1] for i in intervals)
        valid += sum(r.valid for r in both)
        print(f"pair {pair}: {[r.percentiles[0].value_ns for r in both]} {intervals} pooled {pooled}", flush=True)
    print(f"both intervals cover the pooled median in {covered} of {pairs} pairs; {valid} of {2 * pairs} runs valid")


def no_difference(bundle, comparisons, seconds):
    verdicts = Counter()
    for seed in range(comparisons):
        found = compare(bundle, bundle, seconds * SECOND, OPTIONS, seed)
        verdicts[found.verdict] += 1
        low, high = found.ci95
        print(f"A/A {seed}: {found.verdict} {found.ratio:.4f} ({low:.4f}..{high:.4f})", flush=True)
    print(f"a bundle against itself: {dict(verdicts)}")


def slow_down(bundle, folder, share=0.03):
    scenario = Scenario("SingleStream", SECOND, SECOND // 5)
    with Worker(folder / "probe.log") as probe:
        from edgepack.benchmark.worker import Block

        probe.ask(Open(bundle, scenario, OPTIONS))
        median = nearest_rank(sorted(probe.ask(Block(SECOND, 10, 10 * SECOND)).latencies_ns), 50.0)
    pair = (Open(bundle, scenario, OPTIONS), Open(bundle, scenario, OPTIONS, spin_ns=round(share * median)))
    found = compare_with(lambda name: Worker(folder / f"{name}.log"), pair, 110 * SECOND, seed=0)
    low, high = found.ci95
    print(
        f"slowed by {share:.0%} ({round(share * median)} ns): {found.verdict} {found.ratio:.4f} "
        f"({low:.4f}..{high:.4f}) in {found.duration_ns / 1e9:.0f} s; {found.invalid_reasons}"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--comparisons", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slow_down(arguments.bundle, Path(folder))
        coverage(arguments.bundle, arguments.pairs, arguments.seconds, Path(folder))
        no_difference(arguments.bundle, arguments.comparisons, arguments.seconds)


if __name__ == "__main__":
    main()
