"""float16 models: the sums are float32, what is stored is float16, and every operator has our rules."""

from __future__ import annotations

import re

import numpy as np
import pytest
from codegen_models import feeds, import_model, model, run_ours, run_reference
from half_models import MODELS, STEP, convolutions, halves
from integer_models import assembly
from onnx import helper

from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list(MODELS))
def test_float16_is_as_near_to_float32_as_its_numbers_are_to_each_other(name: str) -> None:
    proto = MODELS[name]()
    inputs = feeds(proto)
    (ours,), lowered = run_ours(halves(proto), inputs, precision="fp16")
    (wanted,) = run_reference(proto, inputs)
    assert np.abs(ours - wanted).max() <= 4 * STEP * np.abs(wanted).max()
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]


def test_a_sum_of_many_small_terms_is_not_lost() -> None:
    """2048 is where float16 numbers are 2 apart: a float16 sum of ones would stop there."""
    terms = 8192
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Mul", ["p", "small"], ["y"])],
        {"x": [3, terms]}, {"w": np.ones((terms, 8), np.float32), "small": np.float32(0.125) * np.ones(1, np.float32)},
        ("y",),
    )  # fmt: skip
    (ours,), _ = run_ours(halves(proto), {"x": np.ones((3, terms), np.float32)}, precision="fp16")
    np.testing.assert_array_equal(ours, np.full((3, 8), terms / 8, np.float32))


def test_the_mean_of_large_values_does_not_overflow() -> None:
    proto = model([helper.make_node("GlobalAveragePool", ["x"], ["y"])], {"x": [1, 8, 16, 16]}, {}, ("y",))
    x = np.full((1, 8, 16, 16), 1000, np.float32)  # the sum is four times float16's largest number
    (ours,), _ = run_ours(halves(proto), {"x": x}, precision="fp16")
    np.testing.assert_array_equal(ours, np.full((1, 8, 1, 1), 1000, np.float32))


def test_products_are_added_by_fmlal_where_there_is_one() -> None:
    proto = halves(convolutions())
    for flags, least in ((("asimdhp", "fphp"), 0), (("asimdfhm", "asimdhp", "fphp"), 8)):
        of = machine("aarch64", flags)
        found = len(re.findall(r"\bfmlal2?\b", assembly(proto, of)))
        assert (found >= least) if least else found == 0
    assert {"window fmlal", "flat fmlal"} <= set(lower(import_model(proto), of, "fp16").rules.values())


def test_weights_are_stored_in_float16_and_added_in_float32() -> None:
    of = machine("aarch64", ("asimddp", "asimdhp", "fphp"))
    lowered = lower(import_model(halves(convolutions())), of, "fp16")
    text = lowered.module.script()
    sums = [line for line in text.splitlines() if 'scope="local"' in line]
    assert sums
    assert not [line for line in sums if "float16" in line]
    assert "float16" in text.split("metadata")[0]
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]
