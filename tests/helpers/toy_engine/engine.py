"""TEST DOUBLE: the functions of a backend. Its file ``model.toy`` is the ONNX file behind four letters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgepack.engines.common.inputs import check_feeds
from edgepack.engines.common.refusals import closed, opset_too_high, require_files
from edgepack.errors import CompileError, ToolchainError
from edgepack.specs.model import CompiledModel, Diagnostic, OnnxModel, TensorSpec
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target
from edgepack.specs.types import Array, Feeds, Precision

ENTRY = "model.toy"
MAGIC = b"TOY\n"
VERSION = "1.2.3"
_SLOW_S = 0.005

Watch = Callable[[Any, float, list[Array]], None]


class ToyRunner:
    """Evaluates node after node."""

    def __init__(self, path: Path, inputs: tuple[TensorSpec, ...], options: RunOptions) -> None:
        self.evaluator = read(path)
        self._inputs, self._slow = inputs, options.optimization != "off"

    def infer(self, feeds: Feeds, /) -> Mapping[str, Array]:
        """Return the outputs by name. By default it waits, so that there is something to tune."""
        check_feeds(feeds, self._inputs)
        if self._slow:
            time.sleep(_SLOW_S)
        return run(self.evaluator, feeds)

    def another(self) -> ToyRunner:
        """Return itself: it keeps nothing between calls."""
        return self

    def close(self) -> None:
        """Forget the model."""
        self.evaluator = None
        self.infer = closed  # type: ignore[method-assign]


def versions() -> Mapping[str, str]:
    """Return the version."""
    return {"toy": VERSION}


def oldest(_compiled: CompiledModel) -> Mapping[str, str]:
    """Return the oldest version that reads its files."""
    return {"toy": "1.1"}


def check(model: OnnxModel, target: Target) -> list[Diagnostic]:
    """Return nothing but an opset that is too high."""
    return opset_too_high("Toy", model, target)


def compile_model(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Write ``model.toy``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / ENTRY).write_bytes(MAGIC + model.path.read_bytes())
    names = (model.inputs, model.outputs)
    return CompiledModel("toy", precision, out, ENTRY, (ENTRY,), *names, versions(), target.engine.device)


def load_model(compiled: CompiledModel, options: RunOptions) -> ToyRunner:
    """Read ``model.toy``."""
    device = options.device or compiled.device
    if device != "CPU":
        raise ToolchainError(f"this Toy has no {device}; it has CPU", hint="leave the device out")
    require_files(compiled.folder, compiled.entry)
    return ToyRunner(compiled.folder / compiled.entry, compiled.inputs, options)


def read(path: Path) -> Any:
    """Return the evaluator of the file. Raises ``CompileError``."""
    import onnx
    import onnx.reference

    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise CompileError(f"{path.name} is not a Toy file", hint="compile it again")
    return onnx.reference.ReferenceEvaluator(onnx.load_model_from_string(data[len(MAGIC) :]))


def run(evaluator: Any, feeds: Feeds, watch: Watch | None = None) -> dict[str, Array]:
    """Evaluate the nodes in order; ``watch`` is told of each its seconds and what it reads."""
    known = {"": None, **evaluator.rt_inits_, **feeds}
    for node in evaluator.rt_nodes_:
        values = [known[name] for name in node.input]
        begin = time.perf_counter()
        made = node.run(*values)
        if watch is not None:
            watch(node.onnx_node, time.perf_counter() - begin, [v for v in (*values, *made) if v is not None])
        known.update(zip(node.output, made, strict=True))
    return {name: known[name] for name in evaluator.output_names}
