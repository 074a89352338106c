"""Runs one model in one engine on one thread, as a process of its own.

``outputs ENGINE MODEL SAMPLES OUT [COUNT]`` writes the model's outputs on the samples; ``serve ENGINE MODEL SAMPLES``
times a block of inferences for every line that it reads, whose number says how many, and prints CPU ns for each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 3


def open_model(engine: str, path: str) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """Return a function that computes the outputs of one feed on one thread."""
    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda feed: session.run(None, feed)
    import openvino

    # bfloat16 is OpenVINO's default where the CPU has it, and would change the fp32 model it is compared with.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda feed: list(request.infer(feed).values())


def read_feeds(path: str, count: int | None = None) -> list[dict[str, np.ndarray]]:
    """Return one feed a sample."""
    with np.load(path) as data:
        arrays = {name: data[name] for name in data if name != "labels"}
    total = len(next(iter(arrays.values())))
    return [{n: v[i : i + 1] for n, v in arrays.items()} for i in range(min(total, count or total))]


def outputs(engine: str, model: str, samples: str, out: str, count: str = "0") -> None:
    """Write all outputs of all samples, joined to float32 rows [n, values]."""
    run = open_model(engine, model)
    rows = [np.concatenate([np.ravel(v) for v in run(f)]) for f in read_feeds(samples, int(count) or None)]
    np.save(out, np.stack(rows).astype(np.float32))


def serve(engine: str, model: str, samples: str) -> None:
    """Time blocks of inferences until the input ends."""
    run, feeds = open_model(engine, model), read_feeds(samples, 16)
    print("ready", flush=True)
    for line in sys.stdin:
        calls = int(line)
        for feed in feeds[:WARM_UP]:
            run(feed)
        begin = time.process_time_ns()
        for i in range(calls):
            run(feeds[i % len(feeds)])
        print((time.process_time_ns() - begin) / calls, flush=True)


@dataclass(frozen=True)
class _Shape:
    """What the values of a row are: the part that each belongs to, and where each output ends."""

    places: np.ndarray
    ends: dict[str, int]


def _shape_of(model: Path, evaluation: Path) -> _Shape:
    """Return what a row of a model's outputs consists of, as edgepack tells parts apart."""
    from edgepack.graph.load import load_model
    from edgepack.quantize.output_parts import parts_of

    loaded = load_model(model)
    feed = read_feeds(str(evaluation), 1)[0]
    found = open_model("onnxruntime", str(model))(feed)
    known = parts_of(loaded, feed)
    labels, count, ends, end = [], 0, {}, 0
    for spec, value in zip(loaded.outputs, found, strict=True):
        inside = known[spec.name].labels.ravel() if spec.name in known else np.zeros(value.size, np.int64)
        labels.append(inside + count)
        count += int(inside.max()) + 1
        end += value.size
        ends[spec.name] = end
    return _Shape(np.concatenate(labels), ends)


def _balanced(shape: _Shape, exact: np.ndarray, rough: np.ndarray) -> float | None:
    """Return the SQNR in which all parts of all outputs count alike."""
    from edgepack.verify.parts import noise_db

    signal = np.bincount(shape.places, np.square(exact).sum(axis=0))
    noise = np.bincount(shape.places, np.square(exact - rough).sum(axis=0))
    usable = signal > 0
    return noise_db(float(np.minimum(noise[usable] / signal[usable], 10.0).mean())) if usable.any() else None


def _by_output(shape: _Shape, exact: np.ndarray, rough: np.ndarray) -> dict[str, float | None]:
    """Return the SQNR in dB of each output; None where nothing differs, or where there is no signal."""
    result: dict[str, float | None] = {}
    begin = 0
    for name, end in shape.ends.items():
        result[name] = _sqnr(exact[:, begin:end], rough[:, begin:end])
        begin = end
    return result


def _sqnr(exact: np.ndarray, rough: np.ndarray) -> float | None:
    signal, noise = np.square(exact).sum(), np.square(exact - rough).sum()
    return _finite(10 * np.log10(signal / noise)) if signal and noise else None


def compare(reference: Path, found: Path, evaluation: Path, *, decides: bool) -> dict[str, Any]:
    """Return SQNR in dB over all values, balanced and by output, agreement of decisions, and accuracy with the paired
    drop and its interval.
    """
    exact, rough = np.load(reference).astype(np.float64), np.load(found).astype(np.float64)
    exact = exact[: len(rough)]
    result: dict[str, Any] = {"n": len(rough), "sqnr_db": _sqnr(exact, rough)}
    shape = _shape_of(evaluation.parent / "model.onnx", evaluation)
    if len(shape.places) == exact.shape[1]:
        result |= {"balanced_db": _balanced(shape, exact, rough), "outputs_db": _by_output(shape, exact, rough)}
    if decides:
        if (evaluation.parent / "centroids.npy").is_file():  # embeddings: the nearest centroid of the classes decides
            centroids = np.load(evaluation.parent / "centroids.npy").T
            exact, rough = exact @ centroids, rough @ centroids
        before, after = exact.argmax(axis=1), rough.argmax(axis=1)
        result["agreement"] = float((before == after).mean())
        with np.load(evaluation) as data:
            labels = data["labels"][: len(rough)] if "labels" in data else None
        if labels is not None:
            difference = (before == labels).astype(float) - (after == labels)
            half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
            result |= {"fp32": float((before == labels).mean()), "drop": float(difference.mean()), "half": float(half)}
    return result


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


if __name__ == "__main__":
    {"outputs": outputs, "serve": serve}[sys.argv[1]](*sys.argv[2:])
