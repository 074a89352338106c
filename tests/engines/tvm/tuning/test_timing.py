"""Kernels that are built alone and timed, with TVM itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tuning_cases import DEPTHWISE, FLOAT, POINTWISE, WINDOW

from edgepack.device.host import host_facts
from edgepack.engines.tvm.codegen.machine import Machine, machine
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Choice, Workload, rule, tiles
from edgepack.engines.tvm.tuning.timing import NAME, ROUNDS, Here, function_of, time_here, time_tiles, values
from edgepack.execution import child

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("needs_tvm")]
BYTES = ("uint8", "int8", "int32")
SMALL = {
    "flat": Workload("flat", FLOAT, 1, 1, 50, 24, 40),
    "flat int8": Workload("flat", BYTES, 1, 1, 50, 24, 48, safe=True),
    "window": Workload("window", FLOAT, 2, 7, 9, 8, 24, (3, 3), (2, 2), (1, 1, 1, 1)),
    "window int8": Workload("window", BYTES, 1, 7, 9, 8, 32, (3, 3), (1, 1), (0, 0, 0, 0), safe=True),
    "channels first": Workload("window", FLOAT, 1, 8, 8, 3, 16, (3, 3), (2, 2), (1, 1, 1, 1), channels_first=True),
    "groups": Workload("window", FLOAT, 1, 6, 6, 4, 64, (3, 3), (1, 1), (1, 1, 1, 1), groups=2),
    "depthwise": Workload("depthwise", FLOAT, 1, 9, 7, 1, 32, (3, 3), (1, 1), (1, 1, 1, 1), groups=32),
    "depthwise int8": Workload("depthwise", ("uint8", "int8", "float32"), 1, 9, 7, 1, 32, (3, 3), groups=32),
    "batched": Workload("batched", FLOAT, 3, 1, 20, 16, 32),
    "winograd": Workload("winograd", FLOAT, 1, 9, 10, 16, 24, (3, 3), (1, 1), (1, 1, 1, 1)),
}


def here() -> Machine:
    host = host_facts()
    return machine(host.arch, host.isa)


def computed(workload: Workload, tile: Blocking) -> np.ndarray:
    """Return what the kernel makes of fixed values, its weights packed for the tile from the same plain ones."""
    import tvm

    from edgepack.engines.tvm.codegen import compute, winograd

    function, shapes = function_of(workload, Choice(tile), here())
    library = tvm.compile(tvm.IRModule({NAME: function}), target=tvm.target.Target(here().target()))
    arrays = [values(shape, dtype) for shape, dtype in shapes]
    if workload.kind in ("flat", "window"):
        plain = values((workload.outputs, *workload.kernel, workload.inputs), workload.types[1])
        four = len(shapes[1][0]) == (4 if workload.kind == "flat" else 6)
        packed = compute.pack_weights(plain, tile.channels, fours=four)
        arrays[1] = packed.reshape(shapes[1][0])
    if workload.kind == "winograd":
        arrays[1] = winograd.pack(values((workload.outputs, 3, 3, workload.inputs), "float32"), tile.channels)
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    library[NAME](*tensors)
    return np.asarray(tensors[-1].numpy())


@pytest.mark.parametrize("name", SMALL)
def test_a_kernel_alone_computes_the_same_with_every_tile(name: str) -> None:
    workload = SMALL[name]
    listed = tiles(workload, here())
    wanted = computed(workload, rule(workload, here()))
    assert np.ptp(wanted.astype(np.float64)) > 0
    for tile in listed[:: max(1, len(listed) // 5)]:
        found = computed(workload, tile)
        if wanted.dtype == np.float32:
            assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max(), tile
        else:
            assert np.array_equal(found, wanted), tile


def test_a_tile_that_leaves_most_sums_unused_takes_longer(tmp_path: Path) -> None:
    """The tile of one position and one vector has one sum in flight where the units want eight: it must be slower."""
    workload, of = replace(WINDOW, outputs=64, inputs=64), here()
    lanes = rule(workload, of).lanes
    slow, same = Blocking(1, 1, 1, lanes, False), rule(workload, of)
    timed = time_tiles(workload, (same, slow, same), of, Here(1))
    assert [len(t.ns) for t in timed] == [ROUNDS] * 3
    ratios = np.array(timed[1].ns) / np.array(timed[0].ns)
    assert np.median(ratios) > 1.2
    alike = np.array(timed[2].ns) / np.array(timed[0].ns)
    assert abs(np.median(alike) - 1) < abs(np.median(ratios) - 1) / 2


def test_the_slower_half_is_left_out_early_and_the_first_never(tmp_path: Path) -> None:
    workload, of = SMALL["flat"], here()
    listed = (rule(workload, of), *[t for t in tiles(workload, of) if t != rule(workload, of)][:12])
    timed = time_tiles(workload, listed, of, Here(1))
    rounds = [len(t.ns) for t in timed]
    assert rounds[0] == ROUNDS
    assert sorted(set(rounds)) == [3, 6, ROUNDS]
    assert sum(n == ROUNDS for n in rounds) < 6


def test_a_tile_that_cannot_be_built_has_the_reason(tmp_path: Path) -> None:
    workload, of = SMALL["depthwise"], here()
    impossible = Blocking(1, 4, 0, 16, False)  # no channels
    timed = time_tiles(workload, (rule(workload, of), impossible), of, Here(1))
    assert timed[0].failure is None
    assert timed[0].ns
    assert timed[1].failure
    assert not timed[1].ns


def test_it_runs_in_a_child_process(tmp_path: Path) -> None:
    of = here()
    listed = (rule(POINTWISE, of), rule(POINTWISE, of))
    environment = {"TVM_NUM_THREADS": "1"}
    timed = child.call(time_here, POINTWISE, listed, of, limit_s=120, log=tmp_path / "log", environment=environment)
    assert [len(t.ns) for t in timed] == [ROUNDS, ROUNDS]


def test_a_depthwise_kernel_is_timed_with_its_padding() -> None:
    function, shapes = function_of(DEPTHWISE, Choice(rule(DEPTHWISE, here())), here())
    assert shapes[0][0] == (1, 56, 56, 96)
    assert shapes[-1][0] == (1, 56, 56, 96)
    assert function is not None
