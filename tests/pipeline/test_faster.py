"""A placement for speed: tried where int8 is not clearly faster, kept where it is surely faster and as good."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import InProcess

from edgepack.errors import ModelError
from edgepack.pipeline.faster import Gain, Placed, measure_gain, place_for_speed, why_not
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


WORTH, NO_LIMITS = Worth(("a[0]", "b"), 90_000, 60_000, 80_000), Limits()
PLAIN, FIRST, OTHER = attempt("plain"), attempt("first"), attempt("other")


@dataclasses.dataclass
class Case:
    """What is measured, by an attempt's name in ns, how much each measurement varies, and what was asked for."""

    folder: Path
    times: dict[str, int]
    other: Attempt | None = OTHER
    worth: Worth | None = WORTH
    limits: Limits = NO_LIMITS
    spread: float = 0.005
    asked: list[QuantizationRules] = dataclasses.field(default_factory=list)
    rounds: list[int] = dataclasses.field(default_factory=list)

    def place(self) -> Placed:
        random = np.random.default_rng(1)

        def build(rules: QuantizationRules, _title: str) -> Attempt:
            self.asked.append(rules)
            if self.other is None:
                raise ModelError("nothing in this model can run in int8", hint="build fp32")
            return self.other

        def time(attempts: tuple[Attempt, ...], rounds: int) -> list[list[int]]:
            self.rounds.append(rounds)
            known = [self.times[one.compiled.folder.name] for one in attempts]
            return [[round(ns * np.exp(random.normal(0, self.spread))) for ns in known] for _ in range(rounds)]

        runner: Any = InProcess(self.folder, find_worthwhile=lambda *_: self.worth)
        rules = QuantizationRules(leave=("Softmax",))
        ranges: Any = None
        return place_for_speed(runner, MODEL, ranges, rules, PLAIN, FIRST, self.limits, build, time)


def test_int8_that_is_fast_stays_as_it_is(tmp_path: Path) -> None:
    case = Case(tmp_path, {"plain": 140_000, "first": 100_000})
    assert case.place() == Placed(FIRST)
    assert case.asked == []
    assert case.rounds == [9]


def test_int8_that_is_hardly_fast_enough_says_that_nothing_was_tried(tmp_path: Path) -> None:
    case = Case(tmp_path, {"plain": 120_000, "first": 100_000}, spread=0)
    assert case.place() == Placed(FIRST, "none was tried for speed: int8 is 1.20 times as fast (1.20 to 1.20) as fp32")
    assert case.asked == []


def test_a_faster_placement_is_kept_and_says_so(tmp_path: Path) -> None:
    case = Case(tmp_path, {"plain": 100_000, "first": 125_000, "other": 80_000}, spread=0)
    found = case.place()
    assert found.attempt is OTHER
    assert found.note == (
        "2 operators in fp32, as they gain nothing in int8: 1.56 times as fast (1.56 to 1.56) as without, which is "
        "0.80 times as fast (0.80 to 0.80) as fp32"
    )
    assert case.asked[0].leave == ("Softmax", "a[[]0]", "b")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"times": {"plain": 100_000, "first": 100_000, "other": 98_000}}, "no faster"),
        ({"other": attempt("other", 19.4)}, "its balanced SQNR is 19.4 dB instead of 20.0"),
        ({"other": attempt("other", passed=False)}, "its outputs fail verification"),
        ({"other": attempt("other", drop=0.2), "limits": Limits(max_drop=0.1)}, "it misses the gate"),
    ],
)
def test_a_placement_that_is_not_better_is_left_out_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    times = {"plain": 100_000, "first": 100_000, "other": 50_000}
    found = Case(tmp_path, **{"times": times, **changes}).place()
    assert found.attempt is FIRST
    assert found.note is not None
    assert found.note.endswith(f"left out: {reason}")


def test_a_busy_machine_decides_nothing_and_the_row_says_so(tmp_path: Path) -> None:
    case = Case(tmp_path, {"plain": 100_000, "first": 100_000, "other": 93_000}, spread=0.5)
    found = case.place()
    assert found.attempt is FIRST
    assert (found.note or "").endswith(
        "left out: not decided, as the machine was busy; built again when it is idle, it may be kept"
    )
    assert case.rounds == [9, 18, 9, 18], "more rounds were asked for where few decide nothing"


def test_a_placement_that_gains_nothing_is_kept_by_no_noise() -> None:
    random = np.random.default_rng(2)

    def time(attempts: tuple[Attempt, ...], rounds: int) -> list[list[int]]:
        return [[round(1e6 * np.exp(random.normal(0, 0.2))) for _ in attempts] for _ in range(rounds)]

    gains = [measure_gain(time, FIRST, OTHER, 1.03, 1.0)[0] for _ in range(300)]
    kept = sum(gain.reaches(1.03, 1.0) is True for gain in gains)
    assert kept <= 0.05 * len(gains)


@pytest.mark.parametrize(
    ("gain", "reached"),
    [
        (Gain(1.10, (1.05, 1.15)), True),
        (Gain(1.02, (1.01, 1.04)), False),
        (Gain(1.00, (0.98, 1.02)), False),
        (Gain(1.10, (0.99, 1.25)), None),
    ],
)
def test_a_gain_counts_by_its_interval(gain: Gain, reached: bool | None) -> None:
    assert gain.reaches(1.03, 1.0) is reached


def test_a_network_in_which_nothing_is_worth_it_stays_and_says_so(tmp_path: Path) -> None:
    found = Case(tmp_path, {"plain": 100_000, "first": 100_000}, other=None).place()
    assert found.attempt is FIRST
    assert "tried and left out: nothing in this model can run in int8" in (found.note or "")


@pytest.mark.parametrize(
    ("worth", "note"),
    [
        (None, None),
        (Worth((), 1, 1, 2), None),
        (
            Worth(("a",), 52_000, 50_000, 60_000),
            "none was tried for speed: 1 operators in fp32 promise 2.0 % of the time alone",
        ),
    ],
)
def test_without_a_choice_that_may_gain_enough_nothing_is_tried(
    tmp_path: Path, worth: Worth | None, note: str | None
) -> None:
    case = Case(tmp_path, {"plain": 100_000, "first": 100_000}, worth=worth, spread=0)
    assert case.place() == Placed(FIRST, note)
    assert case.asked == []


def test_outputs_that_do_not_differ_at_all_are_no_loss() -> None:
    assert why_not(FIRST, attempt("other", None), NO_LIMITS) is None
    assert why_not(FIRST, attempt("other", 19.6), NO_LIMITS) is None


def test_where_float_costs_least_nothing_is_tried_and_the_row_says_so(tmp_path: Path) -> None:
    worth = Worth(("a", "b"), 90_000, 60_000, 60_000)
    case = Case(tmp_path, {"plain": 50_000, "first": 100_000}, worth=worth, spread=0)
    assert case.place() == Placed(
        FIRST,
        "none was tried for speed: int8 is 0.50 times as fast (0.50 to 0.50) as fp32, and no operator gains by it",
    )
    assert case.asked == []
