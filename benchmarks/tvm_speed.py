"""How fast TVM's code by rule is against ONNX Runtime (``make bench-tvm``): a table, and artifacts/bench-tvm.json.

Every measurement is a process of its own, the two engines take turns, and what counts is CPU time a call: the median of
each process, then the median over processes. Both engines run the same file: fp32, or int8 as edgepack quantizes it for
TVM (ranges from random inputs: for speed, not accuracy). ResNet18, ResNet50 and MobileNetV2 have random weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / name) for name in ("benchmarks", "tests/helpers", "benchmarks/peers")]
ASSETS = ROOT.parent / "shared" / "assets"
FILES = {
    "lite0": "efficientnet_lite0.onnx", "resnet20": "resnet20_cifar10.onnx", "keywords": "kws_dscnn.onnx",
    "fastestdet": "fastestdet_352.onnx",
}  # fmt: skip
TORCH = ("resnet18", "resnet50", "mobilenetv2")
NAMES = (*TORCH, *FILES, "minilm")


def main() -> int:
    """Measure the models named, or all that are here."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=", ".join(NAMES))
    parser.add_argument("--precision", action="append", choices=["fp32", "int8"])
    parser.add_argument("--threads", action="append", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--child", nargs="*")
    words = parser.parse_args()
    if words.child:
        print(json.dumps(CHILDREN[words.child[0]](*words.child[1:])))
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-tvm-") as folder:
        for name in words.names or NAMES:
            for precision in words.precision or ("fp32", "int8"):
                found = child("prepare", name, precision, str(Path(folder, name, precision)))
                if "path" not in found:
                    print(f"{name} {precision}: {found['reason']}", flush=True)
                    continue
                for threads in words.threads or (1, 2):
                    rows.append(measure(name, precision, threads, found, words.rounds, words.seconds))
                    show(rows[-1])
    summary(rows)
    path = ROOT / "artifacts" / "bench-tvm.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**circumstances(), "rows": rows}, indent=1))
    return 0


def circumstances() -> dict[str, Any]:
    """Return the host and the engines' versions."""
    from edgepack.device.host import host_facts
    from edgepack.engines import get_backend

    host = host_facts()
    versions = {**get_backend("tvm").versions(), **get_backend("onnxruntime").versions()}
    return {"host": host.cpu, "cores": host.cores, "isa": host.isa, "versions": versions}


def measure(
    name: str, precision: str, threads: int, found: dict[str, Any], rounds: int, seconds: float
) -> dict[str, Any]:
    """Return one row: both engines in turns, each time in a new process."""
    times: dict[str, list[dict[str, float]]] = {"tvm": [], "onnxruntime": []}
    for turn in range(rounds):
        for engine in ("tvm", "onnxruntime") if turn % 2 else ("onnxruntime", "tvm"):
            times[engine].append(child("time", engine, found["path"], found[engine], str(threads), str(seconds)))
    row: dict[str, Any] = {"model": name, "precision": precision, "threads": threads, "rounds": rounds}
    for engine, runs in times.items():
        for what in ("cpu_ms", "wall_ms"):
            row[f"{engine}_{what}"] = statistics.median(run[what] for run in runs)
        row[f"{engine}_calls"] = sum(run["calls"] for run in runs)
    ratios = [a["cpu_ms"] / b["cpu_ms"] for a, b in zip(times["tvm"], times["onnxruntime"], strict=True)]
    row["ratio"], row["ratios"] = statistics.median(ratios), ratios
    return {**row, "compile_cpu_s": found["compile_cpu_s"], "library_bytes": found["library_bytes"]}


def show(row: dict[str, Any]) -> None:
    """Print one row."""
    spread = f"{min(row['ratios']):.2f}..{max(row['ratios']):.2f}"
    print(
        f"{row['model']:<12} {row['precision']} {row['threads']} threads  TVM {row['tvm_cpu_ms']:8.3f} ms  ONNX Runtime"
        f" {row['onnxruntime_cpu_ms']:8.3f} ms CPU  ratio {row['ratio']:.2f} ({spread}, n={row['rounds']} processes)"
        f"  wall {row['tvm_wall_ms']:.3f} / {row['onnxruntime_wall_ms']:.3f} ms"
        f"  compiled in {row['compile_cpu_s']:.1f} s CPU, {row['library_bytes'] / 1e6:.2f} MB",
        flush=True,
    )


def summary(rows: list[dict[str, Any]]) -> None:
    """Print geometric means, and int8 against our own fp32."""
    facts = circumstances()
    print(f"{facts['host']}, {facts['cores']} cores, {facts['versions']}, load {os.getloadavg()[0]:.1f}")
    for precision in ("fp32", "int8"):
        for threads in sorted({row["threads"] for row in rows}):
            ratios = [r["ratio"] for r in rows if (r["precision"], r["threads"]) == (precision, threads)]
            if ratios:
                mean = math.exp(statistics.fmean(map(math.log, ratios)))
                print(f"{precision}, {threads} threads: geometric mean {mean:.3f}, worst {max(ratios):.2f}")
    times = {(r["model"], r["precision"], r["threads"]): r["tvm_cpu_ms"] for r in rows}
    for (model, precision, threads), value in times.items():
        if precision == "int8" and (model, "fp32", threads) in times:
            print(f"{model}, {threads} threads: int8 {times[model, 'fp32', threads] / value:.2f} times our own fp32")


def child(*words: str) -> dict[str, Any]:
    """Run one of ``CHILDREN`` in a fresh process and return what it printed."""
    environment = {**os.environ, "TVM_NUM_THREADS": words[4]} if words[0] == "time" else None
    done = subprocess.run(
        [sys.executable, __file__, "--child", *words], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prepare_child(name: str, precision: str, folder: str) -> dict[str, Any]:
    """Write the ONNX file, quantized or not, and compile it for both engines."""
    from quantize_models import minmax_ranges, random_feeds

    from edgepack.engines import get_backend
    from edgepack.engines.targets import load_target
    from edgepack.graph.load import load_model
    from edgepack.graph.prepare import prepare
    from edgepack.quantize import quantize

    out = Path(folder)
    out.mkdir(parents=True)
    source = source_of(name, out)
    if source is None:
        return {"reason": "not measured: its file is not beside the checkout (see the comparisons, make peers)"}
    model = prepare(load_model(one_sample(source, out / "one.onnx")), out / "prepared")
    target = load_target("host-tvm")
    if precision == "int8":
        if any(spec.dtype != "float32" for spec in model.inputs):
            return {"reason": "not measured in int8: ranges of random inputs mean nothing where they are indices"}
        model = quantize(model, minmax_ranges(model, random_feeds(model, 2)), target.quantization, out / "quantized")
    found: dict[str, Any] = {"path": str(model.path)}
    for engine in ("onnxruntime", "tvm"):
        begin = time.process_time()
        compiled = get_backend(engine).compile_model(model, load_target(f"host-{engine}"), precision, out / engine)
        found["compile_cpu_s"] = time.process_time() - begin
        found["library_bytes"] = (compiled.folder / compiled.entry).stat().st_size
        found[engine] = compiled.entry
    found["library_bytes"] = (out / "tvm" / "model.so").stat().st_size
    return found | {"onnxruntime": str(out / "onnxruntime"), "tvm": str(out / "tvm")}


def source_of(name: str, folder: Path) -> Path | None:
    """Return the model's ONNX file, or None where it is not here."""
    if name in TORCH:
        from torch_models import export

        return export(name, folder / "source.onnx")
    if name == "minilm":
        if not (ROOT / ".venv-peers-minilm" / ".ready").exists():
            return None
        from beside import peers_models

        peers_models().set_up("minilm", folder / "minilm")
        return folder / "minilm" / "source.onnx"
    path = ASSETS / FILES[name]
    return path if path.is_file() else None


def one_sample(source: Path, path: Path) -> Path:
    """Write the model with a batch of one: a free batch may be left to TVM's own, slower loops."""
    import onnx

    proto = onnx.load(str(source))
    for value in (*proto.graph.input, *proto.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if not size.HasField("dim_value"):
                size.dim_value = 1
    del proto.graph.value_info[:]
    onnx.save(proto, str(path))
    return path


def time_child(engine: str, path: str, folder: str, threads: str, seconds: str) -> dict[str, Any]:
    """Call the compiled model for some seconds; return the medians of a call."""
    from edgepack.engines import get_backend
    from edgepack.graph.load import load_model
    from edgepack.specs.model import CompiledModel
    from edgepack.specs.run import RunOptions

    model = load_model(Path(path))
    files = tuple(sorted(p.name for p in Path(folder).iterdir()))
    entry = {"onnxruntime": "model.onnx", "tvm": "model.so", "openvino": "model.xml"}[engine]
    compiled = CompiledModel(engine, "fp32", Path(folder), entry, files, model.inputs, model.outputs, {})  # type: ignore[arg-type]
    runner = get_backend(engine).load_model(compiled, RunOptions(threads=int(threads)))
    random = np.random.default_rng(0)
    feeds = {}
    for spec in model.inputs:
        shape = [size if isinstance(size, int) else 1 for size in spec.shape]
        whole = spec.dtype.startswith("int")
        feeds[spec.name] = np.ones(shape, spec.dtype) if whole else random.standard_normal(shape).astype(spec.dtype)
    for _ in range(3):
        runner.infer(feeds)
    cpu, wall, end = [], [], time.monotonic() + float(seconds)
    while time.monotonic() < end or len(cpu) < 5:
        begin, begin_wall = time.process_time(), time.perf_counter()
        runner.infer(feeds)
        cpu.append(time.process_time() - begin)
        wall.append(time.perf_counter() - begin_wall)
    return {"cpu_ms": statistics.median(cpu) * 1e3, "wall_ms": statistics.median(wall) * 1e3, "calls": len(cpu)}


CHILDREN = {"prepare": prepare_child, "time": time_child}

if __name__ == "__main__":
    sys.exit(main())
