"""Runs under qemu: loads a compiled folder with numpy and its two libraries alone, and writes its outputs."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np

from edgepack.engines.tvm.interface import FILE, read_interface
from edgepack.engines.tvm.runner import load_runner
from edgepack.specs.run import RunOptions


def main(folder: Path, inputs: Path, outputs: Path) -> None:
    about = read_interface((folder / FILE).read_bytes())
    runner = load_runner(folder, about.inputs, about.outputs, RunOptions(threads=1))
    with np.load(inputs) as feeds:
        result = runner.infer({f"{spec.name}": feeds[str(i)] for i, spec in enumerate(about.inputs)})
    np.savez(outputs, **{str(i): result[spec.name] for i, spec in enumerate(about.outputs)})
    unwanted = {"tvm", "tvm_ffi", "onnx", "onnxruntime", "click", "rich"} & set(sys.modules)
    print(platform.machine(), sorted(unwanted))


main(*(Path(word) for word in sys.argv[1:]))
