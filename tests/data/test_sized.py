"""Recipes for pictures of another size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.data.preprocess import picture_shape
from edgepack.data.recipes import check_preprocessing, list_recipes, load_recipe, write_recipe
from edgepack.data.sized import picture_size_of, resized, size_asked, size_changes
from edgepack.errors import ConfigError
from edgepack.specs.data import Preprocessing

PICTURES = [name for name in list_recipes() if load_recipe(name).preprocessing is not None]
SIDES = st.integers(1, 2000)


@pytest.mark.parametrize("name", PICTURES)
@given(size=st.tuples(SIDES, SIDES))
def test_every_recipe_can_make_every_size(name: str, size: tuple[int, int]) -> None:
    made = load_recipe(name).preprocessing
    assert made is not None
    found = resized(made, size)
    check_preprocessing(found, name)
    assert picture_size_of(found) == size
    shape = picture_shape(found)
    assert (shape[1:] if made.layout == "NCHW" else shape[:2]) == size


@pytest.mark.parametrize(
    ("made", "size", "changes"),
    [
        (Preprocessing(resize_short=256, crop=(224, 224)), (448, 448), {"resize_short": "512", "crop": "[448, 448]"}),
        (Preprocessing(resize_short=256, crop=(224, 224)), (112, 112), {"resize_short": "128", "crop": "[112, 112]"}),
        (
            Preprocessing(resize_short=256, crop=(224, 224)),
            (48, 192),
            {"resize_short": "", "resize": "[48, 192]", "crop": ""},
        ),
        (
            Preprocessing(resize=(256, 256), crop=(224, 224)),
            (112, 448),
            {"resize": "[128, 512]", "crop": "[112, 448]"},
        ),
        (Preprocessing(crop=(224, 224)), (100, 50), {"crop": "[100, 50]"}),
        (Preprocessing(), (100, 50), {"resize": "[100, 50]"}),
        (
            Preprocessing(resize=(640, 640), letterbox=True, stride=32),
            (320, 320),
            {"resize": "[320, 320]", "stride": ""},
        ),
        (Preprocessing(resize=(64, 64)), (64, 64), {}),
    ],
)
def test_a_crop_keeps_its_share(made: Preprocessing, size: tuple[int, int], changes: dict[str, str]) -> None:
    assert size_changes(made, size) == changes


@pytest.mark.parametrize("name", ["imagenet", "yolov8", "mobilenet-v1", "yunet"])
def test_a_written_recipe_makes_what_was_asked_for(name: str, tmp_path: Path) -> None:
    made = load_recipe(name).preprocessing
    assert made is not None
    for size in ((320, 320), (96, 160)):
        write_recipe(tmp_path / "own.toml", name, size=size, force=True)
        assert load_recipe(str(tmp_path / "own.toml")).preprocessing == resized(made, size)


def test_a_recipe_of_no_pictures_has_no_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not for pictures"):
        write_recipe(tmp_path / "own.toml", "tabular", size=(320, 320))
    assert not (tmp_path / "own.toml").exists()


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ({"x": (1, 3, 320, 240)}, (320, 240)),
        ({"x": ("N", 3, 320, 240), "other": (1, 16)}, (320, 240)),
        ({"x": ("N", 3, "H", 240)}, None),
        ({"x": (1, 3, 320, 240), "y": (1, 3, 64, 64)}, None),
        ({"x": (1, 320, 240, 3)}, None),  # another layout than the recipe's
        ({"x": (1, 1, 320, 240)}, None),
        ({"x": (1, 3, 320)}, None),
        ({}, None),
    ],
)
def test_the_size_that_shapes_state(shapes: dict, size: tuple[int, int] | None) -> None:
    assert size_asked(Preprocessing(), shapes) == size
    if shapes == {"x": (1, 320, 240, 3)}:
        assert size_asked(Preprocessing(layout="NHWC"), shapes) == (320, 240)


def test_a_recipe_follows_the_shape_that_is_given() -> None:
    found = load_recipe("imagenet", {"x": (1, 3, 112, 112)}).preprocessing
    assert found is not None
    assert (found.resize_short, found.crop) == (128, (112, 112))
    assert load_recipe("imagenet", {"x": (1, 3, 224, 224)}) == load_recipe("imagenet")
    assert load_recipe("tabular", {"x": (1, 3, 112, 112)}) == load_recipe("tabular")
