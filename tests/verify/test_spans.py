"""What fp32's outputs are over all samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.verify.spans import Span, SpanSums

if TYPE_CHECKING:
    from edgepack.specs.types import Array


def span(*pairs: tuple[Array, Array]) -> Span:
    sums = SpanSums(["y"])
    for expected, found in pairs:
        sums.add({"y": expected}, {"y": found})
    (result,) = sums.result()
    return result


def test_what_never_changes_is_constant() -> None:
    value = np.array([1.0, np.nan, -3.0], np.float32)
    found = span((value, value), (value.copy(), value))
    assert found == Span("y", 2, True, 3.0)
    assert not span((value, value), (value + 1e-6, value)).constant


def test_one_sample_is_not_called_constant() -> None:
    assert not span((np.ones(2), np.ones(2))).constant


def test_samples_of_other_shapes_are_not_constant() -> None:
    assert not span((np.ones(2), np.ones(2)), (np.ones(3), np.ones(3))).constant


def test_the_largest_difference_is_over_all_samples() -> None:
    found = span((np.zeros(2), np.array([0.0, 0.5])), (np.full(2, 0.25), np.full(2, np.inf)))
    assert (found.largest, found.max_abs) == (0.25, 0.5)


def test_nearly_zero() -> None:
    assert Span("y", 2, False, 0.003).nearly_zero(1 / 255)
    assert not Span("y", 2, False, 0.5).nearly_zero(1 / 255)
    assert not Span("y", 2, True, 0.0).nearly_zero(1 / 255)
