"""An int8 bundle that has lost its outputs is not called ok."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantize_models import node, save

from edgepack.execution.store import Store
from edgepack.pipeline.build import build, exit_code
from edgepack.pipeline.settings import BuildSettings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


def settings_of(tmp_path: Path, classes: int = 0, difference: float = 1e-3) -> BuildSettings:
    """A large output beside a small difference of large signals, which int8 cannot hold; ``plain`` mends nothing."""
    random = np.random.default_rng(0)
    twins = np.ones((4, 1, 1, 1)) + difference * random.standard_normal((4, 1, 1, 1))
    constants: dict[str, Any] = {
        "w0": np.concatenate([np.ones((4, 1, 1, 1)), twins]).astype(np.float32),
        "w1": np.concatenate([np.eye(4), -np.eye(4)], axis=1)[:, :, None, None].astype(np.float32),
        "w2": random.standard_normal((4, 8, 1, 1)).astype(np.float32),
        "w3": random.standard_normal((4, max(classes, 1))).astype(np.float32),
    }
    nodes = [
        node("Conv", "x w0", "twins"), node("Conv", "twins w1", "small"), node("Conv", "twins w2", "large"),
        node("Concat", "large small", "both", axis=1), node("GlobalAveragePool", "small", "pooled"),
        node("Flatten", "pooled", "flat"), node("MatMul", "flat w3", "scores"),
    ]  # fmt: skip
    outputs = ("scores", "both") if classes else ("both",)
    save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 1, 8, 8)}, outputs=outputs)
    np.savez(tmp_path / "x.npz", x=random.standard_normal((24, 1, 8, 8)).astype(np.float32))
    return BuildSettings(
        model=str(tmp_path / "m.onnx"), precisions=("int8",), data=str(tmp_path / "x.npz"), method="plain",
        benchmark=False, out=str(tmp_path / "out"),
    )  # fmt: skip


def test_a_lost_part_makes_the_row_poor_though_the_whole_is_good(tmp_path: Path) -> None:
    settings, store = settings_of(tmp_path), Store(tmp_path / "store")
    result = build(settings, store)
    (row,) = result.rows
    assert "both: small has" in row.notes["worst part"]
    assert row.status == "poor"
    assert exit_code(result) == 5
    assert row.sqnr_db is not None
    assert row.sqnr_db > 20
    assert row.balanced_sqnr_db is not None
    assert row.balanced_sqnr_db < 10
    assert row.worst_output == "both: small"
    assert row.reason is not None
    assert "both: small" in row.reason
    assert "--allow-poor" in row.reason
    assert row.bundle is not None
    allowed = build(dataclasses.replace(settings, allow_poor=True), store)
    assert (allowed.rows[0].status, exit_code(allowed)) == ("poor", 0)
    lower = build(dataclasses.replace(settings, min_sqnr=-30.0), store)
    assert (lower.rows[0].status, exit_code(lower)) == ("ok", 0)


def test_an_output_that_keeps_its_mean_and_loses_all_else_is_poor(tmp_path: Path) -> None:
    """Values around 1000 that vary by 1: a step of int8 there is 4."""
    random = np.random.default_rng(0)
    constants = {
        "w0": random.standard_normal((4, 1, 1, 1)).astype(np.float32), "b0": np.full(4, 1000, np.float32),
        "w1": np.eye(4, dtype=np.float32)[:, :, None, None],
    }  # fmt: skip
    nodes = [node("Conv", "x w0 b0", "far"), node("Conv", "far w1", "y")]
    save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 1, 8, 8)})
    np.savez(tmp_path / "x.npz", x=random.standard_normal((24, 1, 8, 8)).astype(np.float32))
    settings = BuildSettings(
        model=str(tmp_path / "m.onnx"), precisions=("int8",), data=str(tmp_path / "x.npz"), method="plain",
        targets=("host-onnxruntime",), benchmark=False, out=str(tmp_path / "out"),
    )  # fmt: skip
    result = build(settings, Store(tmp_path / "store"))
    (row,) = result.rows
    assert (row.status, exit_code(result)) == ("poor", 5)
    assert row.sqnr_db is not None
    assert row.sqnr_db > 50
    assert row.balanced_sqnr_db is not None
    assert row.balanced_sqnr_db < 5
    assert "what varies in y has" in (row.reason or "")


def test_too_many_changed_answers_miss_the_gate(tmp_path: Path) -> None:
    settings = dataclasses.replace(settings_of(tmp_path, classes=6, difference=0.03), max_change=0.05)
    result = build(settings, Store(tmp_path / "store"))
    assert result.rows[0].status == "gate_missed"
    assert "changes" in (result.rows[0].reason or "")
    assert exit_code(result) == 5


def test_a_gate_on_answers_needs_answers(tmp_path: Path) -> None:
    settings = dataclasses.replace(settings_of(tmp_path), max_change=0.05)
    (row,) = build(settings, Store(tmp_path / "store")).rows
    assert row.status == "gate_missed"
    assert "--max-change cannot be checked" in (row.reason or "")


def test_operators_go_back_to_fp32_until_few_enough_answers_change(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, classes=6, difference=0.03)
    settings = dataclasses.replace(settings, method="auto", effort="low", min_sqnr=-200.0, max_change=0.0)
    (row,) = build(settings, Store(tmp_path / "store")).rows
    assert row.status == "ok"
    assert row.change is not None
    assert (row.change.answers, row.change.changed) == ("classes", 0)
    first, *others = row.trials
    assert not first.passed
    assert first.change is not None
    assert first.change > 0
    assert any(trial.passed and trial.left for trial in others)
