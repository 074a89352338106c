"""What tuning brings (``make bench-tvm-tuning``): a table, and artifacts/bench-tvm-tuning.json.

Each model is tuned for so many minutes, one after the other, with one memory for all of them: what was measured for one
serves the next. Then the code by rule, the tuned code, ONNX Runtime and OpenVINO are timed on one thread in turns, each
time in a new process; what counts is CPU time a call. Two models are also compiled from what another of their family
left, without any measurement of their own: how much of the tuned speed they have is printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tvm_speed import NAMES, ROOT, child, circumstances, one_sample, source_of

# Whose records serve whom, without measuring: the same family.
SERVED = {"lite0": "mobilenetv2", "resnet50": "resnet18"}
ORDER = ("mobilenetv2", "lite0", "resnet18", "resnet50", "resnet20", "keywords", "fastestdet", "minilm")
MEMORY = ROOT / "artifacts" / "tuning"


def main() -> int:
    """Tune and measure the models named, or all that are here."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=", ".join(NAMES))
    parser.add_argument("--minutes", type=float, default=7.0, help="for each model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    words = parser.parse_args()
    os.environ["EDGEPACK_TUNING"] = str(MEMORY)
    rows = []
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-tuning-") as folder:
        for name in [name for name in ORDER if name in (words.names or NAMES)]:
            place = Path(folder, name)
            place.mkdir()
            row = one_model(name, place, words.minutes)
            if row is None:
                print(f"{name}: not measured: its file is not beside the checkout", flush=True)
                continue
            row |= measure(place, words.rounds, words.seconds)
            rows.append(row)
            show(row)
    for other in ("onnxruntime", "rule"):
        ratios = [row["cpu_ms"]["tuned"] / row["cpu_ms"][other] for row in rows]
        if ratios:
            mean = math.exp(statistics.fmean(map(math.log, ratios)))
            print(f"tuned against {other}: geometric mean {mean:.3f}, worst {max(ratios):.2f}, n={len(ratios)} models")
    facts = circumstances()
    print(f"{facts['host']}, 1 thread, {facts['versions']}, load {os.getloadavg()[0]:.1f}")
    path = ROOT / "artifacts" / "bench-tvm-tuning.json"
    path.write_text(json.dumps({**facts, "rows": rows}, indent=1))
    return 0


def one_model(name: str, place: Path, minutes: float) -> dict[str, Any] | None:
    """Tune a model and compile it by rule, tuned, and from another's records; return what the search told."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Display
    from edgepack.device.host import host_facts
    from edgepack.engines import get_backend
    from edgepack.engines.targets import load_target
    from edgepack.engines.tvm import engine as tvm
    from edgepack.engines.tvm.compile import compile_folder
    from edgepack.engines.tvm.cost_model import chooser
    from edgepack.engines.tvm.records import Records, load_records
    from edgepack.engines.tvm.tuning.workloads import kernels_of
    from edgepack.execution.runner import StageRunner
    from edgepack.execution.store import Store
    from edgepack.graph.load import load_model
    from edgepack.graph.prepare import prepare
    from edgepack.pipeline.tune_kernels import tune_kernels

    source = source_of(name, place)
    if source is None:
        return None
    model = prepare(load_model(one_sample(source, place / "one.onnx")), place / "prepared")
    whole = load_target("host-tvm")
    target = dataclasses.replace(whole, id="bench-1-thread", compute=dataclasses.replace(whole.compute, cores=1))
    known = tvm.versions()
    before = tvm.tuned_records(target, known)
    if (other := SERVED.get(name)) is not None and (snapshot := MEMORY / f"{other}.snapshot").is_file():
        records = load_records(snapshot, before.machine, before.tvm)
        compile_folder(model, target, "fp32", known, place / "served", chooser(records))
    store = Store(place / "store")
    with Display(make_console()) as display:
        runner = StageRunner(store, place / "logs", display, 600.0, host_facts())
        path = place / "model.onnx"
        shutil.copyfile(model.path, path)
        found = tune_kernels(runner, str(path), target, {}, round(minutes * 60e9), 0, None)
    after = tvm.tuned_records(target, known)
    if name in SERVED.values():
        alone = Records(after.machine, after.tvm, MEMORY / f"{name}.snapshot")
        used = [use.workload for use in kernels_of(model, target, "fp32")]
        alone.by_workload = {
            workload: after.by_workload[workload] for workload in used if workload in after.by_workload
        }
        alone.write(alone.path)
    compile_folder(model, target, "fp32", known, place / "rule")
    compile_folder(model, target, "fp32", known, place / "tuned", chooser(after))
    for engine in ("onnxruntime", "openvino"):
        get_backend(engine).compile_model(model, load_target(f"host-{engine}"), "fp32", place / engine)
    search = found.search
    return {
        "model": name, "path": str(model.path), "minutes": search.took_ns / 60e9, "complete": search.complete,
        **{state: search.count(state) for state in ("known", "transferred", "new")},  # type: ignore[arg-type]
        "saved_s": search.saved_ns / 1e9,
        "transfer_ratios": [k.transfer_ratio for k in search.kernels if k.transfer_ratio is not None],
    }  # fmt: skip


def measure(place: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Return the CPU milliseconds of each form, the median over processes, and the spread of the paired ratios."""
    forms = [name for name in ("onnxruntime", "openvino", "rule", "tuned", "served") if (place / name).is_dir()]
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds):
        for name in forms if turn % 2 else forms[::-1]:
            engine = name if name in ("onnxruntime", "openvino") else "tvm"
            path = str(next((place / "prepared").glob("*.onnx")))
            times[name].append(child("time", engine, path, str(place / name), "1", str(seconds))["cpu_ms"])
    ratios = {
        name: sorted(a / b for a, b in zip(times["tuned"], times[name], strict=True))
        for name in forms
        if name != "tuned"
    }
    return {"cpu_ms": {name: statistics.median(of) for name, of in times.items()}, "tuned_over": ratios}


def show(row: dict[str, Any]) -> None:
    """Print one row."""
    times = "  ".join(f"{name} {value:.3f}" for name, value in row["cpu_ms"].items())
    print(
        f"{row['model']:<12} {times} ms CPU  {row['known']} known, {row['transferred']} near, {row['new']} new "
        f"kernels, {row['minutes']:.1f} min{'' if row['complete'] else ' (time ended)'}, {row['saved_s']:.0f} s saved"
    )
    for name, ratios in row["tuned_over"].items():
        middle = statistics.median(ratios)
        print(f"  tuned takes {middle:.3f} times {name} ({ratios[0]:.3f}..{ratios[-1]:.3f}, n={len(ratios)} pairs)")
    if "served" in row["cpu_ms"]:
        share = 100 * statistics.median(row["tuned_over"]["served"])
        whose = SERVED[row["model"]]
        print(f"  without measuring, from {whose}'s records: {share:.1f} % of the tuned speed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
