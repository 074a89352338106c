"""Tiles and the order of loops follow the caches that a profile tells."""

from __future__ import annotations

import pytest
from codegen_models import import_model, model
from onnx import helper

from edgepack.engines.targets import load_target
from edgepack.engines.tvm.codegen import tile as blocking
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine
from edgepack.engines.tvm.compile import processor_of


def test_weights_that_do_not_fit_half_the_cache_go_by_once() -> None:
    sizes = [blocking.choose(28, 28, 256, 576, machine("aarch64", l2_bytes=n << 20)) for n in (1, 2)]
    assert [tile.weights_outer for tile in sizes] == [True, False]  # they are 576 KiB


@pytest.mark.parametrize(("threads", "sharing", "share"), [(4, 4, 256), (1, 4, 1024), (2, 4, 512), (4, 1, 1024)])
def test_cores_that_work_at_once_share_a_cache(threads: int, sharing: int, share: int) -> None:
    of = machine("aarch64", l2_bytes=1 << 20, l2_cores=sharing, threads=threads)
    assert of.l2_share_bytes == share << 10


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


@pytest.mark.parametrize(
    ("name", "caches"),
    [
        ("raspberry-pi-4-tvm", (32 << 10, 1 << 20, 4)),
        ("raspberry-pi-5-tvm", (64 << 10, 512 << 10, 1)),
        ("rk3588-tvm", (64 << 10, 512 << 10, 1)),
    ],
)
def test_code_is_generated_for_the_profiles_caches(name: str, caches: tuple[int, int, int]) -> None:
    of = processor_of(load_target(name))
    assert (of.l1_bytes, of.l2_bytes, of.l2_cores) == caches


def test_a_named_processors_own_features_are_taken_away_unless_the_profile_has_them() -> None:
    of = machine("aarch64", ("asimddp",), cpu="cortex-a76")
    assert {"+neon", "+dotprod", "-fullfp16", "-i8mm"} <= set(of.features)
    assert not {"-neon", "-dotprod", "+fullfp16", "+i8mm"} & set(of.features)
