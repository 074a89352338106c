"""How fastai's transforms resize a picture that is not trained on, as one recipe; stand-ins have their names."""

from __future__ import annotations

from typing import Any

import pytest
from worker_files import worker_file


def step(name: str, **attributes: Any) -> Any:
    """Return a transform of fastai by its class's name; sizes are width and height there."""
    return type(name, (), attributes)()


RESIZE = step("Resize", size=(460, 460), method="crop")
AFFINE = step("Flip", size=224, cp_size=(224, 224))
WITHOUT = step("Flip", size=None, cp_size=None)


@pytest.mark.parametrize(
    ("steps", "recipe"),
    [
        ([RESIZE, WITHOUT], {"resize_short": 460, "crop": [460, 460]}),
        ([step("Resize", size=(64, 32), method="squish")], {"resize": [32, 64]}),
        ([step("Resize", size=(64, 32), method="crop")], None),  # the sides are cut in the ratio of the two
        ([step("Resize", size=(64, 64), method="pad")], None),
        # the whole picture is squeezed with a margin, which is cut off
        (
            [step("RandomResizedCrop", size=(224, 224), val_xtra=0.14, cp_size=(3, 3))],
            {"resize": [256, 256], "crop": [224, 224]},
        ),
        ([RESIZE, AFFINE], {"resize_short": 224, "crop": [224, 224]}),
        (
            [step("RandomResizedCrop", size=(448, 448), val_xtra=0.14), AFFINE],
            {"resize": [256, 256], "crop": [224, 224]},
        ),
        ([step("Resize", size=(60, 40), method="squish"), AFFINE], None),
        ([step("CropPad", size=(64, 64))], None),
        ([], {}),
    ],
)
def test_the_transforms_become_one_resizing(steps: list[Any], recipe: dict[str, Any] | None) -> None:
    assert worker_file("fastai_learner")._geometry(steps) == recipe
