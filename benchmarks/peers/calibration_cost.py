"""What calibration costs against ONNX Runtime's calibrators: CPU seconds and peak memory of whole processes.

    .venv/bin/python benchmarks/peers/calibration_cost.py [--one-core] [--rounds 3] [--large 1000] [--json FILE]

Same prepared model (EfficientNet-Lite0), same pictures (crops of 32 photographs, recipe efficientnet-lite), the tools
taking turns, each as it comes or, with ``--one-core``, both on one core with one thread. A process starts, imports,
reads pictures, calibrates, ends: all of that counts. "Above loaded" subtracts the peak of a process that only loads the
model and runs it once. This driver imports the standard library only: the kernel counts a parent's memory in the peak
of its child.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
ASSETS = ROOT.parent / "shared" / "assets"
RECIPE = "efficientnet-lite"
SMALL = 50
OURS = ("minmax", "percentile", "entropy", "mse")
THEIRS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
# CPU seconds allowed, as a share of ONNX Runtime's with the same observer; mse, which it lacks, against its entropy.
BOUNDS = {"minmax": 1 / 2, "percentile": 1 / 3, "entropy": 1 / 3, "mse": 1 / 3}
MOST_ABOVE_LOADED_MB = 200
MOST_GROWTH = 1.10


@dataclass(frozen=True)
class Cost:
    """One process: CPU seconds (user and system), wall seconds, peak resident memory."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def main() -> int:
    """Measure and print the table; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=1000, help="samples of the memory comparison; 0 leaves it out")
    parser.add_argument("--one-core", action="store_true", help="both tools on one core, with one thread")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs="*")
    words = parser.parse_args()
    if words.child:
        CHILDREN[words.child[0]](*words.child[1:])
        return 0
    if not ASSETS.is_dir():
        print("no real models and data beside the checkout (../shared/assets)", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory(prefix="edgepack-calibration-") as scratch:
        if words.one_core:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        result = compare(Path(scratch), words.rounds, words.large)
    show(result)
    if words.json:
        words.json.parent.mkdir(parents=True, exist_ok=True)
        words.json.write_text(json.dumps(result, indent=1))
    return 0 if all(row["ok"] for row in result["rows"]) else 1


def compare(scratch: Path, rounds: int, large: int) -> dict[str, Any]:
    """Return all figures as a document."""
    model, pictures, facts = scratch / "model" / "model.onnx", scratch / "pictures", scratch / "facts.json"
    run("make", str(model.parent), str(pictures), str(max(SMALL, large)), str(facts))
    jobs = [("ours", observer) for observer in OURS] + [("theirs", observer) for observer in THEIRS]
    costs: dict[tuple[str, str], list[Cost]] = {job: [] for job in jobs}
    loaded = []
    for turn in range(rounds):
        loaded.append(run("loaded", model, pictures, "-", str(SMALL)))
        for job in jobs[turn % len(jobs) :] + jobs[: turn % len(jobs)]:
            print(f"... round {turn + 1} of {rounds}: {job[0]} {job[1]}", file=sys.stderr)
            costs[job].append(run(job[0], model, pictures, job[1], str(SMALL)))
    base_mb = statistics.median(cost.peak_mb for cost in loaded)
    rows = [_row(observer, costs, base_mb) for observer in OURS]
    if large:
        rows += [_growth(observer, costs["ours", observer], model, pictures, large, base_mb) for observer in OURS]
    return {
        "samples": SMALL,
        "rounds": rounds,
        "loaded_mb": base_mb,
        "rows": rows,
        "where": json.loads(facts.read_text()),
    }


def _row(observer: str, costs: dict[tuple[str, str], list[Cost]], base_mb: float) -> dict[str, Any]:
    ours = costs["ours", observer]
    theirs = costs["theirs", observer if observer in THEIRS else "entropy"]
    ratios = [a.cpu_s / b.cpu_s for a, b in zip(ours, theirs, strict=True)]
    above = max(cost.peak_mb for cost in ours) - base_mb
    return {
        "what": f"{observer}, {SMALL} samples",
        "cpu_s": statistics.median(cost.cpu_s for cost in ours),
        "ort_cpu_s": statistics.median(cost.cpu_s for cost in theirs),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "bound": BOUNDS[observer],
        "above_loaded_mb": above,
        "ort_above_loaded_mb": max(cost.peak_mb for cost in theirs) - base_mb,
        "ok": statistics.median(ratios) <= BOUNDS[observer] and above <= MOST_ABOVE_LOADED_MB,
    }


def _growth(observer: str, small: list[Cost], model: str, pictures: str, large: int, base_mb: float) -> dict[str, Any]:
    print(f"... {observer} on {large} samples", file=sys.stderr)
    cost = run("ours", model, pictures, observer, str(large))
    before = statistics.median(c.peak_mb for c in small) - base_mb
    after = cost.peak_mb - base_mb
    return {
        "what": f"{observer}, {large} samples",
        "cpu_s": cost.cpu_s,
        "above_loaded_mb": after,
        "growth": after / before,
        "ok": after <= MOST_GROWTH * before,
    }


def run(*words: object) -> Cost:
    """Run one child of this file and return what it cost."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    words_of_child = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words[0]} failed:\n{words_of_child.decode(errors='replace')[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss / 1024)


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    facts = result["where"]
    print(
        f"{facts['cpu']}, {facts['cores']} cores used; " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    )
    print(f"median of {result['rounds']} rounds; a process with the model loaded: {result['loaded_mb']:.0f} MB")
    for row in result["rows"]:
        mark = "" if row["ok"] else "   BEYOND ITS BOUND"
        if "ratio" in row:
            low, high = row["ratio_range"]
            print(
                f"{row['what']:<26} {row['cpu_s']:6.2f} CPU s, ONNX Runtime {row['ort_cpu_s']:6.2f}: "
                f"ratio {row['ratio']:.2f} ({low:.2f} to {high:.2f}, bound {row['bound']:.2f}); "
                f"+{row['above_loaded_mb']:.0f} MB, ONNX Runtime +{row['ort_above_loaded_mb']:.0f} MB{mark}"
            )
        else:
            print(
                f"{row['what']:<26} {row['cpu_s']:6.2f} CPU s; +{row['above_loaded_mb']:.0f} MB, "
                f"{row['growth']:.2f} times that of {result['samples']}{mark}"
            )


# --- what runs in a process of its own --------------------------------------------------------------------------------


def make(model: str, pictures: str, count: str, facts: str) -> None:
    """Make the model and the pictures, and write down where this runs."""
    make_model(Path(model))
    make_pictures(Path(pictures), int(count))
    Path(facts).write_text(json.dumps(where()))


def make_model(folder: Path) -> Path:
    """Prepare the model once, as a build does before it calibrates."""
    from edgepack.graph.load import load_model
    from edgepack.graph.prepare import prepare

    return prepare(load_model(ASSETS / "efficientnet_lite0.onnx"), folder).path


def make_pictures(folder: Path, count: int) -> Path:
    """Write crops of the photographs, at least half of the shorter side, as JPEG files."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    photographs = sorted((ASSETS / "coco_ccby" / "images").iterdir())
    folder.mkdir()
    for index in range(count):
        with Image.open(photographs[index % len(photographs)]) as image:
            side = int(min(image.size) * rng.uniform(0.5, 1.0))
            left, top = (int(rng.integers(0, size - side + 1)) for size in image.size)
            crop = image.convert("RGB").crop((left, top, left + side, top + side))
        crop.save(folder / f"{index:04}.jpg", quality=90)
    return folder


def where() -> dict[str, Any]:
    """Return the circumstances of the figures."""
    import importlib.metadata

    from edgepack.device.host import host_facts

    host = host_facts()
    versions = {name: importlib.metadata.version(name) for name in ("onnxruntime", "numpy", "pillow", "onnx")}
    return {
        "cpu": host.cpu,
        "isa": list(host.isa),
        "kernel": host.kernel,
        "versions": versions,
        "cores": len(os.sched_getaffinity(0)),
    }


def samples_of(model: str, pictures: str, count: str) -> tuple[Any, Any]:
    """Return the loaded model and its first samples, the same for both tools."""
    from edgepack.data.recipes import load_recipe
    from edgepack.data.samples import find_samples
    from edgepack.graph.load import load_model

    loaded = load_model(Path(model))
    found = find_samples(pictures, loaded.inputs, load_recipe(RECIPE).preprocessing)
    if int(count) < len(found.indices):
        from edgepack.data.samples import take_samples

        found = take_samples(found, int(count), 0)
    return loaded, found


def ours(model: str, pictures: str, observer: str, count: str) -> None:
    """Calibrate with edgepack."""
    from edgepack.calibrate import calibrate

    loaded, found = samples_of(model, pictures, count)
    with tempfile.TemporaryDirectory() as out:
        ranges = calibrate(loaded, found, observer, 99.99, Path(out))  # type: ignore[arg-type]
    assert len(ranges.tensors) > 90


def theirs(model: str, pictures: str, observer: str, count: str) -> None:
    """Calibrate with ONNX Runtime as it comes."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

    from edgepack.data.samples import read_samples

    loaded, found = samples_of(model, pictures, count)
    plain = onnxruntime.SessionOptions

    def one_thread() -> Any:
        options = plain()
        options.intra_op_num_threads = 1
        return options

    if len(os.sched_getaffinity(0)) == 1:
        onnxruntime.SessionOptions = one_thread
    feeds = read_samples(found, loaded.inputs)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return next(feeds, None)

    with tempfile.TemporaryDirectory() as out:
        calibrator = create_calibrator(
            model,
            None,
            augmented_model_path=str(Path(out) / "augmented.onnx"),
            calibrate_method=getattr(CalibrationMethod, THEIRS[observer]),
        )
        calibrator.set_execution_providers(["CPUExecutionProvider"])
        calibrator.collect_data(Reader())
        assert len(calibrator.compute_data().data) > 90


def loaded(model: str, pictures: str, _observer: str, count: str) -> None:
    """Load the model and run it once."""
    import onnxruntime

    import edgepack.calibrate.measure  # noqa: F401  # what a calibrating process imports
    from edgepack.data.samples import read_samples

    described, found = samples_of(model, pictures, count)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    session.run(None, next(read_samples(found, described.inputs)))


CHILDREN = {"make": make, "ours": ours, "theirs": theirs, "loaded": loaded}

if __name__ == "__main__":
    sys.exit(main())
