"""TEST DOUBLE: an engine's module that crashes, hangs or ends its process while compiling, as real engines do."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from edgepack.specs.model import CompiledModel, Diagnostic, OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Precision

MODES = ("segfault", "hang", "abort", "exit")


def versions() -> dict[str, str]:
    return {"crashing-engine": "0.0"}


def check(model: OnnxModel, target: Target) -> list[Diagnostic]:
    return []


def compile_model(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Begin to write, say so, and go wrong in the way that the target's title names."""
    (out / "half.bin").write_bytes(b"half")
    print(f"compiling {model.path.name}", flush=True)
    if target.title == "segfault":
        ctypes.string_at(0)
    if target.title == "abort":
        os.abort()
    if target.title == "exit":
        os._exit(0)
    if target.title == "hang":
        time.sleep(600)
    return CompiledModel(
        backend="crashing",
        precision=precision,
        folder=out,
        entry="half.bin",
        files=("half.bin",),
        inputs=model.inputs,
        outputs=model.outputs,
        versions=versions(),
    )
