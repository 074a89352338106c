"""Which outputs of several are read; what is suggested for them is in ``test_suggest.py``."""

from __future__ import annotations

import pytest

from edgepack.data.suggest_outputs import BoxesBesideMasks, boxes_beside_masks, one_by_one

MAPS = (1, 32, 160, 160)


@pytest.mark.parametrize(
    ("rows", "shape"),
    [((1, 116, 8400), (1, 84, 8400)), ((1, 25200, 117), (1, 25200, 85)), (("n", 37, 8400), ("n", 5, 8400))],
)
def test_the_weights_of_masks_are_no_classes(rows: tuple, shape: tuple) -> None:
    assert boxes_beside_masks({"boxes": rows, "maps": MAPS}) == BoxesBesideMasks("boxes", shape, 32)
    assert boxes_beside_masks({"maps": MAPS, "boxes": rows}) == BoxesBesideMasks("boxes", shape, 32)


@pytest.mark.parametrize(
    "outputs",
    [
        {"boxes": (1, 36, 8400), "maps": MAPS},  # 4 values are left, and no class
        {"boxes": (1, "a", 8400), "maps": MAPS},
        {"boxes": (1, 116, 8400), "maps": (1, "m", 160, 160)},
        {"boxes": (1, 116, 8400), "maps": (1, 512, 160, 160)},
        {"boxes": (1, 116, 8400)},
        {"boxes": (1, 116, 8400), "maps": MAPS, "more": (1, 3)},
        {"boxes": (1, 10, 4), "classes": (1, 10)},
        {"out": MAPS, "aux": MAPS},
        {},
    ],
)
def test_other_outputs_are_none_of_that_kind(outputs: dict) -> None:
    assert boxes_beside_masks(outputs) is None


def test_auxiliary_outputs_come_last() -> None:
    assert [name for name, _ in one_by_one({"Aux": MAPS, "out": MAPS, "d1": MAPS})] == ["out", "d1", "Aux"]
    assert one_by_one({"out": MAPS}) == ()
