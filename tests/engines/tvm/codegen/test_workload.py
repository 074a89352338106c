"""Tiles other than the rule's compute the same, and those that cannot be are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from codegen_models import feeds, host_machine, model, run_ours, run_reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgepack.engines.tvm.codegen.machine import Machine, machine
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Choice, Workload, by_patches, fits, rule, tiles

pytestmark = pytest.mark.slow

FLOAT = ("float32", "float32", "float32")
ARM = machine("aarch64", ("asimd", "asimddp"))
X86 = machine("x86_64", ("avx", "avx2", "fma"))
WIDE = machine("x86_64", ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"))
WORKLOADS = [
    Workload("flat", FLOAT, 1, 1, 3136, 64, 256),
    Workload("flat", FLOAT, 1, 1, 1, 64, 10),
    Workload("flat", ("uint8", "int8", "int32"), 1, 1, 49, 64, 24, safe=True),
    Workload("window", FLOAT, 1, 14, 14, 256, 256, (3, 3), (1, 1), (1, 1, 1, 1)),
    Workload("window", FLOAT, 2, 7, 9, 8, 20, (5, 3), (2, 1), (2, 1, 2, 1)),
    Workload("window", FLOAT, 1, 28, 28, 16, 64, (3, 3), (1, 1), (1, 1, 1, 1), groups=4),
    Workload("depthwise", FLOAT, 1, 56, 56, 1, 96, (3, 3), (1, 1), (1, 1, 1, 1), groups=96),
    Workload("batched", FLOAT, 12, 1, 128, 64, 128),
    Workload("winograd", FLOAT, 1, 15, 14, 64, 96, (3, 3), (1, 1), (1, 1, 1, 1)),
]


def convolution(shape: list[int], weights: list[int], group: int, pad: int) -> tuple[object, int]:
    random = np.random.default_rng(1)
    w = random.standard_normal(weights).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["c"], group=group, pads=[pad] * 4)
    return model([node, helper.make_node("Relu", ["c"], ["y"])], {"x": shape}, {"w": w}, ("y",)), len(w)


CASES = {
    "window": convolution([1, 8, 7, 9], [24, 8, 3, 3], 1, 1)[0],
    "1x1": convolution([1, 12, 5, 7], [40, 12, 1, 1], 1, 0)[0],
    "groups": convolution([1, 16, 6, 6], [32, 4, 3, 3], 4, 1)[0],
    "depthwise": convolution([1, 32, 6, 11], [32, 1, 3, 3], 32, 1)[0],
    "batched": model([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": [3, 13, 8], "b": [3, 8, 32]}, {}, ("y",)),
}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tile_computes_the_same(name: str, data: st.DataObject) -> None:
    proto, of = CASES[name], host_machine()
    taken: list[Blocking] = []

    def choose(workload: Workload) -> Choice:
        tile = data.draw(st.sampled_from(tiles(workload, of)))
        taken.append(tile)
        return Choice(tile, "tuned")

    inputs = feeds(proto)
    (found,), lowered = run_ours(proto, inputs, of, choose=choose)
    (wanted,) = run_reference(proto, inputs)
    assert len(taken) == 1
    assert any(rule.endswith("(tuned)") for rule in lowered.rules.values()), lowered.rules
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("of", [ARM, X86, WIDE], ids=["arm", "avx2", "avx512"])
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: f"{w.kind}-{w.types[0]}-{w.width}")
def test_the_rules_tile_fits_and_so_does_every_tile_listed(workload: Workload, of: Machine) -> None:
    listed = tiles(workload, of)
    assert fits(rule(workload, of), workload, of)
    assert len(set(listed)) == len(listed) > 1
    assert all(fits(tile, workload, of) for tile in listed)


@pytest.mark.parametrize(
    ("tile", "workload"),
    [
        (Blocking(0, 4, 1, 16, False), WORKLOADS[0]),
        (Blocking(1, -1, 1, 16, False), WORKLOADS[0]),
        (Blocking(1, 4, 1, 5, False), WORKLOADS[0]),
        (Blocking(1, 4, 1, 32, False), WORKLOADS[0]),
        (Blocking(1, 16, 2, 16, False), WORKLOADS[0]),  # more sums than registers
        (Blocking(1, 2, 1, 16, False), WORKLOADS[1]),  # one position
        (Blocking(2, 4, 1, 16, False), WORKLOADS[0]),  # rows of a product
        (Blocking(2, 7, 1, 16, False), WORKLOADS[3]),  # rows that are not whole
        (Blocking(1, 4, 2, 16, False), WORKLOADS[5]),  # more channels than a group has
        (Blocking(1, 4, 4, 16, False), WORKLOADS[6]),  # channels left over
        (Blocking(1, 9999, 1, 16, False), WORKLOADS[0]),
    ],
)
def test_tiles_that_cannot_be_are_refused(tile: Blocking, workload: Workload) -> None:
    assert not fits(tile, workload, WIDE)


def test_a_tile_without_the_instruction_that_the_rule_has_is_refused() -> None:
    """Without it, int8 sums would be plain loops, many times slower."""
    avx2 = machine("x86_64", ("avx", "avx2", "fma"))
    workload = WORKLOADS[2]
    assert fits(Blocking(1, 4, 1, 8, False), workload, avx2)
    assert not fits(Blocking(1, 4, 1, 4, False), workload, avx2)


@pytest.mark.parametrize(
    ("workload", "l2_bytes", "outer"),
    [
        (Workload("flat", FLOAT, 1, 1, 784, 32, 192), 512 << 10, True),
        (Workload("flat", FLOAT, 1, 1, 784, 32, 192), 256 << 10, False),  # an input of 98 KiB, a share of 85
        (Workload("flat", FLOAT, 1, 1, 784, 32, 24), 512 << 10, False),  # one tile of weights, which stays
        (Workload("flat", ("uint8", "int8", "int32"), 1, 1, 784, 32, 192), 256 << 10, True),  # 25 KiB
    ],
)
def test_weights_go_by_once_where_the_input_stays_in_cache(workload: Workload, l2_bytes: int, outer: bool) -> None:
    of = dataclasses.replace(WIDE, l2_bytes=l2_bytes)
    assert rule(workload, of).weights_outer == outer


SIDE = Workload("window", FLOAT, 1, 28, 28, 128, 128, (3, 3), (1, 1), (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("workload", "kind"),
    [
        (SIDE, "winograd"),
        (dataclasses.replace(SIDE, inputs=16, outputs=16), "window"),  # putting patches together costs more
        (dataclasses.replace(SIDE, height=7, width=7, inputs=512, outputs=512), "window"),  # weights from memory
        (dataclasses.replace(SIDE, strides=(2, 2)), "window"),
        (dataclasses.replace(SIDE, dilation=(2, 2)), "window"),
        (dataclasses.replace(SIDE, kernel=(5, 5)), "window"),
        (dataclasses.replace(SIDE, types=("uint8", "int8", "int32")), "window"),
        (dataclasses.replace(SIDE, channels_first=True), "window"),
        (dataclasses.replace(SIDE, groups=2), "window"),
    ],
)
def test_a_convolution_is_computed_by_patches_where_that_is_faster(workload: Workload, kind: str) -> None:
    assert by_patches(workload, dataclasses.replace(WIDE, l2_bytes=1 << 21)).kind == kind


def test_a_patch_is_four_positions_of_sixteen_products() -> None:
    patched = dataclasses.replace(SIDE, kind="winograd", height=27, width=14)
    assert patched.grid == (14, 7)
    assert patched.products == 14 * 7 * 16 * 128 * 128
