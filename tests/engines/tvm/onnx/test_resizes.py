"""Resize by scales that TVM does not take as they are is named before compiling; what is let pass computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from backend_models import FLOAT, make, save
from onnx import helper, numpy_helper

from edgepack.engines import get_backend
from edgepack.engines.tvm.onnx.resizes import fractional_scales
from edgepack.errors import ToolchainError
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from pathlib import Path

TARGET = Target(id="x", title="x", backend="tvm", arch="x86_64")


def resize(scales: list[float], size: tuple[int, int] = (7, 9), **attributes: Any) -> Any:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="up", **attributes)
    return make(
        [node], [("x", FLOAT, [1, 3, *size])], [("y", FLOAT, None)], {"scales": np.array([1, 1, *scales], np.float32)}
    )


def named(proto: Any) -> str | None:
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    sizes = tuple(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim)
    return fractional_scales(proto.graph.node[0], {"x": sizes}, constants)


@pytest.mark.parametrize(("scales", "words"), [
    ([1.3, 2.0], "Resize of 7 by 1.3, which is 9.1 and no whole number"),
    ([2.0, 0.45], "Resize of 9 by 0.45"),
    ([2.0, 3.0], None), ([3.0, 1 / 3], None), ([1 / 7, 1.0], None), ([8 / 7, 2.0], None),
])  # fmt: skip
def test_scales_that_give_no_whole_sizes(scales: list[float], words: str | None) -> None:
    found = named(resize(scales))
    assert (found is None) if words is None else (found or "").startswith(words)


def test_where_the_scales_do_not_matter() -> None:
    assert named(resize([1.3, 1.7], mode="linear", coordinate_transformation_mode="align_corners")) is None
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"])
    assert (
        fractional_scales(node, {"x": (1, 3, 7, 9)}, {"sizes": numpy_helper.from_array(np.array([1, 3, 9, 9]))}) is None
    )


def backend() -> Any:
    engine = get_backend("tvm")
    try:
        engine.versions()
    except ToolchainError as error:
        pytest.skip(error.message)
    return engine


def test_the_cause_is_named_with_its_node_and_what_to_do(tmp_path: Path) -> None:
    (found,) = backend().check(save(resize([1.3, 1.7]), tmp_path / "m.onnx"), TARGET)
    assert (found.severity, found.node) == ("error", "up")
    assert "TVM does not compute as ONNX does Resize of 7 by 1.3" in found.message
    assert "sizes instead of scales" in (found.hint or "")


def test_antialias_is_named_where_it_would_be_missed(tmp_path: Path) -> None:
    """Measured with TVM 0.27: wrong where it gets smaller, by up to the values' own size, and the same where larger."""

    def found(scales: list[float]) -> list[Any]:
        proto = resize(scales, (8, 8), mode="linear", antialias=1)
        proto.opset_import[0].version = 18
        return list(backend().check(save(proto, tmp_path / "m.onnx"), TARGET))

    (named,) = found([1.0, 0.5])
    assert (named.severity, named.node) == ("error", "up")
    assert "without its antialias" in named.message
    assert found([2.0, 1.5]) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_what_is_let_pass_is_right(tmp_path: Path, mode: str) -> None:
    model = save(resize([2.0, 3.0], mode=mode), tmp_path / "m.onnx")
    engine = backend()
    assert engine.check(model, TARGET) == []
    x = np.random.default_rng(0).standard_normal((1, 3, 7, 9)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    compiled = engine.compile_model(model, TARGET, "fp32", tmp_path / "out")
    runner = engine.load_model(compiled, RunOptions(threads=1))
    np.testing.assert_allclose(runner.infer({"x": x})["y"], wanted, atol=1e-5)
    runner.close()
