"""TEST DOUBLE: TVM's backend, whose code generation ends the process by a signal, as LLVM does when it crashes."""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm import facts
from edgepack.engines.tvm.engine import check, load_model, versions
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Precision

if TYPE_CHECKING:
    from pathlib import Path

ENGINE = dataclasses.replace(facts.ENGINE, backend=__name__)

__all__ = ["check", "compile_model", "load_model", "versions"]


def compile_model(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Compile as ``edgepack.engines.tvm.engine`` does, up to the call that generates machine code."""
    from tvm import relax

    from edgepack.engines.tvm import engine as real

    def crash(module: Any, *_: Any, **__: Any) -> None:
        print(f"LLVM ERROR (test double): cannot select, {len(module.functions_items())} functions", flush=True)
        os.kill(os.getpid(), getattr(signal, os.environ["CRASHING_LLVM"]))

    relax.build = crash
    return real.compile_model(model, target, precision, out)
