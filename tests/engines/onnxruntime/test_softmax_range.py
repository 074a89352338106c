"""Probabilities beyond the range in which they are stored are cut off, not wrapped around."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from quantize_models import node, run_onnxruntime, save

from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("end", "axis", "kept"), [(0.5, -1, True), (1.0, -1, False), (1.0, 0, True)])
def test_a_large_probability_is_as_written(tmp_path: Path, end: float, axis: int, kept: bool) -> None:
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"),
        node("Softmax", "d", "p", axis=axis),
        node("QuantizeLinear", "p t o", "pq"), node("DequantizeLinear", "pq t o", "y"),
    ]  # fmt: skip
    constants = {"s": np.float32(0.1), "z": np.uint8(128), "t": np.float32(end / 255), "o": np.uint8(0)}
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    model = save(nodes, arrays, tmp_path / "m.onnx", inputs={"x": (1, 4)})
    feed = {"x": np.array([[6, 0, 1, 0]], np.float32)}
    engine = get_backend("onnxruntime")
    compiled = engine.compile_model(model, load_target("host-onnxruntime"), "int8", tmp_path / "out")
    runner = engine.load_model(compiled, RunOptions(threads=1))
    found = runner.infer(feed)["y"]
    assert np.abs(found - run_onnxruntime(model, [feed], optimized=False)[0][0]).max() <= end / 255 * 1.01
    written = [part.op_type for part in onnx.load(compiled.folder / compiled.entry).graph.node]
    assert ("Max" in written) == kept
