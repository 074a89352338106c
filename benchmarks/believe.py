"""How far measurements can be believed on this machine (part of ``make bench``): a table, and artifacts/believe.json.

    python benchmarks/believe.py [NAME ...] [--models resnet20 lite0 minilm] [--bundles BUNDLE ...] [--rounds 20]

coverage       the same bundle measured twice: do the intervals of the median cover the pooled one?
same           ``compare`` of a bundle with itself: how often does it say that they are the same?
slowdown       ``compare`` with each query prolonged by 3 %: is it found within two minutes?
benchmark_app  OpenVINO's benchmark_app and ``benchmark``, in turn with the same settings: do the medians agree?
tune           tuned options against the engine's defaults, and against benchmark_app's best hint, in turn; of another
               engine's bundle the second is told without a bound

The first three measure the first bundle, the others all. Without --bundles and --models a ResNet20 with random weights
is built for both engines; --models builds trained ones from ../shared/assets; MiniLM needs .venv-peers-minilm, which
``make .venv-peers-minilm/.ready`` sets up. What is measured in turn is compared round by round, in many short turns,
so that a busy machine slows both. A machine that others use too gives disturbed runs: how many were valid is said.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.benchmark import benchmark
from edgepack.benchmark.compare import compare, compare_with
from edgepack.benchmark.imported import Of, import_result
from edgepack.benchmark.machine.state import facts
from edgepack.benchmark.measure.worker import Block, Open
from edgepack.benchmark.measure.worker_pool import Worker
from edgepack.benchmark.statistics.percentiles import nearest_rank
from edgepack.benchmark.tune import tune
from edgepack.bundle.archive import copy_member, open_bundle, open_checked, read_member
from edgepack.device.host import host_facts
from edgepack.execution import child
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions
from edgepack.verify.golden import GOLDEN, read_golden

ROOT = Path(__file__).resolve().parent.parent
SECOND = 10**9
ONE = RunOptions(threads=1)
SLOWDOWN = 0.03
RESOLVED = 0.05  # the widest that an interval may reach above 1 and still say "as fast"
SCENARIOS = ("SingleStream", "Offline")
MODELS = ("resnet20", "lite0", "minilm", "fastestdet")
ENGINES = ("onnxruntime", "openvino")


def main() -> int:
    """Run what is named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--bundles", nargs="+", type=Path, default=[])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[], help="to build and measure")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one measurement of coverage")
    parser.add_argument("--comparisons", type=int, default=20)
    parser.add_argument("--compare-seconds", type=float, default=60.0, help="of one comparison of same, at most")
    parser.add_argument("--rounds", type=int, default=20, help="of benchmark_app and tune")
    parser.add_argument("--turn-seconds", type=float, default=1.0, help="of one measurement in a round")
    parser.add_argument("--tune-seconds", type=float, default=120.0)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS, help="to tune for")
    words = parser.parse_args()
    if unknown := set(words.names) - set(PARTS):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    host, began = host_facts(), facts()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edgepack-believe-") as folder:
        bundles = [path.absolute() for path in words.bundles]
        for name in words.models:
            bundles += _built(name, Path(folder))
        bundles = bundles or _resnet20(Path(folder))
        for name, part in PARTS.items():
            if not words.names or name in words.names:
                print(f"... {name}", file=sys.stderr)
                rows += part(bundles, words, Path(folder))
    print(f"{host.cpu}, {host.cores} cores, {host.kernel}; load {began.get('load_average_1m', 0):.1f} when it began")
    for row in rows:
        mark = "" if row["ok"] else "   MISSED"
        print(f"{row['what']:<72} {row['value']:>9} bound {row['bound']:<9} n={row['n']}{mark}")
    path = ROOT / "artifacts" / "believe.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": host.cpu, "isa": host.isa, "load": dict(began), "rows": rows}, indent=1))
    return 0 if all(row["ok"] for row in rows) else 1


def _row(what: str, value: str, bound: str, ok: bool, n: int, **more: Any) -> dict[str, Any]:
    print(f"    {what}: {value}", file=sys.stderr, flush=True)
    return {"what": what, "value": value, "bound": bound, "ok": bool(ok), "n": n, **more}


def _resnet20(folder: Path) -> list[Path]:
    from run import build_bundles

    return list(build_bundles(folder).values())


def _built(name: str, folder: Path) -> list[Path]:
    """Build fp32 bundles of a trained model for both engines."""
    from beside import peers_models

    from edgepack.execution.store import Store
    from edgepack.pipeline.build import build
    from edgepack.pipeline.settings import BuildSettings

    place = folder / name
    peers_models().set_up(name, place / "model")
    settings = BuildSettings(
        model=str(place / "model" / "model.onnx"), targets=tuple(f"host-{engine}" for engine in ENGINES),
        data=str(place / "model" / "calibration.npz"), out=str(place / "out"), benchmark=False, name=name,
    )  # fmt: skip
    result = build(settings, Store(folder / "store"))
    assert all(r.status == "ok" for r in result.rows), result.rows
    return [place / "out" / f"{name}-host-{engine}-fp32.edgepack" for engine in ENGINES]


def _say(text: str) -> None:
    print(f"    {text}", file=sys.stderr, flush=True)


# --- intervals and verdicts -------------------------------------------------------------------------------------------


def coverage(bundles: list[Path], words: Any, folder: Path) -> list[dict[str, Any]]:
    """Measure the first bundle twice, several times; both intervals of the median shall hold the pooled median."""
    covered = valid = 0
    for pair in range(words.pairs):
        scenario = Scenario("SingleStream", round(words.seconds * SECOND), SECOND, seed=pair)
        both = [
            child.call(benchmark, bundles[0], scenario, ONE, limit_s=900.0, log=folder / "coverage.log")
            for _ in range(2)
        ]
        pooled = nearest_rank(np.sort(np.concatenate([r.latencies_ns or r.distribution_ns for r in both])), 50.0)
        intervals = [r.percentiles[0].ci95_ns for r in both]
        covered += all(i is not None and i[0] <= pooled <= i[1] for i in intervals)
        valid += sum(r.valid for r in both)
        _say(f"pair {pair}: {[r.percentiles[0].value_ns for r in both]} ns, {intervals}, pooled {pooled}")
    what = f"both intervals cover the pooled median ({valid} of {2 * words.pairs} runs undisturbed)"
    return [_row(what, f"{covered}/{words.pairs}", ">= 90 %", covered >= 0.9 * words.pairs, words.pairs, valid=valid)]


def same(bundles: list[Path], words: Any, _folder: Path) -> list[dict[str, Any]]:
    """Compare the first bundle with itself."""
    verdicts: Counter[str] = Counter()
    valid = 0
    for seed in range(words.comparisons):
        found = compare(bundles[0], bundles[0], round(words.compare_seconds * SECOND), ONE, seed)
        verdicts[found.verdict] += 1
        valid += found.valid
        _say(f"A/A {seed}: {found.verdict} {found.ratio:.4f} ({found.ci95[0]:.4f}..{found.ci95[1]:.4f})")
    none, n = verdicts["same"], words.comparisons
    bound = math.floor(0.95 * n)
    what = f"A/A: no difference, within 1 % ({valid} of {n} undisturbed; {dict(verdicts)})"
    return [_row(what, f"{none}/{n}", f">= {bound}", none >= bound, n, valid=valid, verdicts=dict(verdicts))]


def slowdown(bundles: list[Path], _words: Any, folder: Path) -> list[dict[str, Any]]:
    """Compare the first bundle with itself, each query prolonged by 3 % of the median."""
    scenario = Scenario("SingleStream", SECOND, SECOND // 5)
    with Worker(folder / "probe.log") as probe:
        probe.ask(Open(bundles[0], scenario, ONE))
        median = nearest_rank(np.sort(np.array(probe.ask(Block(SECOND, 10, 10 * SECOND)).latencies_ns)), 50.0)
    spin_ns = round(SLOWDOWN * median)
    pair = (Open(bundles[0], scenario, ONE), Open(bundles[0], scenario, ONE, spin_ns=spin_ns))
    found = compare_with(lambda name: Worker(folder / f"{name}.log"), pair, 110 * SECOND, seed=0)
    low, high = found.ci95
    what = (
        f"3 % slower ({spin_ns} ns of spinning): {found.verdict} ({low:.4f}..{high:.4f}) after "
        f"{found.duration_ns / SECOND:.0f} s{'' if found.valid else ', disturbed'}"
    )
    ok = found.verdict == "slower" and found.duration_ns < 120 * SECOND
    return [_row(what, f"{found.ratio:.4f}", "slower", ok, len(found.launches), ci95=found.ci95, valid=found.valid)]


# --- against benchmark_app --------------------------------------------------------------------------------------------


def benchmark_app(bundles: list[Path], words: Any, folder: Path) -> list[dict[str, Any]]:
    """Measure each OpenVINO bundle by benchmark_app and by ``benchmark`` in turn, both with the hint for latency.

    Both load the model for a batch of 1.
    """
    rows = []
    for bundle in bundles:
        model = _unpacked(bundle, folder)
        if model is None:
            continue
        seconds = words.turn_seconds
        ours, theirs = [], []
        for number in range(words.rounds):
            for who in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                if who == "ours":
                    ours.append(_ours(bundle, seconds, folder, "SingleStream", RunOptions())[0])
                else:
                    theirs.append(_theirs(model, bundle, seconds, folder, "latency")[0])
        ratio, low, high = _paired(ours, theirs)
        mine, its = _paired(ours, [1.0] * len(ours))[1:], _paired(theirs, [1.0] * len(theirs))[1:]
        agree = mine[0] <= its[1] and its[0] <= mine[1]
        what = f"{bundle.stem}: median of benchmark / benchmark_app ({low:.3f}..{high:.3f}); {_ms(mine)} and {_ms(its)}"
        rows.append(_row(what, f"{ratio:.3f}", "overlap", agree, words.rounds, ours=ours, theirs=theirs))
    return rows


def tuning(bundles: list[Path], words: Any, folder: Path) -> list[dict[str, Any]]:
    """Tune each bundle for latency and for throughput; then tuned, default and benchmark_app's best hint in turn."""
    rows = []
    for bundle in bundles:
        for scenario in words.scenarios:
            found = tune(bundle, scenario, round(words.tune_seconds * SECOND))  # type: ignore[arg-type]
            low, high = found.ci95
            _say(f"{bundle.stem} {scenario}: {found.verdict} {found.ratio:.3f} ({low:.3f}..{high:.3f}) {found.options}")
            what = f"{bundle.stem} {scenario}: tuned / default time ({low:.3f}..{high:.3f})"
            state = "" if found.valid else ", disturbed"
            ok = found.ratio == 1.0 or high < 1.0
            rows.append(
                _row(what + state, f"{found.ratio:.3f}", "<= 1", ok, len(found.trials), options=str(found.options))
            )
            model = _unpacked(bundle, folder)
            if model is not None:
                rows.append(_against_app(bundle, model, scenario, found, words, folder))
            elif (twin := _twin(bundle, bundles, folder)) is not None:
                rows.append(_against_app(bundle, twin, scenario, found, words, folder) | {"bound": "none", "ok": True})
    return rows


def _twin(bundle: Path, bundles: list[Path], folder: Path) -> Path | None:
    """Return the IR of an OpenVINO bundle of the same model: another engine, so the ratio is only told."""
    source = open_bundle(bundle).manifest.source_sha256
    same = (other for other in bundles if open_bundle(other).manifest.source_sha256 == source)
    return next((model for other in same if (model := _unpacked(other, folder)) is not None), None)


def _against_app(bundle: Path, model: Path, scenario: str, found: Any, words: Any, folder: Path) -> dict[str, Any]:
    """Measure with the tuned options and with both of benchmark_app's hints in turn."""
    seconds = words.turn_seconds
    place = 0 if scenario == "SingleStream" else 1
    ours: list[float] = []
    hints: dict[str, list[float]] = {"latency": [], "throughput": []}
    turns = ("ours", *hints)
    for number in range(words.rounds):
        for who in turns if number % 2 else turns[::-1]:
            if who == "ours":
                ours.append(_ours(bundle, seconds, folder, scenario, found.options, found.batch)[place])
            else:
                hints[who].append(_theirs(model, bundle, seconds, folder, who)[place])
    best = max(hints, key=lambda hint: np.nan_to_num(_paired(ours, hints[hint])[0]))
    ratio, low, high = _paired(ours, hints[best])
    ok = low <= 1.0 and high <= 1.0 + RESOLVED  # as fast, and the interval could have told if it were not
    what = f"{bundle.stem} {scenario}: tuned / benchmark_app -hint {best} ({low:.3f}..{high:.3f})"
    counted = int(np.isfinite(np.array(ours) / np.array(hints[best])).sum())
    return _row(what, f"{ratio:.3f}", "<= 1", ok, counted, ours=ours, theirs=hints)


def _ours(
    bundle: Path, seconds: float, folder: Path, scenario: str, options: RunOptions, batch: int = 1
) -> tuple[float, float]:
    """Return the median latency and the time of a sample, in ns, of one process."""
    plan = Scenario(scenario, round(seconds * SECOND), SECOND // 2, batch=batch, launches=1)  # type: ignore[arg-type]
    found = child.call(benchmark, bundle, plan, options, limit_s=600.0, log=folder / "ours.log")
    median = nearest_rank(np.sort(np.array(found.latencies_ns or found.distribution_ns)), 50.0)
    return float(median), 1e9 / found.samples_per_second


def _theirs(model: Path, bundle: Path, seconds: float, folder: Path, hint: str) -> tuple[float, float]:
    """Return the same from benchmark_app; its inputs are random, of the model's shapes with a batch of 1.

    Left alone it changes the inputs of pictures to bytes, which it converts in the graph: they are kept as they are.
    """
    program = shutil.which("benchmark_app", path=str(Path(sys.executable).parent))
    if program is None:
        raise SystemExit("benchmark_app is not installed beside this Python: pip install openvino")
    with open_checked(bundle) as (_file, opened):
        golden = read_golden(read_member(opened, GOLDEN)).inputs[0]  # says the length of a sequence too
        shapes = ",".join(f"{name}[{','.join(map(str, golden[name].shape))}]" for name in golden)
        kept = ",".join(f"{spec.name}:f32" for spec in opened.manifest.inputs if spec.dtype == "float32")
    command = [
        program, "-m", str(model), "-d", "CPU", "-hint", hint, "-t", str(max(1, round(seconds))), "-shape", shapes,
        "-infer_precision", "f32", "-report_type", "no_counters", "-report_folder", str(folder), "-json_stats",
        *(("-iop", kept) if kept else ()),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    of = Of(bundle.stem, "host", "fp32", host_facts())
    found = import_result(folder / "benchmark_report.json", of)
    median = found.percentiles[0].value_ns
    return float(median if median is not None else math.nan), 1e9 / found.samples_per_second


def _unpacked(bundle: Path, folder: Path) -> Path | None:
    """Return the IR of an OpenVINO bundle; None for another engine's."""
    with open_checked(bundle) as (file, opened):
        payload = opened.manifest.payloads[0]
        if payload.backend != "openvino":
            return None
        out = folder / bundle.stem
        out.mkdir(exist_ok=True)
        for name in payload.files:
            with (out / Path(name).name).open("wb") as copy:
                copy_member(opened, name, file, copy)
        return out / Path(payload.entry).name


def _paired(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Return the centre of the rounds' ratios and its 95 % interval, which a few disturbed rounds do not widen.

    Hodges and Lehmann's estimate with the interval of the signed-rank test (Hollander and Wolfe, "Nonparametric
    Statistical Methods", section 3.3): of the means of all pairs of rounds, those that the test does not refuse.
    """
    ratios = np.array(ours) / np.array(theirs)
    logs = np.log(ratios[np.isfinite(ratios)])  # without the rounds whose queries were too few for a median
    n = len(logs)
    if not n:
        return math.nan, -math.inf, math.inf
    one, other = np.triu_indices(n)
    means = np.sort((logs[one] + logs[other]) / 2)
    out = math.floor(n * (n + 1) / 4 - 1.96 * math.sqrt(n * (n + 1) * (2 * n + 1) / 24))
    low, high = (means[out - 1], means[-out]) if out >= 1 else (-math.inf, math.inf)
    return math.exp(float(np.median(means))), math.exp(low), math.exp(high)


def _ms(interval: tuple[float, float]) -> str:
    return f"{interval[0] / 1e6:.3f}..{interval[1] / 1e6:.3f} ms"


PARTS = {
    "coverage": coverage,
    "same": same,
    "slowdown": slowdown,
    "benchmark_app": benchmark_app,
    "tune": tuning,
}

if __name__ == "__main__":
    sys.exit(main())
