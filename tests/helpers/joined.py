"""Operators that ONNX Runtime's files join: models, and what is the same of them before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from quantize_models import operators, random_feeds, run_onnxruntime, save

from edgepack.engines import get_backend
from edgepack.graph.load import load_model, read_proto
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from edgepack.specs.model import OnnxModel


def model_of(nodes: Sequence[Any], constants: Mapping[str, float], folder: Path) -> OnnxModel:
    """Write a model from ``x`` to ``y``, both float32 [1, 4, 8, 8]."""
    arrays = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    return save(nodes, arrays, folder / "m.onnx", inputs={"x": (1, 4, 8, 8)})


def compiled_operators(model: OnnxModel, folder: Path, atol: float) -> list[str]:
    """Compile a model, look whether it computes what it did, and return its operators."""
    backend = get_backend("onnxruntime")
    compiled = backend.compile_model(model, Target("t", "t", "onnxruntime", "x86_64"), "fp32", folder / "out")
    runner = backend.load_model(compiled, RunOptions(threads=1))
    feeds = [{"x": 6 * feed["x"]} for feed in random_feeds(model, 3)]
    for feed, (expected,) in zip(feeds, run_onnxruntime(model, feeds), strict=True):
        np.testing.assert_allclose(runner.infer(feed)["y"], expected, rtol=1e-5, atol=atol)
    runner.close()
    return operators(load_model(compiled.folder / compiled.entry))


def is_left_alone(model: OnnxModel, join: Callable[[Any], int]) -> bool:
    """Say whether a pass joins nothing of a model, and changes nothing."""
    proto = read_proto(model)
    before = proto.SerializeToString()
    return join(proto) == 0 and proto.SerializeToString() == before
