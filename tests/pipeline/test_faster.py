"""A placement for speed: tried where int8 is not clearly faster, kept where it is faster and as good."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess

from edgepack.errors import ModelError
from edgepack.pipeline.faster import Placed, place_for_speed, why_not
from edgepack.pipeline.gate import Attempt
from edgepack.pipeline.limits import Limits
from edgepack.quantize.worthwhile import Worth
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import Accuracy, OutputDistance, Verification
from edgepack.specs.target import QuantizationRules
from edgepack.verify.closeness import Closeness
from edgepack.verify.evaluate import Evaluation
from edgepack.verify.parts import Balance

MODEL = OnnxModel(Path("m.onnx"), "0" * 64, 1, 17, (), ())


def attempt(name: str, db: float | None = 20.0, *, passed: bool = True, drop: float = 0.0) -> Attempt:
    output = OutputDistance("y", 30.0, 0.99, 0.1, 10.0, passed)
    accuracy = Accuracy("top1", 40, 0.9, 0.9 - drop, drop, (0.0, 0.1))
    evaluation = Evaluation(
        Verification(passed, (output,), 2, "onnxruntime", {}, ()), accuracy, None,
        Closeness(40, 30.0, None, 0.99, None, None, None), balance=Balance(40, db, None, None, None),
    )  # fmt: skip
    compiled = CompiledModel("onnxruntime", "int8", Path(name), "m.onnx", ("m.onnx",), (), (), {})
    return Attempt(MODEL, MODEL, compiled, evaluation)


WORTH, NO_LIMITS = Worth(("a[0]", "b"), 900, 600, 800), Limits()
PLAIN, FIRST, OTHER = attempt("plain"), attempt("first"), attempt("other")


@dataclasses.dataclass
class Case:
    """What is measured, by an attempt's name in ns, and what was asked for."""

    folder: Path
    times: dict[str, int]
    other: Attempt | None = OTHER
    worth: Worth | None = WORTH
    limits: Limits = NO_LIMITS
    asked: list[QuantizationRules] = dataclasses.field(default_factory=list)

    def place(self) -> Placed:
        def build(rules: QuantizationRules, _title: str) -> Attempt:
            self.asked.append(rules)
            if self.other is None:
                raise ModelError("nothing in this model can run in int8", hint="build fp32")
            return self.other

        def time(attempts: tuple[Attempt, ...]) -> tuple[int, ...]:
            return tuple(self.times[one.compiled.folder.name] for one in attempts)

        runner: Any = InProcess(self.folder, find_worthwhile=lambda *_: self.worth)
        rules = QuantizationRules(leave=("Softmax",))
        ranges: Any = None
        return place_for_speed(runner, MODEL, ranges, rules, PLAIN, FIRST, self.limits, build, time)


def test_int8_that_is_fast_stays_as_it_is(tmp_path: Path) -> None:
    case = Case(tmp_path, {"plain": 1150, "first": 1000})
    assert case.place() == Placed(FIRST)
    assert case.asked == []


def test_a_faster_placement_is_kept_and_says_so(tmp_path: Path) -> None:
    case = Case(tmp_path, {"plain": 1000, "first": 1250, "other": 800})
    found = case.place()
    assert found.attempt is OTHER
    assert found.note == (
        "2 operators in fp32, as they gain nothing in int8: 1.25 times as fast as fp32, 0.80 without (median latencies "
        "in turn)"
    )
    assert case.asked[0].leave == ("Softmax", "a[[]0]", "b")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"times": {"plain": 1000, "first": 1000, "other": 980}}, "no faster"),
        ({"other": attempt("other", 19.4)}, "its balanced SQNR is 19.4 dB instead of 20.0"),
        ({"other": attempt("other", passed=False)}, "its outputs fail verification"),
        ({"other": attempt("other", drop=0.2), "limits": Limits(max_drop=0.1)}, "it misses the gate"),
    ],
)
def test_a_placement_that_is_not_better_is_left_out_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    found = Case(tmp_path, **{"times": {"plain": 1000, "first": 1000, "other": 500}, **changes}).place()
    assert found.attempt is FIRST
    assert found.note is not None
    assert found.note.endswith(f"left out: {reason}")


def test_a_network_in_which_nothing_is_worth_it_stays_and_says_so(tmp_path: Path) -> None:
    found = Case(tmp_path, {"plain": 1000, "first": 1000}, other=None).place()
    assert found.attempt is FIRST
    assert "tried and left out: nothing in this model can run in int8" in (found.note or "")


@pytest.mark.parametrize("worth", [None, Worth((), 1, 1, 2), Worth(("a",), 520, 500, 600)])
def test_without_a_choice_that_may_gain_enough_nothing_is_tried(tmp_path: Path, worth: Worth | None) -> None:
    case = Case(tmp_path, {"plain": 1000, "first": 1000}, worth=worth)
    assert case.place() == Placed(FIRST)
    assert case.asked == []


def test_outputs_that_do_not_differ_at_all_are_no_loss() -> None:
    assert why_not(FIRST, attempt("other", None), NO_LIMITS) is None
    assert why_not(FIRST, attempt("other", 19.6), NO_LIMITS) is None
