"""Corrections: each alone does what it says, and together they are kept only where they help on unseen samples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper
from quantize_models import initializers, normal, random_feeds, run_onnxruntime, save, sqnr_db, uneven
from saturation import worst_pair

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.quantize import correct as correct_module
from edgepack.quantize import quantize
from edgepack.quantize.correct import Corrected, _promising, quantize_corrected
from edgepack.specs.data import Ranges
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

RULES = QuantizationRules(engine="onnxruntime")


# --- together ---------------------------------------------------------------------------------------------------------


def correct(model: OnnxModel, x: Array, out: Path, rules: QuantizationRules = RULES) -> tuple[Corrected, Ranges]:
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "data.npz", x=x)
    samples = find_samples(str(out / "data.npz"), model.inputs, None)
    ranges = calibrate(model, samples, "minmax", 99.99, out / "ranges")
    return quantize_corrected(model, ranges, rules, samples, "medium", out / "corrected"), ranges


@pytest.mark.parametrize("saturates", [False, True])
def test_uneven_channels_gain_many_decibels(tmp_path: Path, saturates: bool) -> None:
    model = uneven(tmp_path)
    rules = QuantizationRules(engine="onnxruntime", saturates=saturates)
    found, ranges = correct(model, normal(40, 3, 6, 6, seed=5), tmp_path, rules)
    steps = {step.name: step for step in found.steps}
    assert steps["channels scaled"].kept
    plain = quantize(model, ranges, rules, tmp_path / "plain")
    feeds = random_feeds(model, 6, seed=9)
    expected = run_onnxruntime(model, feeds, optimized=False)
    before, after = (sqnr_db(expected, run_onnxruntime(m, feeds, optimized=False)) for m in (plain, found.model))
    assert after > before + 10
    assert sqnr_db(expected, run_onnxruntime(found.source, feeds)) > 80
    if saturates:
        for name, weight in initializers(found.model).items():
            if name.startswith("w") and name.endswith("_quantized"):
                rows = weight.reshape(len(weight), -1)
                assert worst_pair(rows, (np.arange(rows.shape[1] // 2 * 2).reshape(-1, 2),)) <= 128


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    model, x = uneven(tmp_path), normal(24, 3, 6, 6, seed=5)
    first, second = (correct(model, x, tmp_path / name)[0] for name in ("one", "two"))
    assert first.model.sha256 == second.model.sha256
    assert first.steps == second.steps


def test_steps_that_do_not_help_are_left_out(tmp_path: Path) -> None:
    """Nothing to correct: whole numbers as weights, on values that int8 stores exactly."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="only")]
    weight = np.arange(-127, 128, 17, dtype=np.float32)[:12].reshape(4, 3, 1, 1)
    weight[:, 0] = 127
    model = save(nodes, {"w": weight / 127}, tmp_path / "m.onnx", inputs={"x": ["N", 3, 4, 4]})
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4)).astype(np.float32)
    x[:, :, 0, 0], x[:, :, 0, 1] = 0, 255
    found, ranges = correct(model, x, tmp_path)
    assert [step.kept for step in found.steps] == [True, False, False, False, False]
    assert found.model.sha256 == quantize(model, ranges, RULES, tmp_path / "plain").sha256
    assert found.source.sha256 == model.sha256
    assert not (tmp_path / "corrected" / "source").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_samples_are_said(tmp_path: Path, count: int) -> None:
    model = uneven(tmp_path)
    found, _ = correct(model, normal(count, 3, 6, 6), tmp_path)
    assert found.steps == ()
    assert found.reason is not None
    assert str(count) in found.reason


def test_copies_of_what_is_fitted_on_judge_nothing(tmp_path: Path) -> None:
    model, one = uneven(tmp_path), normal(1, 3, 6, 6)
    found, ranges = correct(model, np.repeat(one, 20, axis=0), tmp_path)
    assert (found.steps, found.judged_on) == ((), 0)
    assert "copies of each other" in str(found.reason)
    assert found.model.sha256 == quantize(model, ranges, RULES, tmp_path / "plain").sha256
    few, _ = correct(model, np.concatenate([np.repeat(one, 10, axis=0), normal(30, 3, 6, 6, seed=2)]), tmp_path / "few")
    assert 0 < few.judged_on < 10


def test_one_quarter_of_the_samples_judges(tmp_path: Path) -> None:
    found, _ = correct(uneven(tmp_path), normal(40, 3, 6, 6, seed=5), tmp_path)
    assert found.judged_on == 10


def test_large_weights_are_quantized_without_corrections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepack.quantize.correct._MOST_BYTES", 10)  # stands for 1 GiB
    model = uneven(tmp_path)
    found, ranges = correct(model, normal(20, 3, 6, 6), tmp_path)
    assert found.steps == ()
    assert found.reason is not None
    assert "corrections are for models of up to" in found.reason
    assert found.model.sha256 == quantize(model, ranges, RULES, tmp_path / "plain").sha256


def test_a_step_that_fails_is_left_out_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepack.quantize.correct import equalize

    def fail(*_: object) -> None:
        raise ValueError("no such channel\nand more")

    monkeypatch.setattr(equalize, "equalize", fail)
    weights = normal(4, 3, 3, 3)
    model = save(
        [helper.make_node("Conv", ["x", "w"], ["y"])], {"w": weights}, tmp_path / "m.onnx", inputs={"x": (1, 3, 8, 8)}
    )
    np.savez(tmp_path / "x.npz", x=normal(12, 3, 8, 8))
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    ranges = calibrate(model, samples, "minmax", 99.99, tmp_path / "ranges")
    made = quantize_corrected(model, ranges, RULES, samples, "medium", tmp_path / "out")
    assert [(s.name, s.sqnr_db, s.reason) for s in made.steps if s.reason] == [
        ("channels scaled", None, "no such channel")
    ]


def test_constants_that_grow_leave_a_valid_graph(tmp_path: Path) -> None:
    """A constant added to scaled channels grows to their shape; shapes that the model states of it must follow."""
    size = np.geomspace(0.02, 8, 8).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["t"], pads=[1] * 4),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("Mul", ["r", "m"], ["u"]),
        helper.make_node("Add", ["u", "c"], ["v"]),
        helper.make_node("Conv", ["v", "b"], ["y"]),
    ]
    constants = {
        "a": normal(8, 3, 3, 3) * size[:, None, None, None],
        "b": normal(4, 8, 1, 1) / size[:, None, None],
        "m": np.array([1.1], np.float32),
        "c": np.array([0.1], np.float32),
    }
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ("N", 3, 8, 8)})
    proto = onnx.load(model.path)
    for name in "mc":
        proto.graph.value_info.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]))
    onnx.save(proto, model.path)
    model = load_model(model.path)
    np.savez(tmp_path / "x.npz", x=normal(16, 3, 8, 8))
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    ranges = calibrate(model, samples, "minmax", 99.99, tmp_path / "ranges")
    made = quantize_corrected(model, ranges, RULES, samples, "medium", tmp_path / "out")
    assert not [step.reason for step in made.steps if step.reason]
    assert next(step for step in made.steps if step.name == "channels scaled").sqnr_db is not None


# --- what is left in float --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "levels", "tried"),
    [
        (8.0, [9.0, 9.0, 14.0], [2]),  # one of three comes near to 15 dB
        (8.0, [13.0, 13.0, 16.0], [0, 2]),  # two do; the second leaves nothing more in float than the first
        (8.0, [8.0, 9.0, 8.5], [1]),  # none does: the best
        (8.0, [7.9], [0]),
        (16.0, [15.9, 14.0], []),  # the SQNR suffices: what does not raise it is no use
        (16.0, [15.9, 16.6, 18.0], [1, 2]),
        (16.0, [16.0], []),
        (16.0, [17.0], [0]),
        (16.0, [], []),
    ],
)
def test_corrections_are_made_anew_for_what_promises_to_suffice(
    level: float, levels: list[float], tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [(f"node{n}",) for n in range(len(levels))]
    known = dict(zip(sets, levels, strict=True))
    monkeypatch.setattr(correct_module, "_level_without", lambda _job, _state, left: known[left])
    state = SimpleNamespace(level=level)
    assert _promising(None, state, sets) == [sets[n] for n in tried]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("level", "shown", "suffices"),
    [(14.9, None, False), (14.9, 1.0, False), (15.0, None, True), (15.0, 0.97, True), (15.0, 0.96, False)],
)
def test_a_detector_suffices_by_the_boxes_that_it_shows(
    level: float, shown: float | None, suffices: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correct_module, "_write", lambda _plan, _weights, out: out.mkdir())
    judge = SimpleNamespace(shown=lambda _model: shown)
    job = correct_module._Job(None, None, None, (), judge, None, tmp_path)  # type: ignore[arg-type]
    assert job.suffices(SimpleNamespace(level=level, plan=None, weights=None)) is suffices  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
