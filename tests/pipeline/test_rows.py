"""Rows of a result, from what the stages returned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import made_up
import pytest

from edgepack.engines.targets import load_target
from edgepack.errors import CompileError, EdgepackError, GateError
from edgepack.pipeline.rows import (
    as_poor,
    built_row,
    changed_classes,
    failed_row,
    skipped_row,
    with_corrections,
    with_evaluation,
    with_latency,
    with_ratio_explained,
    with_size_explained,
)
from edgepack.pipeline.stages.pack import Packed
from edgepack.quantize.correct import Corrected
from edgepack.specs.build import BuildRow, Correction, Latency, Trial
from edgepack.specs.model import OnnxModel
from edgepack.specs.run import Accuracy, ClassFigure, Verification
from edgepack.specs.types import Precision
from edgepack.verify.closeness import Closeness
from edgepack.verify.evaluate import Evaluation
from edgepack.verify.parts import Balance
from edgepack.verify.spans import Span

MODEL = OnnxModel(Path("m.onnx"), "0" * 64, 1, 17, (), ())
CLOSE = Closeness(40, 30.0, (29.0, 31.0), 0.99, (0.98, 1.0), 0.95, (0.9, 0.98))
ACCURACY = Accuracy("top1", 40, 0.9, 0.88, 0.02, (0.0, 0.04))
EVALUATION = Evaluation(
    Verification(True, (), 2, "onnxruntime", {"onnxruntime": "1.2", "other": "3"}, ("avx2",)), ACCURACY, None, CLOSE
)
PACKED = Packed(Path("store/x.edgepack"), "ab" * 32, 1234, 1000)
ROW = BuildRow("board", "int8", "ok")


def trial(left: int, *, passed: bool) -> Trial:
    return Trial(tuple(f"n{i}" for i in range(left)), "top1", 0.9, 0.0, None, 0.1, passed=passed)


def corrected(*steps: Correction, reason: str | None = None) -> Corrected:
    return Corrected(MODEL, MODEL, steps, 10, reason)


def test_a_skipped_row_says_what_the_target_offers() -> None:
    row = skipped_row(load_target("raspberry-pi-5"), "bf16")
    assert (row.target, row.status, row.exit_code, row.bundle) == ("raspberry-pi-5", "skipped", 0, None)
    assert row.reason == "raspberry-pi-5 does not offer bf16; its profile lists fp32, fp16, int8"


def test_a_constant_output_is_said_to_be_one_though_it_is_exact() -> None:
    spans = (Span("anchors", 40, True, 3.0), Span("y", 40, False, 3.0))
    row = with_evaluation(ROW, dataclasses.replace(EVALUATION, spans=spans))
    assert row.notes["constant"].startswith("fp32's 'anchors' is constant over 40 samples")
    assert "constant" not in with_evaluation(ROW, EVALUATION).notes


def test_an_output_that_is_nearly_zero_is_named_with_its_difference() -> None:
    found = dataclasses.replace(EVALUATION, spans=(Span("y", 40, False, 0.0012, 0.003),), nearly_zero=("y",))
    note = with_evaluation(ROW, found).notes["nearly zero"]
    assert note.startswith("fp32's 'y' is at most 0.0012 in 40 samples, below one step of int8")
    assert "largest difference, 0.003" in note


@pytest.mark.parametrize(("base", "speedup", "said"), [(590, 2.74, True), (280, 2.74, False), (100, 2.74, True)])
def test_a_speed_up_that_is_not_the_ratio_beside_it_is_explained(base: int, speedup: float, said: bool) -> None:
    fp32 = dataclasses.replace(ROW, precision="fp32", latency_ns=Latency(base, None))
    row = dataclasses.replace(ROW, latency_ns=Latency(100, None), speedup_over_fp32=speedup)
    found = with_ratio_explained(row, fp32)
    assert ("speed-up" in found.notes) is said
    if said:
        assert (
            f"2.74 is of pairs measured in turn; the p50 of the two rows are {base / 100:.2f}"
            in found.notes["speed-up"]
        )
    assert with_ratio_explained(row, None) == row


@pytest.mark.parametrize(("ends", "end"), [((2.0, 3.0), "believe the speed-up"), ((2.0, 7.0), "on a quieter machine")])
def test_a_speed_up_whose_interval_holds_the_other_ratio_is_not_to_be_believed(
    ends: tuple[float, float], end: str
) -> None:
    fp32 = dataclasses.replace(ROW, precision="fp32", latency_ns=Latency(590, None))
    row = dataclasses.replace(ROW, latency_ns=Latency(100, None), speedup_over_fp32=2.74, speedup_ci95=ends)
    assert with_ratio_explained(row, fp32).notes["speed-up"].endswith(end)


@pytest.mark.parametrize(("size", "said"), [(479_000, True), (297_000, True), (296_000, False)])
def test_int8_that_is_no_smaller_says_so(size: int, said: bool) -> None:
    fp32 = dataclasses.replace(ROW, precision="fp32", model_bytes=297_000)
    row = dataclasses.replace(ROW, model_bytes=size)
    found = with_size_explained(row, fp32)
    assert ("size" in found.notes) is said
    if said:
        assert f"int8 makes the model no smaller: {size / 1000:.0f} kB, fp32 has 297 kB" in found.notes["size"]
    assert with_size_explained(row, None) == row
    assert with_size_explained(fp32, fp32) == fp32


# --- failed and built -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "reason", "code"),
    [
        (CompileError("refused", hint="try fp32"), "failed", "refused (try fp32)", 4),
        (EdgepackError("odd"), "failed", "odd (run again with --debug for the traceback)", 1),
        (
            GateError("the drop is 3 points", hint="more samples"),
            "gate_missed",
            "the drop is 3 points (more samples)",
            5,
        ),
    ],
)
def test_an_error_is_a_row_with_its_reason_and_exit_code(error: Any, status: str, reason: str, code: int) -> None:
    row = failed_row("board", "int8", error, None, ())
    assert (row.status, row.reason, row.exit_code, row.bundle) == (status, reason, code, None)
    assert set(row.notes) == {"accuracy", "latency"}


def test_what_was_measured_before_it_failed_is_kept() -> None:
    trials = (trial(0, passed=False),)
    row = failed_row("board", "int8", GateError("no"), EVALUATION, trials)
    assert (row.accuracy, row.sqnr_db, row.trials) == (ACCURACY, 30.0, trials)
    assert "accuracy" not in row.notes
    assert "latency" in row.notes


def test_a_bundle_is_a_row_with_its_digest_and_size() -> None:
    row = built_row("board", "int8", Path("out/x.edgepack"), PACKED, EVALUATION, None, (), {"isa": "lacks"})
    assert (row.status, row.bundle, row.sha256, row.size_bytes) == ("ok", "out/x.edgepack", "ab" * 32, 1234)
    assert row.notes == {"isa": "lacks"}
    assert (row.corrections, row.exit_code) == ((), 0)


def test_the_gate_says_how_few_layers_it_took() -> None:
    trials = (trial(0, passed=False), trial(4, passed=True), trial(2, passed=True))
    row = built_row("board", "int8", Path("x"), PACKED, EVALUATION, None, trials, {})
    assert row.notes["gate"] == "2 operators run in fp32 so that the gate holds; 3 models were tried"


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_closeness_comes_with_its_circumstances() -> None:
    row = with_evaluation(ROW, EVALUATION)
    assert (row.sqnr_db, row.cosine, row.agreement, row.n) == (30.0, 0.99, 0.95, 40)
    assert (row.sqnr_ci95_db, row.cosine_ci95, row.agreement_ci95) == ((29.0, 31.0), (0.98, 1.0), (0.9, 0.98))
    assert (row.evaluated_with, row.evaluated_isa) == ("onnxruntime 1.2, 3", ("avx2",))
    assert row.notes == {}


@pytest.mark.parametrize(
    ("evaluation", "note", "words"),
    [
        (dataclasses.replace(EVALUATION, accuracy=None, accuracy_reason="no labels"), "accuracy", "no labels"),
        (dataclasses.replace(EVALUATION, closeness=dataclasses.replace(CLOSE, sqnr_db=None)), "sqnr_db", "identical"),
        (
            dataclasses.replace(EVALUATION, accuracy=None, closeness=dataclasses.replace(CLOSE, agreement=None)),
            "agreement",
            "class scores",
        ),
    ],
)
def test_what_was_not_measured_has_a_reason(evaluation: Evaluation, note: str, words: str) -> None:
    assert words in with_evaluation(ROW, evaluation).notes[note]


@pytest.mark.parametrize(("truth", "said"), [("labels", False), ("fp32", True)])
def test_without_labels_the_truth_is_named(truth: Any, said: bool) -> None:
    accuracy = Accuracy("map50", 16, 1.0, 0.9, 0.1, (0.0, 0.2), truth)
    row = with_evaluation(ROW, dataclasses.replace(EVALUATION, accuracy=accuracy, accuracy_reason=None))
    assert ("map50 takes fp32's own answers for right" in row.notes.get("labels", "")) == said


def test_notes_of_others_stay() -> None:
    row = with_evaluation(dataclasses.replace(ROW, notes={"accuracy": "old", "isa": "lacks"}), EVALUATION)
    assert row.notes == {"isa": "lacks"}


# --- corrections ------------------------------------------------------------------------------------------------------


def test_every_step_is_said_in_words_and_for_programs() -> None:
    steps = (
        Correction("nearest", 30.0, True),
        Correction("channels scaled", None, False),
        Correction("biases", 29.5, False),
    )
    row = with_corrections(ROW, corrected(*steps))
    assert row.corrections == steps
    assert row.notes["corrections"] == (
        "nearest 30.0 dB; channels scaled: nothing to do; biases 29.5 dB (left out) "
        "(SQNR on 10 calibration samples that nothing was fitted on)"
    )


def test_why_nothing_was_corrected_is_said() -> None:
    row = with_corrections(ROW, corrected(reason="too few samples"))
    assert (row.corrections, row.notes) == ((), {"corrections": "too few samples"})


# --- latency ----------------------------------------------------------------------------------------------------------


def test_latency_is_that_of_the_machine_that_measured() -> None:
    result = made_up.result()
    row = with_latency(dataclasses.replace(ROW, notes={"latency": "old", "a": "b"}), result, 1.5, (1.4, 1.6), "unused")
    values = {p.p: p.value_ns for p in result.percentiles}
    assert row.latency_ns == Latency(values[50.0], values[90.0])
    assert (row.speedup_over_fp32, row.speedup_ci95) == (1.5, (1.4, 1.6))
    assert row.measured_on == f"{result.host.cpu}, openvino 1.2.3"
    assert row.notes == {"a": "b"}


def test_a_disturbed_measurement_says_so() -> None:
    result = made_up.result(valid=False, invalid_reasons=("it was hot", "others ran"))
    assert with_latency(ROW, result, None, None, None).notes["latency"] == "disturbed: it was hot; others ran"


def test_few_queries_have_no_p90() -> None:
    result = made_up.result(percentiles=tuple(p for p in made_up.result().percentiles if p.p < 90))
    row = with_latency(ROW, result, None, None, "no fp32 row")
    assert row.latency_ns is not None
    assert row.latency_ns.p90 is None
    assert row.notes["p90"] == f"not enough queries ({result.queries})"
    assert row.notes["speedup_over_fp32"] == "no fp32 row"


def test_without_percentiles_there_is_no_latency() -> None:
    assert with_latency(ROW, made_up.result(percentiles=()), None, None, None).latency_ns is None


@pytest.mark.parametrize(("precision", "named"), [("int8", True), ("fp32", False)])
def test_the_worst_part_is_named_where_rounding_lost_it(precision: Precision, named: bool) -> None:
    close = Closeness(12, 40.0, None, 1.0, None, None, None)
    balance = Balance(12, 20.0, None, "y: scores", 12.0)
    evaluation = Evaluation(Verification(True, (), 4, "x", {}, ()), None, "no labels", close, balance=balance)
    row = with_evaluation(BuildRow("t", precision, "ok"), evaluation)
    assert row.worst_output == "y: scores"
    assert ("worst part" in row.notes) == named


def test_a_mean_that_hides_what_was_lost_is_named() -> None:
    balance = Balance(12, 4.0, None, "y", 4.0, 50.0)
    close = Closeness(12, 50.0, None, 1.0, None, None, None)
    evaluation = Evaluation(Verification(True, (), 4, "x", {}, ()), None, "no labels", close, balance=balance)
    row = with_evaluation(ROW, evaluation)
    text = "what varies in y has 4.0 dB (50.0 with what is the same in all samples, which tells none from another)"
    assert row.notes["worst part"] == f"{text}, all outputs together 50.0"
    poor = as_poor(row, balance, 10.0, allowed=False)
    assert (poor.status, poor.exit_code) == ("poor", 5)
    assert text in (poor.reason or "")
    assert as_poor(row, balance, 10.0, allowed=True).exit_code == 0
    assert "(evaluate on samples that are less alike, give more and more typical calibration samples" in (
        poor.reason or ""
    )
    halved = as_poor(dataclasses.replace(row, precision="bf16"), balance, 10.0, allowed=False)
    assert "less alike, build fp32, or accept it" in (halved.reason or "")
    plain = as_poor(row, Balance(12, 4.0, None, "y", 4.0, 4.1), 10.0, allowed=False)
    assert "worst: y has 4.0 dB (give more" in (plain.reason or "")


def test_classes_that_changed_are_named_in_a_sentence() -> None:
    classes = (ClassFigure("skis", 9, 0.62, 0.48), ClassFigure("cup", 4, 0.5, 0.55), ClassFigure("cat", 2, 0.9, 0.9))
    accuracy = Accuracy("map50", 32, 0.67, 0.64, 0.03, (0.0, 0.06), classes=classes)
    assert changed_classes(accuracy) == (
        "of 3 classes 1 lose and 1 gain a point or more of mAP of IoU .50; "
        "most changed: skis 62.0 to 48.0 %, cup 50.0 to 55.0 %"
    )
    assert changed_classes(dataclasses.replace(accuracy, classes=classes[2:])) is None
    assert changed_classes(None) is None


@pytest.mark.parametrize(("boxes", "said"), [(None, False), (0, True), (1, True), (31, True), (32, False)])
def test_a_detector_s_calibration_that_shows_hardly_a_box_is_named(boxes: int | None, said: bool) -> None:
    found = dataclasses.replace(corrected(Correction("biases", 20.0, kept=True)), boxes=boxes)
    notes = with_corrections(ROW, found).notes
    assert ("boxes" in notes) is said
    if said:
        words = "one box" if boxes == 1 else f"{boxes} boxes"
        assert notes["boxes"].startswith(f"fp32 shows {words} in the calibration samples")
