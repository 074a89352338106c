"""Rules that conflict are refused with what to write instead."""

from __future__ import annotations

import dataclasses

import pytest

from edgepack.errors import ConfigError
from edgepack.quantize.rules import check_rules, table_of
from edgepack.specs.target import QuantizationRules

TENSORRT = QuantizationRules(engine="tensorrt", activation_type="int8", activation_symmetric=True, quantize_bias=False)


def test_unknown_backend_is_refused_with_the_near_name() -> None:
    with pytest.raises(ConfigError) as error:
        table_of("openvin")
    assert "openvino" in error.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_type", "uint8"),
        ("activation_symmetric", False),
        ("weight_type", "uint8"),
        ("weight_symmetric", False),
        ("quantize_bias", True),
    ],
)
def test_what_tensorrt_refuses_is_refused_before(key: str, value: object) -> None:
    changed = {key: value} if key != "weight_symmetric" else {key: value, "per_channel": False}
    with pytest.raises(ConfigError) as error:
        check_rules(dataclasses.replace(TENSORRT, **changed))  # type: ignore[arg-type]
    assert key in error.value.message
    assert f"write {key} =" in error.value.hint


def test_tensorrt_rules_are_accepted() -> None:
    assert check_rules(TENSORRT) == table_of("tensorrt")


def test_zero_points_per_channel_are_refused() -> None:
    with pytest.raises(ConfigError, match="per_channel"):
        check_rules(QuantizationRules(weight_symmetric=False, per_channel=True))


def test_unknown_operator_is_refused_with_the_near_name() -> None:
    with pytest.raises(ConfigError) as error:
        check_rules(QuantizationRules(operators=("Conv", "Matmul")))
    assert "MatMul" in error.value.hint


def test_operators_of_the_rules_replace_the_default_list() -> None:
    assert check_rules(QuantizationRules(operators=("Conv",))).operators == {"Conv"}
