"""Shapes as messages show them."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.base.shapes import by_input, show_shape
from edgepack.data.checks import check_shape
from edgepack.engines.common.inputs import check_feeds
from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import UNNAMED, TensorSpec


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (48, "48"),
        ("N", "N"),
        ("batch", "batch"),
        ("image_width", "image_width"),
        ("seq-len", "seq-len"),
        ("...", "..."),
        (UNNAMED, "any"),
        ("", "any"),
        ("None", "any"),
        ("DynamicDimension.0", "any"),
        ("unk__6", "any"),
        ("s77", "any"),
        ("Reshape_470_o0__d2", "any"),
        ("floor(height/2)", "any"),
        ("x" * 200, "any"),
    ],
)
def test_a_size_that_an_exporter_made_up_is_any(size: int | str, shown: str) -> None:
    assert show_shape((1, size)) == f"[1, {shown}]"


def test_messages_on_samples_and_inputs_say_any() -> None:
    spec = TensorSpec("x", "float32", ("DynamicDimension.0", 3, 48, "DynamicDimension.1"))
    with pytest.raises(DataError, match=r"is \[any, 3, 48, any\]"):
        check_shape((1, 3, 40, 3200), spec, "a.png")
    with pytest.raises(DataError, match=r"not \[any, 3, 48, any\]"):
        check_feeds({"x": np.zeros((1, 3, 40, 320), np.float32)}, (spec,))


def test_a_shape_without_a_name_is_the_only_input_s() -> None:
    assert by_input({"": (1, 3)}, ("image",)) == by_input({"image": (1, 3)}, ("image",)) == {"image": (1, 3)}
    assert by_input({"b": ("N", 4)}, ("a", "b")) == {"b": ("N", 4)}
    with pytest.raises(ConfigError, match="--shape 1x3: the model has 2 inputs") as caught:
        by_input({"": (1, 3)}, ("ids", "mask"))
    assert caught.value.hint == "known: ids, mask; write --shape ids=..."
