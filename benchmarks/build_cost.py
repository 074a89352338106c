"""What builds cost (``make bench-build``): CPU seconds of whole process trees and peak memory, on this host, now.

    .venv/bin/python benchmarks/build_cost.py [PART ...] [--models resnet20 lite0] [--rounds 3] [--beside CHECKOUT]

``corrections`` are quantize with all corrections, from ranges to the int8 file, with what it reaches on samples that
nothing was fitted on; ``stages`` a whole build for several targets, by stage; ``memory`` the peaks of the stages that
read samples, with few and with many of them; ``again`` a build in which nothing changed. With ``--beside`` another
checkout of edgepack is measured in turn with this one: ratios hold on a busy machine where seconds do not. Prints, and
writes artifacts/build-cost.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("resnet20", "lite0", "fastestdet", "minilm")
ENGINES = ("onnxruntime", "openvino")
TARGETS = ("host-onnxruntime", "raspberry-pi-5", "amd-zen3", "host-openvino", "xeon-amx", "host-tvm")
FEW, MANY = 50, 1000
AGAIN_S, MOST_GROWTH = 0.5, 1.10
LITE0_S = 30.0


@dataclass(frozen=True)
class Run:
    """One process: CPU seconds of all that it started and waited for, or of the part that counts; its answer."""

    cpu_s: float
    found: dict[str, Any]


def main() -> int:
    """Measure the parts asked for; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES, help="of corrections")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), help="of stages")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=Path, help="another checkout of edgepack")
    parser.add_argument("--keep", type=Path, help="a folder that keeps models and samples for the next run")
    parser.add_argument("--child", nargs="*")
    words = parser.parse_args()
    if words.child:
        found = CHILDREN[words.child[0]](*words.child[1:])
        Path(os.environ["EDGEPACK_BUILD_COST"]).write_text(json.dumps(found))
        return 0
    if unknown := set(words.names) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    checkouts = [ROOT, *([words.beside.resolve()] if words.beside else [])]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edgepack-build-cost-") as scratch:
        words.scratch = Path(scratch)
        words.keep = words.keep or Path(scratch) / "models"
        for name, part in PARTS.items():
            if not words.names or name in words.names:
                rows += part(checkouts, words)
    write(rows)
    return 0 if all(row.get("ok", True) for row in rows) else 1


def write(rows: list[dict[str, Any]]) -> None:
    """Print where this was, and write all figures."""
    from edgepack.device.host import host_facts

    host = host_facts()
    say(f"{host.cpu}, {host.cores} cores, {host.kernel}; load {os.getloadavg()[0]:.1f} at the end")
    path = ROOT / "artifacts" / "build-cost.json"
    path.parent.mkdir(exist_ok=True)
    facts = {"host": host.cpu, "cores": host.cores, "isa": host.isa, "date": time.strftime("%Y-%m-%d", time.gmtime())}
    path.write_text(json.dumps({**facts, "rows": rows}, indent=1))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def run(words: Any, checkout: Path, *arguments: object) -> Run:
    """Run one of ``CHILDREN`` with the edgepack of a checkout."""
    answer, log = words.scratch / "answer.json", words.scratch / "log"
    # Bytecode is kept, as users' Python does: else every process would compile edgepack's modules again.
    kept = {"PYTHONDONTWRITEBYTECODE": ""}
    environment = {**os.environ, **kept, "PYTHONPATH": str(checkout), "EDGEPACK_BUILD_COST": str(answer)}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", *map(str, arguments)],
            stdout=output, stderr=output, env=environment, cwd=words.scratch,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments[0]} failed:\n{log.read_text()[-3000:]}")
    found = json.loads(answer.read_text())
    return Run(found.pop("cpu_s", usage.ru_utime + usage.ru_stime), found)


def in_turn(words: Any, checkouts: list[Path], *arguments: object) -> dict[str, list[Run]]:
    """Return the runs of each checkout, taken in turn."""
    runs: dict[str, list[Run]] = {str(checkout): [] for checkout in checkouts}
    for number in range(words.rounds):
        for checkout in checkouts if number % 2 == 0 else checkouts[::-1]:
            runs[str(checkout)].append(run(words, checkout, *arguments))
    return runs


def seconds(values: list[float]) -> str:
    """Return a median and what it lies between."""
    return f"{statistics.median(values):7.2f} CPU s ({min(values):.2f} to {max(values):.2f})"


def models(words: Any) -> Iterator[tuple[str, Path]]:
    """Yield each model's name and folder, with its file, samples and ranges in it; those that are not here are said."""
    for name in words.models:
        folder = words.keep.resolve() / name
        if not (folder / "ranges.json").is_file():
            try:
                run(words, ROOT, "make", name, folder)
            except SystemExit as error:
                say(f"{name} left out: {str(error).strip().splitlines()[-1][:200]}")
                continue
        yield name, folder


# --- parts ------------------------------------------------------------------------------------------------------------


def corrections(checkouts: list[Path], words: Any) -> list[dict[str, Any]]:
    """Measure ``quantize_corrected`` of each model by the rules of each engine."""
    rows = []
    for name, folder in models(words):
        for engine in words.engines:
            runs = in_turn(words, checkouts, "corrections", folder, engine)
            for checkout, found in runs.items():
                costs, last = [one.cpu_s for one in found], found[-1].found
                same = len({one.found["sha256"] for one in found}) == 1
                bound = LITE0_S if name == "lite0" and checkout == str(ROOT) else None
                ok = same and (bound is None or statistics.median(costs) <= bound)
                say(
                    f"{name:<11} {engine:<12} {place(checkout):<6} {seconds(costs)}, {last['sqnr_db']:.2f} dB, kept: "
                    f"{', '.join(last['kept'])}; {last['sha256'][:8]}{'' if same else ' AND OTHERS'}, n={len(costs)}"
                    f"{'' if ok else '   BEYOND ITS BOUND'}"
                )
                rows.append({"part": "corrections", "model": name, "engine": engine, "checkout": place(checkout),
                             "cpu_s": costs, "ok": ok, **last})  # fmt: skip
            say_ratio(checkouts, runs)
    return rows


def stages(checkouts: list[Path], words: Any) -> list[dict[str, Any]]:
    """Measure a build of each model in fp32 and int8 for all targets, by stage."""
    rows = []
    for name, folder in models(words):
        runs = in_turn(words, checkouts, "build", folder, ",".join(words.targets))
        for checkout, found in runs.items():
            costs = [one.cpu_s for one in found]
            say(
                f"{name:<11} build of {len(words.targets)} targets {place(checkout):<6} {seconds(costs)} n={len(costs)}"
            )
            by_stage = {
                stage: [one.found["stages"].get(stage, 0.0) for one in found] for stage in found[0].found["stages"]
            }
            for stage, values in sorted(by_stage.items(), key=lambda item: -statistics.median(item[1])):
                say(f"    {stage:<14} {found[0].found['counts'].get(stage, 0):>3} x {seconds(values)}")
            rows.append({"part": "stages", "model": name, "checkout": place(checkout), "cpu_s": costs,
                         "stages": by_stage, "bundles": found[-1].found["bundles"]})  # fmt: skip
        for checkout, found in runs.items():
            if len(found) > 1:
                same = len({json.dumps(one.found["bundles"], sort_keys=True) for one in found}) == 1
                words_of = "the same" if same else "NOT the same"
                say(f"    {place(checkout)}: {words_of} bundles in each of {len(found)} builds")
                rows.append({"part": "stages", "model": name, "checkout": place(checkout), "ok": same})
        say_ratio(checkouts, runs)
    return rows


def memory(_checkouts: list[Path], words: Any) -> list[dict[str, Any]]:
    """Measure the peak of each stage that reads samples, with few and with many."""
    rows = []
    for name, folder in models(words):
        peaks: dict[str, list[float]] = {}
        for count in (FEW, MANY):
            samples = run(words, ROOT, "many", folder, count).found["path"]
            for stage in ("calibrate", "corrections", "reference", "evaluate", "change"):
                found = run(words, ROOT, "peak", folder, samples, stage).found
                peaks.setdefault(stage, []).append(found["peak_mb"])
        for stage, (few, many) in peaks.items():
            ok = many <= MOST_GROWTH * few
            say(
                f"{name:<11} {stage:<12} {few:6.0f} MB with {FEW}, {many:6.0f} MB with {MANY} samples, "
                f"{many / few:.2f} times{'' if ok else '   BEYOND ITS BOUND'}"
            )
            rows.append({"part": "memory", "model": name, "stage": stage, "few_mb": few, "many_mb": many, "ok": ok})
    return rows


def again(checkouts: list[Path], words: Any) -> list[dict[str, Any]]:
    """Measure a build in which nothing changed, beyond importing what it imports."""
    rows = []
    for name, folder in models(words):
        for checkout in checkouts:
            store = words.scratch / f"again-{name}-{checkouts.index(checkout)}"
            arguments = ("again", folder, ",".join(words.targets), store)
            run(words, checkout, *arguments)
            imported = run(words, checkout, *arguments).found["imported"]  # those of a build in which nothing changed
            rounds = [run(words, checkout, *arguments, imported) for _ in range(max(words.rounds, 5))]
            beyond = [measured.found["beyond_s"] for measured in rounds]
            ok = statistics.median(beyond) <= AGAIN_S
            say(
                f"{name:<11} {len(words.targets)} targets, no change, beyond importing: {place(str(checkout)):<6} "
                f"{seconds(beyond)}, n={len(beyond)}{'' if ok else '   BEYOND ITS BOUND'}"
            )
            rows.append({"part": "again", "model": name, "checkout": place(str(checkout)), "cpu_s": beyond, "ok": ok})
    return rows


def place(checkout: str) -> str:
    """Return what a checkout is called."""
    return "here" if checkout == str(ROOT) else "beside"


def say_ratio(checkouts: list[Path], runs: dict[str, list[Run]]) -> None:
    """Print the ratio of this checkout's CPU time to the other's."""
    if len(checkouts) > 1:
        ratios = [a.cpu_s / b.cpu_s for a, b in zip(*runs.values(), strict=True)]
        say(f"    here / beside: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


# --- what runs in a process of its own --------------------------------------------------------------------------------


def make(name: str, folder: str) -> dict[str, Any]:
    """Write a model, its samples, and the ranges of its tensors."""
    from beside import peers_models

    from edgepack.base import documents
    from edgepack.calibrate import calibrate

    place = Path(folder)
    peers_models().set_up(name, place)
    model, samples = _read(place, "calibration.npz")
    with tempfile.TemporaryDirectory() as out:
        ranges = calibrate(model, samples, "auto", 99.99, Path(out))
    (place / "ranges.json").write_text(documents.to_json(ranges))
    return {}


def _read(folder: Path, data: str) -> tuple[Any, Any]:
    from edgepack.data.samples import find_samples
    from edgepack.graph.load import load_model

    model = load_model(folder / "model.onnx")
    return model, find_samples(str(folder / data), model.inputs, None)


def _ranges(folder: Path, samples: Any) -> Any:
    import dataclasses

    from edgepack.base import documents
    from edgepack.specs.data import Ranges

    found = documents.from_json(Ranges, (folder / "ranges.json").read_bytes(), "ranges.json")
    return dataclasses.replace(found, data_sha256=samples.sha256)


def corrections_child(folder: str, engine: str) -> dict[str, Any]:
    """Quantize with corrections as the stage of a build does, in a process of its own; say what came of it."""
    from edgepack.execution import child
    from edgepack.quantize.correct import quantize_corrected
    from edgepack.specs.target import QuantizationRules

    model, samples = _read(Path(folder), "calibration.npz")
    rules = QuantizationRules(engine=engine)
    with tempfile.TemporaryDirectory() as out:
        before = cpu_s()
        found = child.call(
            quantize_corrected, model, _ranges(Path(folder), samples), rules, samples, "medium", Path(out), limit_s=3600
        )
        cost = cpu_s() - before
        level = _level(model, found.model, Path(folder))
    return {
        "cpu_s": cost,
        "sha256": found.model.sha256,
        "sqnr_db": level,
        "kept": [step.name for step in found.steps if step.kept][1:] or ["nothing"],
        "levels": {step.name: step.sqnr_db for step in found.steps},
    }


def _level(model: Any, quantized: Any, folder: Path) -> float:
    """Return the balanced SQNR on up to 100 of the samples to evaluate on, by ONNX Runtime, as the file says."""
    from edgepack.data.samples import find_samples, read_samples, take_samples
    from edgepack.graph.load import read_proto
    from edgepack.quantize.graph.sessions import open_session
    from edgepack.quantize.output_parts import parts_of
    from edgepack.quantize.sensitivity import balanced_noise
    from edgepack.verify.parts import noise_db

    samples = find_samples(str(folder / "evaluation.npz"), model.inputs, None)
    few = take_samples(samples, min(100, len(samples.indices)), 0)
    feeds = list(read_samples(few, model.inputs))
    names = [spec.name for spec in model.outputs]
    both = []
    for one in (model, quantized):
        session = open_session(read_proto(one), names, optimized=False)
        both.append([dict(session(feed)) for feed in feeds])
    return noise_db(balanced_noise(both[0], both[1], parts_of(model, feeds[0])))


class _Counting:
    """Events of a build that add up the CPU seconds of this process and its children by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {"between stages": 0.0}
        self.counts: dict[str, int] = {}
        self._stage, self._before = "", cpu_s()

    def begin(self, stage: str, _detail: str) -> None:
        """Remember where a stage begins."""
        self._add("between stages")
        self._stage = stage

    def end(self, outcome: str, _detail: str) -> None:
        """Add what it took."""
        self._add(self._stage)
        self.counts[self._stage] = self.counts.get(self._stage, 0) + (outcome == "done")

    def _add(self, stage: str) -> None:
        now = cpu_s()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._before
        self._before = now

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


def cpu_s() -> float:
    """Return the CPU seconds of this process and of its children, with those that the process that forks stages had."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(map(_running_s, _children()))


def _children() -> list[str]:
    return [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


def _running_s(pid: str) -> float:
    """Return the CPU seconds of a child that was not waited for yet, and of those that it waited for (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def build_child(folder: str, targets: str, store: str = "", events: Any = None) -> dict[str, Any]:
    """Build for all targets, in a store of its own where none is given; count by stage where no ``events`` are."""
    from edgepack.execution.store import Store
    from edgepack.pipeline.build import build
    from edgepack.pipeline.settings import BuildSettings

    place, counting = Path(folder), _Counting()
    with tempfile.TemporaryDirectory() as out:
        settings = BuildSettings(
            model=str(place / "model.onnx"), targets=tuple(targets.split(",")), precisions=("fp32", "int8"),
            name=place.name, data=str(place / "calibration.npz"), eval=str(place / "evaluation.npz"),
            out=str(Path(store or out) / "out"), benchmark=False, allow_poor=True,
        )  # fmt: skip
        result = build(settings, Store(Path(store or out) / "store"), events or counting)
        counting.begin("", "")
    bundles = {f"{row.target} {row.precision}": [row.status, row.sha256, row.balanced_sqnr_db] for row in result.rows}
    return {"stages": counting.stages, "counts": counting.counts, "bundles": bundles, "ran": result.stages_run}


def again_child(folder: str, targets: str, store: str, imported: str = "") -> dict[str, Any]:
    """Build, and say what it took beyond importing ``imported`` and the names of all modules that it needed."""
    for module in ("edgepack.cli.show.progress", "edgepack.pipeline.build", "rich.progress", *imported.split()):
        importlib.import_module(module)
    from edgepack.execution.events import Silent

    known = set(sys.modules)
    before = cpu_s()
    found = build_child(folder, targets, store, Silent())
    taken = cpu_s() - before
    return {"beyond_s": taken, "ran": found["ran"], "imported": " ".join(sorted(set(sys.modules) - known))}


def many(folder: str, count: str) -> dict[str, Any]:
    """Write ``count`` samples: those to calibrate and to evaluate with, repeated with a little noise."""
    import numpy as np

    place = Path(folder)
    path = place / f"many-{count}.npz"
    if not path.is_file():
        arrays = {}
        with np.load(place / "calibration.npz") as data:
            random = np.random.default_rng(0)
            for name in data.files:
                values = data[name]
                chosen = values[np.arange(int(count)) % len(values)]
                noise = random.normal(0, 1e-3, chosen.shape).astype(chosen.dtype) if chosen.dtype.kind == "f" else 0
                arrays[name] = chosen + noise
        np.savez(path, **arrays)
    return {"path": str(path)}


def peak(folder: str, data: str, stage: str) -> dict[str, Any]:
    """Run one stage on samples, and return the peak of this process."""
    place = Path(folder)
    model, samples = _read(place, data)
    with tempfile.TemporaryDirectory() as scratch:
        _run_stage(stage, place, model, samples, Path(scratch))
    # VmHWM and not ru_maxrss, which a process inherits from the one that started it.
    text = Path("/proc/self/status").read_text()
    return {"peak_mb": int(text.split("VmHWM:")[1].split()[0]) / 1024}


def _run_stage(stage: str, place: Path, model: Any, samples: Any, out: Path) -> None:
    from edgepack.calibrate import calibrate
    from edgepack.quantize.correct import quantize_corrected
    from edgepack.specs.target import QuantizationRules
    from edgepack.verify.reference import reference

    if stage == "calibrate":
        calibrate(model, samples, "auto", 99.99, out)
    elif stage == "corrections":
        ranges = _ranges(place, samples)
        quantize_corrected(model, ranges, QuantizationRules(engine="onnxruntime"), samples, "medium", out)
    else:
        outputs = reference(model, samples, out / "reference")
        if stage != "reference":
            _evaluate(model, samples, outputs, out, "agreement" if stage == "change" else "sqnr")


def _evaluate(model: Any, samples: Any, outputs: Any, out: Path, metric: str) -> None:
    from edgepack.engines import get_backend
    from edgepack.specs.model import CompiledModel
    from edgepack.specs.run import RunOptions
    from edgepack.verify.evaluate import evaluate
    from edgepack.verify.make_golden import make_golden

    golden = make_golden(model, samples, 4, out / "golden")
    compiled = CompiledModel(
        backend="onnxruntime", precision="int8", folder=model.path.parent, entry=model.path.name,
        files=(model.path.name,), inputs=model.inputs, outputs=model.outputs,
        versions=get_backend("onnxruntime").versions(),
    )  # fmt: skip
    evaluate(compiled, golden, outputs, None, samples, metric, None, 0, RunOptions(), out / "evaluated")


PARTS = {"corrections": corrections, "stages": stages, "memory": memory, "again": again}
CHILDREN: dict[str, Callable[..., dict[str, Any]]]
CHILDREN = {"make": make, "corrections": corrections_child, "build": build_child, "again": again_child, "many": many,
            "peak": peak}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
