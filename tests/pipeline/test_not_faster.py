"""What a row says that is not faster than fp32: why, by layer, from a real profile of a real bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess

from edgepack.errors import ConfigError
from edgepack.execution.store import Store
from edgepack.pipeline import not_faster
from edgepack.pipeline.not_faster import NOTE, CostlyLayer, Costs, costs_in_words, explain, find_costs, is_not_faster
from edgepack.specs.build import BuildResult, BuildRow

SLOW = BuildRow("board", "int8", "ok", bundle="x.edgepack", speedup_over_fp32=0.8, speedup_ci95=(0.7, 0.9))
ENGINE = {"board": "onnxruntime"}


@pytest.mark.parametrize(
    ("changes", "slow"),
    [
        ({}, True),
        ({"precision": "fp32"}, False),
        ({"speedup_over_fp32": None}, False),
        ({"speedup_over_fp32": 1.1, "speedup_ci95": (0.99, 1.2)}, True),
        ({"speedup_over_fp32": 1.1, "speedup_ci95": (1.01, 1.2)}, False),
        ({"speedup_over_fp32": 1.1, "speedup_ci95": None}, False),
        ({"speedup_over_fp32": 0.9, "speedup_ci95": None}, True),
    ],
)
def test_a_row_is_faster_by_the_whole_interval_or_not(changes: dict[str, Any], slow: bool) -> None:
    assert is_not_faster(dataclasses.replace(SLOW, **changes)) is slow


def test_conversions_and_the_costliest_layers_are_named() -> None:
    layers = tuple(CostlyLayer(f"layer{n}", "Conv", 0.3 - n / 20, "memory-bound") for n in range(5))
    words = costs_in_words(Costs(0.21, layers))
    assert words == (
        "conversions between precisions take 21 % of the time; "
        "Conv layer0, Conv layer1, Conv layer2 (75 %): memory-bound"
    )
    joined = CostlyLayer("first/Conv;" + "x" * 200 + ";last/Conv", "Conv", 0.3, "memory-bound")
    assert costs_in_words(Costs(0, (joined,))) == "Conv first/Conv (30 %): memory-bound"
    long = CostlyLayer("a" * 30 + "b" * 30, "Conv", 0.3, "memory-bound")
    assert costs_in_words(Costs(0, (long,))) == f"Conv {'a' * 19}…{'b' * 20} (30 %): memory-bound"
    assert costs_in_words(Costs(0.01, ())) == "no layer stands out: the model is too small, or bound by memory"


def test_layers_of_one_reason_are_named_together_and_their_own_figures_left_out() -> None:
    found = [
        CostlyLayer("a", "Conv", 0.3, "memory-bound: 4.2 multiply-adds a byte moved"),
        CostlyLayer("b", "Pad", 0.2, "no int8 kernel: onnxruntime runs Pad in float32"),
        CostlyLayer("c", "Conv", 0.1, "memory-bound: 4.3 multiply-adds a byte moved"),
    ]
    assert costs_in_words(Costs(0, tuple(found))) == (
        "Conv a, Conv c (40 %): memory-bound; Pad b (20 %): no int8 kernel: onnxruntime runs Pad in float32"
    )
    assert costs_in_words(Costs(0, tuple(found[:1]))) == ("Conv a (30 %): memory-bound: 4.2 multiply-adds a byte moved")


def test_the_row_says_by_how_much_and_why(tmp_path: Path) -> None:
    runner = InProcess(tmp_path, find_costs=lambda _: Costs(0.5, ()))
    fast = dataclasses.replace(SLOW, speedup_over_fp32=2.0, speedup_ci95=(1.9, 2.1), notes={"a": "b"})
    unsure = dataclasses.replace(SLOW, speedup_over_fp32=1.2, speedup_ci95=(0.9, 1.5), notes={"a": "b"})
    found = explain(runner, (SLOW, fast, unsure), ENGINE)  # type: ignore[arg-type]
    assert found[0].notes == {
        NOTE: "int8 is slower than fp32 here (0.80 times as fast, 95 % interval 0.70 to 0.90): fp32 is recommended; "
        "conversions between precisions take 50 % of the time"
    }
    assert found[1] == fast
    assert found[2].notes["a"] == "b"
    assert "not surely faster than fp32 here (1.20 times as fast, 95 % interval 0.90" in found[2].notes[NOTE]
    assert len(runner.ran) == 2


def test_a_reason_that_cannot_be_found_costs_no_row(tmp_path: Path) -> None:
    def fail(_: Path) -> Costs:
        raise ConfigError("the engine does not report what it executes")

    (found,) = explain(InProcess(tmp_path, find_costs=fail), (SLOW,), ENGINE)  # type: ignore[arg-type]
    assert found.status == "ok"
    assert found.notes[NOTE].endswith("why is not known: the engine does not report what it executes")
    assert not_faster.NOTE == NOTE


def test_an_engine_that_does_not_tell_is_not_asked(tmp_path: Path) -> None:
    runner = InProcess(tmp_path)
    (found,) = explain(runner, (SLOW,), {"board": "tvm"})  # type: ignore[arg-type]
    assert found.notes[NOTE].endswith("why is not known: tvm does not report what it executes")
    assert runner.ran == []


@pytest.mark.slow
def test_real_bundles_tell_their_costs(digits: tuple[BuildResult, Store], tmp_path: Path) -> None:
    """A small network on small pictures: conversions and memory, not multiply-adds, take much of the time."""
    rows = [row for row in digits[0].rows if row.precision == "int8" and row.bundle is not None]
    assert rows
    for row in rows:
        found = find_costs(Path(row.bundle or ""), tmp_path)
        assert 0 <= found.conversion_share < 1
        shares = [layer.time_share for layer in found.layers]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 1.0
        assert found.layers, row.target
        assert all(layer.reason for layer in found.layers)


@pytest.mark.slow
def test_a_build_says_it_of_the_rows_that_were_measured(digits: tuple[BuildResult, Store]) -> None:
    for row in digits[0].rows:
        assert (NOTE in row.notes) is is_not_faster(row)
