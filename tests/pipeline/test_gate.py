"""The accuracy gate: fewest and cheapest operators back to fp32, on made-up accuracies."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess

from edgepack.errors import EdgepackError
from edgepack.pipeline.gate import TRIALS, Attempt, GateOutcome, as_trial, meet_gate
from edgepack.pipeline.limits import Limits
from edgepack.quantize.culprits import Culprit, Culprits
from edgepack.quantize.sensitivity import Sensitivities
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import Accuracy, ChangedAnswers, OutputDistance, Verification
from edgepack.specs.target import QuantizationRules
from edgepack.verify.closeness import Closeness
from edgepack.verify.evaluate import Evaluation
from edgepack.verify.parts import Balance

MODEL = OnnxModel(Path("m.onnx"), "0" * 64, 1, 17, (), ())
COMPILED = CompiledModel("onnxruntime", "int8", Path("x"), "m.onnx", ("m.onnx",), (), (), {})
CLOSE = Closeness(40, 30.0, None, 0.99, None, None, None)


def evaluation(drop: float, *, passed: bool = True) -> Evaluation:
    output = OutputDistance("y", 30.0, 0.99, 0.1, 10.0, passed)
    accuracy = Accuracy("top1", 40, 0.9, 0.9 - drop, drop, (0.0, 0.1))
    return Evaluation(Verification(passed, (output,), 2, "onnxruntime", {}, ()), accuracy, None, CLOSE)


def attempt(drop: float) -> Attempt:
    return Attempt(MODEL, MODEL, COMPILED, evaluation(drop))


class Model:
    """Five layers; the drop is the sum of what the layers that are still int8 cost.

    ``pairs`` are those that keep a tensor between them in int8: what they cost goes with both alone.
    """

    def __init__(
        self,
        tmp_path: Path,
        costs: dict[str, float],
        max_drop: float,
        time: Any = None,
        pairs: dict[tuple[str, ...], float] | None = None,
    ) -> None:
        self.pairs = pairs or {}
        self.costs, self.left, self.titles = costs, [], []
        macs = {name: 100 * (number + 1) for number, name in enumerate(costs)}
        noises = Sensitivities(costs, macs)
        groups = tuple(Culprit("t", nodes, cost, 100) for nodes, cost in self.pairs.items())
        worst = Culprits((*groups, Culprit("u", ("b[0]", "c"), None, 100)), macs, 1.0)
        self.runner: Any = InProcess(tmp_path, sensitivity=lambda *_: noises, find_culprits=lambda *_: worst)
        rules = QuantizationRules(leave=("Softmax",))
        arguments: Any = (
            self.runner,
            MODEL,
            None,
            rules,
            None,
            attempt(self.drop(set())),
            Limits(max_drop),
            self.build,
            time,
        )
        self.outcome: GateOutcome = meet_gate(*arguments)

    def build(self, rules: QuantizationRules, title: str) -> Attempt:
        assert rules.leave[0] == "Softmax"  # what the target leaves stays left
        left = {name.replace("[[]", "[") for name in rules.leave[1:]}
        self.left.append(left)
        self.titles.append(title)
        return attempt(self.drop(left))

    def drop(self, left: set[str]) -> float:
        whole = sum(cost for pair, cost in self.pairs.items() if not set(pair) <= left)
        return whole + sum(cost for name, cost in self.costs.items() if name not in left)


COSTS = {"a": 0.001, "b[0]": 0.05, "c": 0.002, "d": 0.02, "e": 0.0}


def test_the_worst_layers_go_back_until_the_drop_allows_it(tmp_path: Path) -> None:
    model = Model(tmp_path, COSTS, 0.005)
    assert model.outcome.attempt is not None
    assert model.outcome.attempt.evaluation.accuracy is not None
    assert model.outcome.attempt.evaluation.accuracy.drop <= 0.005
    assert set(model.outcome.best.left) == {"b[0]", "d"}
    assert model.outcome.best.passed
    assert f"{len(model.left[-1])} operators in fp32" in model.titles


def test_layers_that_bring_nothing_alone_go_back_together(tmp_path: Path) -> None:
    pairs = {("a", "c"): 0.3}
    model = Model(tmp_path, dict.fromkeys(COSTS, 0.001), 0.01, pairs=pairs)
    assert model.outcome.best.passed
    assert set(model.outcome.best.left) == {"a", "c"}
    assert len(model.left) == 1


def test_no_more_models_are_built_than_allowed(tmp_path: Path) -> None:
    model = Model(tmp_path, {f"n{i}": 0.01 for i in range(200)}, 0.0)
    assert len(model.left) <= TRIALS
    assert len(model.outcome.trials) == len(model.left) + 1


def test_a_gate_that_nothing_passes_has_no_attempt_but_a_best(tmp_path: Path) -> None:
    model = Model(tmp_path, COSTS, -1.0)
    assert model.outcome.attempt is None
    assert not model.outcome.best.passed
    assert model.outcome.best.drop == min(trial.drop for trial in model.outcome.trials)


def test_shares_are_of_all_multiply_adds(tmp_path: Path) -> None:
    model = Model(tmp_path, COSTS, 0.005)
    shares = {trial.left: trial.macs_share for trial in model.outcome.trials}
    assert shares[()] == 0.0
    assert shares[model.outcome.best.left] == pytest.approx((200 + 400) / 1500)


def test_latencies_are_those_of_the_models_that_were_tried(tmp_path: Path) -> None:
    asked: list[int] = []

    def time(attempts: tuple[Attempt, ...], rounds: int) -> list[list[int]]:
        asked.append(len(attempts))
        slow = [9000] * len(attempts)  # one disturbed round is not what is told
        return [slow, *([1000 + n for n in range(len(attempts))] for _ in range(rounds - 1))]

    model = Model(tmp_path, COSTS, 0.005, time)
    assert asked == [len(model.outcome.trials)]
    assert [trial.p50_ns for trial in model.outcome.trials] == [1000 + n for n in range(asked[0])]
    assert any(trial.front for trial in model.outcome.trials)


# --- one trial --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drop", "max_drop", "numerics", "passed"),
    [
        (0.01, 0.01, True, True),
        (0.99 - 0.98, 0.01, True, True),
        (0.011, 0.01, True, False),
        (-0.5, 0.0, True, True),
        (0.0, 0.01, False, False),
    ],
)
def test_a_trial_passes_by_drop_and_numerics(drop: float, max_drop: float, numerics: bool, passed: bool) -> None:
    found = as_trial(("a",), evaluation(drop, passed=numerics), 0.25, Limits(max_drop))
    assert found.passed == passed
    assert (found.left, found.metric, found.drop, found.sqnr_db, found.macs_share) == (("a",), "top1", drop, 30.0, 0.25)


def test_a_trial_has_the_sqnr_that_a_row_is_judged_by() -> None:
    balanced = dataclasses.replace(evaluation(0.0), balance=Balance(40, 12.0, None, "scores", 12.0))
    assert as_trial((), balanced, 0.0, Limits()).sqnr_db == 12.0


def test_without_accuracy_there_is_nothing_to_hold() -> None:
    unknown = dataclasses.replace(evaluation(0.0), accuracy=None, accuracy_reason="no labels were given")
    with pytest.raises(EdgepackError, match="cannot be checked: no labels were given"):
        as_trial((), unknown, 0.0, Limits(0.01))


def change(changed: int) -> Evaluation:
    return dataclasses.replace(
        evaluation(0.0), change=ChangedAnswers("boxes", 50, changed, 10, (0.0, 1.0)), accuracy=None
    )


@pytest.mark.parametrize(("changed", "limits", "passed"), [
    (2, Limits(max_change=0.04), True),
    (3, Limits(max_change=0.04), False),
    (50, Limits(), True),
])  # fmt: skip
def test_a_trial_passes_by_the_answers_that_change(changed: int, limits: Limits, passed: bool) -> None:
    found = as_trial((), change(changed), 0.0, limits)
    assert found.passed == passed
    assert (found.metric, found.value, found.drop) == ("agreement", 1 - changed / 50, changed / 50)
    assert found.change == changed / 50


def test_both_limits_must_hold_and_the_metric_is_shown() -> None:
    both = dataclasses.replace(change(3), accuracy=evaluation(0.02).accuracy)
    limits = Limits(0.02, 0.06), Limits(0.01, 0.06), Limits(0.02, 0.05)
    assert [as_trial((), both, 0.0, one).passed for one in limits] == [True, False, False]
    assert as_trial((), both, 0.0, limits[0]).metric == "top1"


def test_a_limit_on_answers_that_are_not_known_cannot_hold() -> None:
    unknown = dataclasses.replace(evaluation(0.0), change_reason="they are numbers")
    with pytest.raises(EdgepackError, match="--max-change cannot be checked: they are numbers"):
        as_trial((), unknown, 0.0, Limits(max_change=0.1))
