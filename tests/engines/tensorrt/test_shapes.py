"""The shapes that an engine is built for."""

from __future__ import annotations

import pytest

from edgepack.engines.tensorrt.shapes import input_shapes
from edgepack.errors import CompileError
from edgepack.specs.model import TensorSpec


def test_free_axes_get_their_limits() -> None:
    found = input_shapes((TensorSpec("ids", "int64", ("N", "length")), TensorSpec("image", "float32", (1, 3, 4, 4))))
    assert (found[0].minimum, found[0].optimum, found[0].maximum) == ((1, 1), (1, 128), (8, 512))
    assert found[1].is_static
    with pytest.raises(CompileError, match="how many dimensions"):
        input_shapes((TensorSpec("x", "float32", ("...",)),))
