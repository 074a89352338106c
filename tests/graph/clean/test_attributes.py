"""Paddings in numbers and the last axis of a softmax: the same numbers, in one spelling."""

from __future__ import annotations

import pytest
from dialects import Builder, cleaned

from edgepack.graph.clean.view import attribute


@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (4, 3), (2, 1), (1, 2)])
def test_paddings_stand_in_numbers(how: str, size: int, stride: int) -> None:
    built = Builder(0, ("N", 3, 7, 10))
    built.conv(3, 4, size, auto_pad=how, strides=[stride, stride])
    proto, _ = cleaned(built, (2, 3, 7, 10))
    (conv,) = (node for node in proto.graph.node if node.op_type == "Conv")
    assert attribute(conv, "auto_pad", b"NOTSET") == b"NOTSET"


def test_a_free_size_keeps_its_padding() -> None:
    built = Builder(0, ("N", 3, "H", 10))
    built.conv(3, 4, auto_pad="SAME_UPPER")
    proto, _ = cleaned(built, (2, 3, 7, 10))
    assert attribute(proto.graph.node[0], "auto_pad") == b"SAME_UPPER"


@pytest.mark.parametrize(("axis", "left"), [(3, -1), (1, 1)])
def test_the_last_axis_is_counted_from_behind(axis: int, left: int) -> None:
    built = Builder(0)
    built.add("Softmax", axis=axis)
    proto, _ = cleaned(built)
    assert attribute(proto.graph.node[0], "axis") == left
