"""Seeded models of every operator through every engine in fp32 and int8, against ONNX Runtime without optimizations.

Each agrees on all inputs, also extreme ones, or is refused in words, by ``check``, by the engine or by a build's own
verification; else it stands on the list below with its reason. ``make differential`` runs 300 models.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from installed_engines import skip_without

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
ENGINES = ("onnxruntime", "openvino", "tvm")


@dataclass(frozen=True)
class Listed:
    """Operators whose answers to some inputs are other ones in an engine, and why that stays so."""

    engine: str
    operators: tuple[str, ...]
    inputs: tuple[str, ...]
    reason: str


_ALL_EQUAL = "of equal values the variance is rounding, to which ONNX Runtime adds a number before it divides"
_OVERFLOW = "infinite times 0 is NaN, where ONNX Runtime compares first"
_UNDEFINED = "ONNX does not say which whole number stands for one that is too large, or for an infinity"
_LOWEST = "ONNX Runtime begins with the lowest finite number, others with an infinity"
_NONE_LARGER = "no value is beyond the finite number that TVM begins with: the index is -1"
_NEAR_ZERO = "logarithms near 1 and sums near 0 are as exact as numbers near 1"
_ZEROS = "a Mean of zeros below zero is one above it, so that one over it is infinite with the other sign"
_QUOTIENT = "a remainder is a - b * trunc(a / b), which keeps no digit of it where the quotient is beyond 2^24"
_SPREAD = "the scale of an infinity is infinite or NaN: ONNX does not say which whole numbers come of it"
_DENORMAL = "numbers below 1.2e-38 are 0 to OpenVINO, so that one over them is infinite"
_TAIL = "far out, where ONNX Runtime has 0, an approximation is off by 1e-7 of the input, which is large itself"
LISTED = (
    *(
        Listed(engine, ("DynamicQuantizeLinear",), ("zeros",), "the scale of zeros is 0; ONNX Runtime takes 1")
        for engine in ("openvino", "tvm")
    ),
    *(
        Listed(engine, ("MeanVarianceNormalization",), ("zeros", "tiny", "huge"), _ALL_EQUAL)
        for engine in ("openvino", "tvm")
    ),
    *(Listed(engine, ("InstanceNormalization",), ("large",), _ALL_EQUAL) for engine in ("openvino", "tvm")),
    *(Listed(engine, ("ThresholdedRelu",), ("large", "infinite"), _OVERFLOW) for engine in ("openvino", "tvm")),
    *(Listed(engine, ("Cast",), ("large", "huge", "infinite"), _UNDEFINED) for engine in ("openvino", "tvm")),
    *(Listed(engine, ("MaxPool",), ("infinite",), _LOWEST) for engine in ("openvino", "tvm")),
    Listed("openvino", ("ReduceMin", "ReduceMax"), ("infinite", "large", "zeros"), _LOWEST),
    Listed("openvino", ("Reciprocal",), ("tiny",), _DENORMAL),
    Listed("openvino", ("ReduceSum",), ("zeros",), "over all axes of nothing ONNX Runtime gives no number, not one"),
    Listed(
        "openvino", ("LSTM",), ("infinite",), "of infinities of both signs it is NaN, where ONNX Runtime has numbers"
    ),
    *(Listed(engine, ("Reciprocal",), ("ties",), _ZEROS) for engine in ("openvino", "tvm")),
    Listed(
        "openvino",
        ("LpNormalization",),
        ("zeros", "tiny"),
        "OpenVINO divides by a norm that is 0; ONNX Runtime does not",
    ),
    Listed("openvino", ("Mod",), ("large", "huge"), _QUOTIENT),
    *(Listed(engine, ("DynamicQuantizeLinear",), ("infinite",), _SPREAD) for engine in ("openvino", "tvm")),
    Listed("tvm", ("ArgMax", "ArgMin"), ("huge", "infinite"), _NONE_LARGER),
    Listed("tvm", ("Clip",), ("huge", "infinite"), "a bound that is left out is the largest finite number to TVM"),
    Listed("tvm", ("Atanh", "ReduceLogSum"), ("tiny",), _NEAR_ZERO),
    Listed("tvm", ("FastGelu", "Gelu"), ("large",), _TAIL),
    Listed("tvm", ("TopK",), ("batch of 2",), "int8: values that are equal but for rounding come in another order"),
)


@dataclass(frozen=True)
class Outcome:
    """All ways, and which of them are neither right, nor refused, nor listed."""

    ways: tuple[dict[str, Any], ...]

    @property
    def wrong(self) -> list[str]:
        return [_text(way) for way in self.ways if way["outcome"] not in ("agrees", "refused") and not _reason(way)]


def _reason(way: dict[str, Any]) -> str | None:
    found = (
        listed.reason
        for listed in LISTED
        if way["outcome"] == "differs"
        and listed.engine == way["engine"]
        and set(listed.operators) & ({way["culprit"]} if way["culprit"] else set(way["operators"]))
        and way["inputs"] in listed.inputs
    )
    return next(found, None)


def _text(way: dict[str, Any]) -> str:
    where = f"{way['engine']} {way['precision']}, {way['inputs']}"
    what = f"{way['outcome']} {way['culprit']} {way['words']}"
    return f"seed {way['seed']} ({', '.join(way['operators'])}) in {where}: {what}"


def run(seeds: range) -> Outcome:
    """Run the seeds in a process of their own; one that an engine crashes or hangs goes on behind that model."""
    ways: list[dict[str, Any]] = []
    left = list(seeds)
    while left:
        command = [sys.executable, "-W", "ignore", str(HELPERS / "differential.py"), *map(str, left)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as worker:
            last: list[str] = []
            assert worker.stdout is not None
            for line in worker.stdout:
                kind, _, rest = line.partition(" ")
                if kind == "way":
                    ways.append(json.loads(rest))
                elif kind == "next":
                    last = rest.split(" ")
                elif kind == "done":
                    left.remove(int(rest))
        if left:
            assert last, f"it did not begin: {worker.returncode}"
            seed, engine, precision = last
            what = {"outcome": "crashed", "words": f"exit code {worker.returncode}", "operators": [], "culprit": ""}
            ways.append({"seed": int(seed), "engine": engine, "precision": precision, "inputs": "", **what})
            left.remove(int(seed))
    return Outcome(tuple(ways))


def test_every_engine_agrees_or_refuses_or_is_listed(request: pytest.FixtureRequest) -> None:
    for name in ENGINES:
        skip_without(name)
    count = int(request.config.getoption("--models"))
    first = int(request.config.getoption("--first-model"))
    began = time.monotonic()
    found = run(range(first, first + count))
    table = Counter((w["engine"] or "edgepack", w["precision"], w["outcome"]) for w in found.ways)
    print(f"\n{count} models from seed {first} on in {time.monotonic() - began:.0f} s")
    for (engine, precision, outcome), number in sorted(table.items()):
        print(f"{engine:12} {precision:5} {outcome:8} {number}")
    for way in found.ways:
        if reason := _reason(way):
            print(f"listed: seed {way['seed']} {way['culprit']} in {way['engine']}, {way['inputs']}: {reason}")
    print(*(f"wrong: {words}" for words in found.wrong), sep="\n")  # pytest cuts a long list
    assert found.wrong == []
    right = sum(number for (_, _, outcome), number in table.items() if outcome == "agrees")
    assert right > len(found.ways) / 3, "most are refused: this compares too little"


def test_a_seed_whose_first_operator_seldom_finds_its_input_has_a_model() -> None:
    """ConvInteger reads pictures of 8-bit integers, which other operators seldom make: 300 attempts made none here."""
    from operator_models import make

    assert "ConvInteger" in make(73104).operators


def test_a_wrong_answer_is_noticed(tmp_path: Path) -> None:
    """The comparison itself, on an answer that is off by a hundredth, of another type, and by a NaN."""
    import numpy as np
    from differential import Answers
    from operator_models import make

    model = make(0)
    answers = Answers(model)
    name, right = next(iter(answers.answers["batch of 2"].items()))
    other = {key: value for key, value in answers.answers["batch of 2"].items() if key != name}
    assert answers.problem("batch of 2", {name: right, **other}, "fp32") is None
    for wrong in (right * np.float32(1.01), right.astype(np.float64), np.where(right == right.max(), np.nan, right)):
        assert answers.problem("batch of 2", {name: wrong, **other}, "fp32") is not None
