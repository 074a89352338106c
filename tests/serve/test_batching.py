"""Which bundles' queries may be run together: seen in the engine, never assumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from serving import mixing_bundle
from small_bundles import small_bundle, small_compiled, small_facts, small_golden, small_openvino_bundle

from edgepack.bundle.pack import pack
from edgepack.runtime.load import load
from edgepack.serve.batching import why_not_batched
from edgepack.specs.model import TensorSpec


@pytest.mark.parametrize("make", [small_bundle, small_openvino_bundle])
def test_samples_that_do_not_touch_each_other_may(make, tmp_path: Path) -> None:
    with load(make(tmp_path)) as model:
        assert why_not_batched(model, 8) is None
        assert why_not_batched(model, 1) == "batching was not asked for"


def test_samples_that_do_may_not(tmp_path: Path) -> None:
    with load(mixing_bundle(tmp_path)) as model:
        assert why_not_batched(model, 2) == "the answer to a sample depends on the others that are run with it"


def test_a_fixed_batch_may_not(tmp_path: Path) -> None:
    compiled = small_compiled(tmp_path / "compiled")
    inputs = (TensorSpec("image", "float32", (1, 3, 8, 8)),)
    golden = small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz")
    with load(pack(dataclasses.replace(compiled, inputs=inputs), golden, small_facts(), tmp_path)) as model:
        assert why_not_batched(model, 8) == "the first extent of an input is fixed"


def test_an_engine_that_does_not_take_several_is_heard(tmp_path: Path) -> None:
    """The model says that its batch is free, and inside it is fixed."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    compiled = small_compiled(tmp_path / "compiled")
    path = compiled.folder / "model.onnx"
    proto = onnx.load(path)
    proto.graph.node[3].CopyFrom(helper.make_node("Reshape", ["p", "flat"], ["f"], name="flat"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 8], np.int64), "flat"))
    onnx.save(proto, path)
    with load(pack(compiled, small_golden(path, tmp_path / "golden.npz"), small_facts(), tmp_path)) as model:
        assert (why_not_batched(model, 4) or "").startswith("it does not run several samples at once")
