"""Convolutions by patches as the machine runs them, for any size, padding, tile and count of threads."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from codegen_models import assert_close, feeds, host_machine, import_model, model, run_ours, run_reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper

from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine
from edgepack.engines.tvm.codegen.workload import Choice, Workload, tiles

WIDE = ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq")


def residual(shape: list[int], outputs: int, pads: list[int]) -> ModelProto:
    """Return Relu(Conv(x) + bias + y), which is fused behind the sums."""
    draw = np.random.default_rng(1)
    weights = (draw.standard_normal((outputs, shape[1], 3, 3)) / np.sqrt(9 * shape[1])).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=pads),
        helper.make_node("Add", ["c", "s"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    bias = draw.standard_normal(outputs).astype(np.float32)
    size = [shape[n + 2] + pads[n] + pads[n + 2] - 2 for n in range(2)]
    skipped = [shape[0], outputs, *size]
    return model(nodes, {"x": shape, "s": skipped}, {"w": weights, "b": bias}, ("y",))


@pytest.mark.slow
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_size_and_tile_gives_the_plain_sums(data: st.DataObject) -> None:
    shape = [data.draw(st.integers(1, 2)), data.draw(st.sampled_from([32, 48])), *[data.draw(st.integers(7, 13))] * 2]
    shape[3] += data.draw(st.integers(0, 5))
    outputs = data.draw(st.sampled_from([40, 48, 51]))
    proto = residual(shape, outputs, [data.draw(st.integers(0, 2)) for _ in range(4)])
    of = dataclasses.replace(host_machine(data.draw(st.sampled_from([1, 2, 3]))), l2_bytes=1 << 18)
    kinds, place = [], data.draw(st.integers(0, 1000))

    def choose(workload: Workload) -> Choice:
        kinds.append(workload.kind)
        listed = tiles(workload, of)
        return Choice(listed[place % len(listed)], "tuned")

    inputs = feeds(proto)
    found, lowered = run_ours(proto, inputs, of, choose=choose)
    assert kinds == ["winograd"]
    assert any(rule == "winograd (tuned)" for rule in lowered.rules.values()), lowered.rules
    assert_close(found, run_reference(proto, inputs))


def parallel(side: int, channels: int, threads: int) -> list[int]:
    """Return the extents of the loops that are divided among threads."""
    proto = residual([1, channels, side, side], channels, [1] * 4)
    lowered = lower(import_model(proto), machine("x86_64", WIDE, l2_bytes=1 << 21, threads=threads), "fp32")
    assert "winograd" in lowered.rules.values()
    text = lowered.module.script(show_meta=False)
    return [int(extent) for extent in re.findall(r"T\.parallel\((?:T\.int64\()?(\d+)", text) if int(extent) > 1]


def test_threads_share_bands_or_channels_evenly() -> None:
    assert parallel(56, 64, threads=1) == []
    assert all(extent % 2 == 0 for extent in parallel(56, 64, threads=2))
    assert 14 in parallel(56, 64, threads=2)
    assert all(extent % 4 == 0 for extent in parallel(14, 256, threads=4))
    assert parallel(14, 256, threads=4)
