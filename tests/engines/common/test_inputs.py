"""Sizes of free dimensions: those of one name are one size, those without a name are not."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.engines.common.inputs import check_feeds
from edgepack.errors import DataError
from edgepack.specs.model import UNNAMED, TensorSpec


def test_dimensions_without_a_name_are_not_one_size() -> None:
    spec = TensorSpec("x", "float32", (UNNAMED, 3, UNNAMED, UNNAMED))
    check_feeds({"x": np.zeros((1, 3, 8, 12), np.float32)}, (spec,))
    with pytest.raises(DataError, match="not 4"):
        check_feeds({"x": np.zeros((1, 3, 8), np.float32)}, (spec,))


def test_dimensions_of_one_name_are_one_size() -> None:
    spec = TensorSpec("x", "float32", ("N", 3, "size", "size"))
    check_feeds({"x": np.zeros((1, 3, 8, 8), np.float32)}, (spec,))
    with pytest.raises(DataError, match="has size = 12, but 'x' has size = 8"):
        check_feeds({"x": np.zeros((1, 3, 8, 12), np.float32)}, (spec,))
