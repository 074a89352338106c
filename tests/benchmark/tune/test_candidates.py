"""What is tried first, for each engine and scenario."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.benchmark.tune.candidates import changes
from edgepack.benchmark.tune.space import with_changes
from edgepack.engines import ENGINES

FIXES = next(name for name in ENGINES.own if ENGINES.get(name).fixes_batch)
OTHER = next(name for name in ENGINES.own if not ENGINES.get(name).fixes_batch)


@given(
    backend=st.sampled_from([*ENGINES.own, "unknown"]),
    cores=st.integers(1, 300),
    scenario=st.sampled_from(["SingleStream", "Offline"]),
    free=st.booleans(),
)
def test_every_change_is_a_way_of_running_and_stands_once(backend: str, cores: int, scenario: str, free: bool) -> None:
    found = changes(backend, cores, scenario, free_batch=free)  # type: ignore[arg-type]
    assert len(set(found)) == len(found)
    for change in found:
        with_changes([change])
    assert {value for name, value in found if name == "threads"} <= set(range(1, cores + 1))


@pytest.mark.parametrize(
    ("cores", "threads"), [(1, [1]), (2, [2, 1]), (4, [4, 2, 1]), (12, [12, 6, 3, 1]), (16, [16, 8, 4, 2, 1])]
)
def test_threads_are_all_cores_halves_and_one(cores: int, threads: list[int]) -> None:
    found = changes("unknown", cores, "SingleStream", free_batch=False)
    assert [value for name, value in found if name == "threads"] == threads


@pytest.mark.parametrize(("backend", "tried"), [(FIXES, 0), (OTHER, 1), ("unknown", 1)])
def test_the_batch_is_tried_as_it_is_not_by_default(backend: str, tried: int) -> None:
    assert changes(backend, 2, "SingleStream", free_batch=True)[0] == ("fixed_batch", tried)
    assert "fixed_batch" not in dict(changes(backend, 2, "SingleStream", free_batch=False))


def test_tiles_are_tried_where_the_processor_has_them() -> None:
    engine = next(name for name in ENGINES.own if ("amx", False) in ENGINES.get(name).run_options.common)
    with_tiles = changes(engine, 2, "SingleStream", free_batch=False, isa=("amx_int8", "avx2"))
    without = changes(engine, 2, "SingleStream", free_batch=False, isa=("avx2",))
    assert set(with_tiles) - set(without) == {("amx", False)}


def test_throughput_has_streams_and_batches_first() -> None:
    names = [name for name, _ in changes(OTHER, 4, "Offline", free_batch=True)]
    assert names[:3] == ["streams"] * 3
    assert names[3:8] == ["batch"] * 5
    assert "batch" not in dict(changes(OTHER, 4, "Offline", free_batch=False))
    assert "streams" not in dict(changes("unknown", 4, "SingleStream", free_batch=True))
