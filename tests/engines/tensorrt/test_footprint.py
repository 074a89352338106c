"""The memory that a build takes, before it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper
from violations import FLOAT, make

from edgepack.engines.tensorrt.check import check_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.specs.model import Diagnostic
    from edgepack.specs.target import Target


Save = Any


def errors(found: list[Diagnostic]) -> list[Diagnostic]:
    return [d for d in found if d.severity == "error"]


def test_more_memory_than_the_device_has_is_refused(
    save: Save, jetson: Target, with_memory: Callable[..., Target]
) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "wide", pads=[1, 1, 1, 1])
    weights = {"w": np.ones((64, 3, 3, 3), np.float32)}
    model = save(make([node], weights, inputs=[("x", FLOAT, (1, 3, 2048, 2048))]))
    assert check_model(model, jetson) == []
    found = errors(check_model(model, with_memory(jetson, 1 << 30)))
    assert found[0].node == "wide"
    assert "1.1 GB of activations" in found[0].message


def test_a_free_batch_is_counted_at_its_largest(save: Save, jetson: Target, with_memory: Callable[..., Target]) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    model = save(make([node], inputs=[("x", FLOAT, ("N", 3, 1024, 1024))]))
    need = 8 * 2 * 3 * 1024 * 1024 * 4
    assert errors(check_model(model, with_memory(jetson, need + (512 << 20) + 4096))) == []
    assert errors(check_model(model, with_memory(jetson, need + (511 << 20))))
