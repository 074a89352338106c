"""Which published models TVM compiles, and how far their outputs are from fp32 ONNX Runtime's: a table.

    python benchmarks/tvm_models.py FOLDER [--only NAME] [--limit SECONDS]

FOLDER holds the models of the packages rapidocr and magika as 'make tvm-models' unpacks them. The light models are
those of the onnx package with random weights (light_models.py); ../shared/assets is taken too where it is. Each model
is prepared, compiled for this host and run on two random inputs in a child process. Distances are the largest absolute
difference over the largest absolute value; for outputs of whole numbers the share that differs.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from light_models import LIGHT, expand

from edgepack.data.split import with_shapes
from edgepack.device.host import host_facts, short_cpu_name
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.errors import EdgepackError
from edgepack.execution import child
from edgepack.graph.compare import relative_distance, run_model
from edgepack.graph.feeds import random_feeds
from edgepack.graph.freeze import freeze
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.prepare import prepare
from edgepack.specs.run import RunOptions

AGREES = 1e-3
SAMPLES = 2
# Sizes for the free axes, as the packages themselves feed them.
STATES = {"silero_vad_16k_op15": {"input": (1, 576), "state": (2, 1, 128)}}
SHAPES = {
    "PP-OCRv6_det_small": (1, 3, 320, 320),
    "PP-OCRv6_rec_small": (1, 3, 48, 320),
    "ch_ppocr_mobile_v2.0_cls_mobile": (1, 3, 48, 192),
    "magika": (1, 2048),
    "minilm": (1, 64),
}


@dataclass(frozen=True)
class Row:
    """One model: its operators, CPU seconds of preparing and compiling, the largest distance, the library's size."""

    operators: int
    cpu_s: float
    distance: float
    size_bytes: int
    batch: str


def check(path: str, name: str, out: Path) -> Row:
    """Compile a model for this host and compare it with ONNX Runtime."""
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_utime + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    given = Path(path)
    model = load_model(expand(given, out / given.name) if given.parent == LIGHT else given)
    if name in SHAPES or name in STATES:
        common = SHAPES.get(name, ())
        shapes = STATES.get(name) or {s.name: common for s in model.inputs if len(s.shape) == len(common)}
        model = freeze(model, with_shapes(model.inputs, shapes), out / "frozen")
    model = prepare(model, out / "prepared")
    backend, target = get_backend("tvm"), load_target("host-tvm")
    compiled = backend.compile_model(model, target, "fp32", out / "compiled")
    end = resource.getrusage(resource.RUSAGE_SELF).ru_utime + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    runner = backend.load_model(compiled, RunOptions(threads=1))
    distance = 0.0
    for seed in range(SAMPLES):
        feeds = random_feeds(model.inputs, seed=seed)
        found = {key: np.array(value) for key, value in runner.infer(feeds).items()}
        for key, wanted in run_model(model, feeds).items():
            if wanted.dtype.kind == "f":
                distance = max(distance, relative_distance(wanted, found[key]))
            else:
                distance = max(distance, float(np.mean(wanted != found[key])))
    interface = dict(line.split(" ", 1) for line in (out / "compiled" / "interface.txt").read_text().splitlines()[:5])
    size = (out / "compiled" / "model.so").stat().st_size
    return Row(len(read_proto(model, weights=False).graph.node), end - begin, distance, size, interface["batch"])


def find_models(folder: Path) -> dict[str, Path]:
    """Return the models by name."""
    assets = Path(__file__).resolve().parent.parent.parent / "shared" / "assets"
    found = {path.stem: path for path in sorted(LIGHT.glob("*.onnx"))}
    found |= {path.stem: path for path in sorted(assets.glob("*.onnx"))}
    for path in sorted(folder.rglob("*.onnx")):
        found["magika" if "magika" in path.parts else path.stem] = path
    return found


def main() -> int:
    """Print a row for each model as it is done; return 1 when one does not compile or does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--limit", type=float, default=900)
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version}" for name, version in get_backend("tvm").versions().items())
    print(f"{short_cpu_name(host_facts())}; {versions}; {SAMPLES} random inputs a model, 1 thread")
    print("| model | operators | batch | CPU s | library | distance to ONNX Runtime | |")
    print("|---|---|---|---|---|---|---|")
    failed = 0
    for name, path in find_models(options.folder).items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory(prefix="edgepack-models-") as scratch:
            log = Path(scratch, "log")
            try:
                row = child.call(check, str(path), name, Path(scratch), limit_s=options.limit, log=log)
            except EdgepackError as error:
                failed += 1
                print(f"| {name} | | | | | | not compiled: {error.message[:300]} |", flush=True)
                continue
        agrees = row.distance <= AGREES
        failed += not agrees
        print(
            f"| {name} | {row.operators} | {row.batch} | {row.cpu_s:.0f} | {row.size_bytes / 1e6:.1f} MB "
            f"| {row.distance:.1e} | {'agrees' if agrees else 'DIFFERS'} |",
            flush=True,
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent)]
    from tvm_models import main as again  # the child process imports the function by this module's name

    sys.exit(again())
