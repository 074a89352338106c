"""Tiles and the order of loops follow the caches that a profile tells."""

from __future__ import annotations

from codegen_models import import_model, model
from onnx import helper

from edgepack.engines.tvm.codegen import tile as blocking
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine


def test_weights_that_do_not_fit_half_the_cache_go_by_once() -> None:
    sizes = [blocking.choose(28, 28, 256, 576, machine("aarch64", l2_bytes=n << 20)) for n in (1, 2)]
    assert [tile.weights_outer for tile in sizes] == [True, False]  # they are 576 KiB


def test_a_padded_part_of_the_input_is_smaller_where_cores_share_the_cache() -> None:
    import numpy as np

    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    weights = {"w": np.ones((16, 32, 3, 3), np.float32)}
    proto = model(nodes, {"x": [1, 32, 128, 64]}, weights, ("y",))
    texts = []
    for sharing in (1, 4):
        of = machine("aarch64", l2_bytes=1 << 20, l2_cores=sharing, threads=4)
        texts.append(lower(import_model(proto), of, "fp32").module.script())
    assert texts[0] != texts[1]
