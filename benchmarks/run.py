"""What edgepack costs, as ratios in one interleaved run (``make bench``): a table, and artifacts/bench.json.

Each figure is of this host, now; the engines' versions and the host are printed with it. A figure beyond its bound is
marked, and the program ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from models import gigabyte, resnet20

from edgepack.device.host import host_facts
from edgepack.engines import get_backend

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = 60
CALLS = 40
PAIRS = 8


def main() -> int:
    """Run all benchmarks, or those named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=", ".join(BENCHMARKS))
    parser.add_argument("--child", nargs="*")
    words = parser.parse_args()
    if words.child:
        print(json.dumps(CHILDREN[words.child[0]](*words.child[1:])))
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as folder:
        for name, function in BENCHMARKS.items():
            if not words.names or name in words.names:
                print(f"... {name}", file=sys.stderr)
                rows += function(Path(folder))
    host = host_facts()
    print(f"{host.cpu}, {host.cores} cores, {host.kernel}")
    for row in rows:
        mark = "" if row["ok"] else "   BEYOND ITS BOUND"
        print(f"{row['what']:<62} {row['value']:>9.4g} {row['unit']:<6} bound {row['bound']:<8} n={row['n']}{mark}")
    path = ROOT / "artifacts" / "bench.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": host.cpu, "cores": host.cores, "isa": host.isa, "rows": rows}, indent=1))
    return 0 if all(row["ok"] for row in rows) else 1


def row(what: str, value: float, unit: str, bound: str, ok: bool, n: int, **more: Any) -> dict[str, Any]:
    """Return one line of the table."""
    return {"what": what, "value": value, "unit": unit, "bound": bound, "ok": bool(ok), "n": n, **more}


def child(*words: str, environment: dict[str, str] | None = None) -> Any:
    """Run one of ``CHILDREN`` in a fresh process and return what it measured."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", *words],
        capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# --- a bundle's runner against the bare engine ------------------------------------------------------------------------


def build_bundles(folder: Path) -> dict[str, Path]:
    """Build fp32 bundles of ResNet20 for both engines, once."""
    from edgepack.execution.store import Store
    from edgepack.pipeline.build import build
    from edgepack.pipeline.settings import BuildSettings

    out = folder / "resnet20"
    if not out.is_dir():
        model = resnet20(folder / "resnet20.onnx")
        settings = BuildSettings(
            model=str(model), targets=("host-onnxruntime", "host-openvino"), out=str(out), benchmark=False
        )
        result = build(settings, Store(folder / "store"))
        assert all(r.status == "ok" for r in result.rows), result.rows
    return {name: out / f"resnet20-host-{name}-fp32.edgepack" for name in ("onnxruntime", "openvino")}


def overhead(folder: Path) -> list[dict[str, Any]]:
    """One row an engine: time of a bundle's runner over the time of the bare engine call."""
    rows = []
    for engine, bundle in build_bundles(folder).items():
        # Two sessions of one engine differ by up to 2 % by where their memory lies, so several pairs are made, each
        # side loaded first in turn.
        pairs = [child("overhead", engine, str(bundle), str(i % 2)) for i in range(PAIRS)]
        found = {name: float(np.median([pair[name] for pair in pairs])) for name in ("ratio", "more_us", "bare_us")}
        found |= {"n": pairs[0]["n"], "versions": pairs[0]["versions"], "ratios": [pair["ratio"] for pair in pairs]}
        ok = found["ratio"] <= 1.02 or found["more_us"] <= 10
        what = f"runner of a bundle / bare {engine} call, resnet20 batch 1"
        rows.append(row(what, found["ratio"], "x", "1.02|10µs", ok, PAIRS * found.pop("n"), **found))
    return rows


def overhead_child(engine: str, bundle: str, bare_first: str) -> dict[str, Any]:
    """Alternate blocks of calls of the runner and of the engine itself, in one process, one thread."""
    from edgepack.runtime.load import load
    from edgepack.specs.run import RunOptions

    options = RunOptions(threads=1)
    feeds = {"input": np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)}
    model = load(Path(bundle), options)
    bare = bare_call(engine, model, options, feeds)
    if bare_first == "1":
        model.close()
        model = load(Path(bundle), options)
    calls: tuple[Callable[[], Any], ...] = (lambda: model.infer(feeds), bare)
    for call in calls * 50:
        call()
    times: list[list[float]] = [[], []]
    for block in range(BLOCKS):
        for which in (0, 1) if block % 2 else (1, 0):
            begin = time.perf_counter_ns()
            for _ in range(CALLS):
                calls[which]()
            times[which].append((time.perf_counter_ns() - begin) / CALLS)
    ours, theirs = np.array(times[0]), np.array(times[1])
    return {
        "ratio": float(np.median(ours / theirs)),
        "more_us": float(np.median(ours - theirs) / 1e3),
        "bare_us": float(np.median(theirs) / 1e3),
        "n": BLOCKS * CALLS,
        "versions": dict(get_backend(engine).versions()),
    }


def bare_call(engine: str, model: Any, options: Any, feeds: dict[str, Any]) -> Callable[[], Any]:
    """Return the plainest call of the same files by the engine's own API with the same settings and batch."""
    files = model.folder
    entry = files / model.payload.entry
    if engine == "onnxruntime":
        import onnxruntime

        from edgepack.engines.onnxruntime.engine import session_options

        session = onnxruntime.InferenceSession(str(entry), session_options(options), providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return lambda: session.run(names, feeds)
    import openvino

    properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    network = core.read_model(str(entry))
    network.reshape([1, *(size.get_length() for size in list(network.input().get_partial_shape())[1:])])
    compiled = core.compile_model(network, "CPU", properties)
    request = compiled.create_infer_request()
    return lambda: request.infer(feeds)


# --- loading ----------------------------------------------------------------------------------------------------------


def loading(folder: Path) -> list[dict[str, Any]]:
    """CPU time of loading a bundle over loading the bare file, each in fresh processes, in turn."""
    rows = []
    for engine, bundle in build_bundles(folder).items():
        words = ("load", engine, str(bundle))
        pairs = [(child(*words, "bundle"), child(*words, "bare")) for _ in range(7)]
        ratios = [a["cpu_s"] / b["cpu_s"] for a, b in pairs]
        more = [(a["cpu_s"] - b["cpu_s"]) * 1e3 for a, b in pairs]
        what = f"loading a bundle / the bare file, {engine}, resnet20 (CPU time)"
        rows.append(row(what, float(np.median(ratios)), "x", "-", True, len(pairs), more_ms=float(np.median(more))))
    return rows


def load_child(engine: str, bundle: str, how: str) -> dict[str, Any]:
    """Measure loading alone: the engine is imported before."""
    from edgepack.runtime.load import load
    from edgepack.specs.run import RunOptions

    __import__(engine)
    with load(Path(bundle)) as first:  # fills the cache of unpacked files, as on a device after installing
        call = lambda: load(Path(bundle)) if how == "bundle" else bare_call(engine, first, RunOptions(), {})  # noqa: E731
        begin = time.process_time()
        call()
        return {"cpu_s": time.process_time() - begin}


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(folder: Path) -> list[dict[str, Any]]:
    """CPU seconds of ``edgepack --help`` and of a build in which nothing changed."""
    helps = [cpu_of([sys.executable, "-m", "edgepack", "--help"], folder) for _ in range(9)]
    build_bundles(folder)
    words = [
        sys.executable, "-m", "edgepack", "build", str(folder / "resnet20.onnx"), "--target", "host-onnxruntime",
        "--target", "host-openvino", "--out", str(folder / "again"), "--store", str(folder / "store"),
        "--duration", "0.5",
    ]  # fmt: skip
    cpu_of(words, folder)
    imports = [sys.executable, "-c", "import edgepack.cli.show.progress, edgepack.pipeline.build, rich.progress"]
    pairs = [(cpu_of(words, folder), cpu_of(imports, folder)) for _ in range(7)]
    more = float(np.median([a - b for a, b in pairs]))
    return [
        row("edgepack --help (CPU)", float(np.median(helps)), "s", "0.3", np.median(helps) <= 0.3, len(helps)),
        row("a build with nothing changed, beyond importing (CPU)", more, "s", "0.5", more <= 0.5, len(pairs)),
    ]


def cpu_of(words: list[str], folder: Path) -> float:
    """Return user and system CPU seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# --- memory -----------------------------------------------------------------------------------------------------------


def memory(folder: Path) -> list[dict[str, Any]]:
    """Peak resident memory of packing and of verifying a model of 1 GB, over the size of the model."""
    model = gigabyte(folder / "gigabyte.onnx")
    size = sum(p.stat().st_size for p in folder.glob("gigabyte.*"))
    rows = []
    for what in ("pack", "verify"):
        peak = child("memory", what, str(model), str(folder))["peak_bytes"]
        title = f"peak memory to {what} a model of {size / 1e9:.2f} GB / its size"
        rows.append(row(title, peak / size, "x", "1.5", peak <= 1.5 * size, 1))
    return rows


def memory_child(what: str, model: str, folder: str) -> dict[str, Any]:
    """Pack, or verify what was packed, and return the peak of this process."""
    from edgepack.runtime.verify import verify

    bundle = Path(folder) / "gigabyte.edgepack"
    if what == "pack":
        pack_gigabyte(Path(model), Path(folder))
    else:
        assert verify(bundle).passed
    # VmHWM and not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return {"peak_bytes": int(status.split("VmHWM:")[1].split()[0]) * 1024}


def pack_gigabyte(path: Path, folder: Path) -> None:
    """Pack the file as it is; its golden vectors are one sample made here, with outputs by a child process."""
    from edgepack.bundle.pack import BundleFacts, pack
    from edgepack.specs.model import CompiledModel, TensorSpec
    from edgepack.specs.target import Target

    golden = Path(child("golden", str(path), str(folder))["path"])
    compiled = CompiledModel(
        backend="onnxruntime", precision="fp32", folder=path.parent, entry=path.name,
        files=(path.name, f"{path.stem}.data"), inputs=(TensorSpec("input", "float32", ("N", 4096)),),
        outputs=(TensorSpec("output", "float32", ("N", 4096)),), versions=get_backend("onnxruntime").versions(),
    )  # fmt: skip
    target = Target("bench", "bench", "onnxruntime", host_facts().arch)
    facts = BundleFacts("gigabyte", "1", target, "fp32", None, (), {}, None, {}, "0" * 64, None)
    pack(compiled, golden, facts, folder)


def golden_child(model: str, folder: str) -> dict[str, Any]:
    """Make golden vectors of the model with ONNX Runtime."""
    import onnxruntime

    from edgepack.verify.golden import Golden, write_golden
    from edgepack.verify.tolerance import tolerance

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {"input": np.random.default_rng(0).standard_normal((1, 4096)).astype(np.float32)}
    output = session.run(None, feeds)[0]
    vectors = Golden((feeds,), ({"output": output},), {"output": tolerance("fp32")})
    return {"path": str(write_golden(vectors, Path(folder) / "golden.npz"))}


# --- boxes of a detector ----------------------------------------------------------------------------------------------


def decoding(_folder: Path) -> list[dict[str, Any]]:
    """CPU time of decoding and suppressing the candidates of YOLOv8 at 640 x 640, itself and over numpy's maximum."""
    from edgepack.specs.task import Frame, Task
    from edgepack.tasks import answer

    random, rounds = np.random.default_rng(0), 100
    boxes = [random.uniform(0, 640, (1, 2, 8400)), random.uniform(5, 200, (1, 2, 8400))]
    output = np.concatenate([*boxes, random.random((1, 80, 8400)) ** 30], axis=1).astype(np.float32)
    task, frame, scores = Task("object-detection", "yolo"), Frame(480, 640, 640, 640), output[0, 4:]
    calls: tuple[Callable[[], Any], ...] = (lambda: answer(task, {"o": output}, frame), lambda: scores.max(axis=0))
    times: list[list[int]] = [[], []]
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            begin = time.process_time_ns()
            calls[which]()
            times[which].append(time.process_time_ns() - begin)
    ours, plain = np.median(times[0]) / 1e6, np.median(times[1]) / 1e6
    what = "boxes of 8400 candidates with 80 classes"
    return [
        row(f"{what}, CPU time", float(ours), "ms", "5", ours <= 5, rounds),
        row(f"{what} / their highest scores", float(ours / plain), "x", "40", ours <= 40 * plain, rounds),
    ]


BENCHMARKS = {"decoding": decoding, "overhead": overhead, "loading": loading, "commands": commands, "memory": memory}
CHILDREN = {"overhead": overhead_child, "load": load_child, "memory": memory_child, "golden": golden_child}

if __name__ == "__main__":
    sys.exit(main())
