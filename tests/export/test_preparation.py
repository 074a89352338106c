"""A worker's recipe for pictures is taken over only where it does what the source's own code did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worker_files import worker_file

from edgepack.data.preprocess import prepare_image
from edgepack.export.preparation import PICTURES, checked_preparation
from edgepack.specs.data import Preprocessing
from edgepack.specs.source import SourceFacts

RECIPE = Preprocessing(
    resize_short=72, crop=(64, 64), interpolation="bicubic", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25)
)


def facts(recipe: Preprocessing) -> SourceFacts:
    return SourceFacts("Toy", "net", {}, "3.11", preprocessing=recipe)


def write(folder: Path, recipe: Preprocessing, noise: float = 0.0) -> None:
    """Write what a source would that prepares pictures by ``recipe``, up to some levels of 255."""
    arrays = {}
    random = np.random.default_rng(0)
    for number, picture in enumerate(worker_file("probe_pictures").pictures()):
        made = prepare_image(Image.fromarray(picture), recipe)[0]
        levels = np.asarray(recipe.std).reshape(-1, 1, 1) / recipe.scale
        arrays[f"{number}/in/picture"] = picture
        arrays[f"{number}/out/prepared"] = made + random.normal(size=made.shape) * noise / levels
    np.savez(folder / PICTURES, **arrays)


def test_the_recipe_that_the_source_follows_is_kept(tmp_path: Path) -> None:
    write(tmp_path, RECIPE, noise=0.7)  # as torchvision rounds
    assert checked_preparation(tmp_path, facts(RECIPE)) == facts(RECIPE)


@pytest.mark.parametrize(
    "changed",
    [
        {"color": "BGR", "mean": (0.3, 0.4, 0.5), "std": (0.25, 0.3, 0.2)},
        {"resize_short": 64},
        {"resize_short": None, "resize": (64, 64), "crop": None},
        {"resize_short": 80},
        {"mean": (0.0, 0.0, 0.0)},
        {"scale": 1.0},
    ],
    ids=str,
)
def test_another_one_is_left_out_and_said(changed: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path, RECIPE)
    found = checked_preparation(tmp_path, facts(replace(RECIPE, **changed)))  # type: ignore[arg-type]
    assert found.preprocessing is None
    (note,) = found.notes
    assert "levels" in note
    assert "--recipe" in note


def test_one_that_comes_near_is_kept_and_said(tmp_path: Path) -> None:
    write(tmp_path, RECIPE)
    near = replace(RECIPE, interpolation="nearest")
    found = checked_preparation(tmp_path, facts(near))
    assert found.preprocessing == near
    (note,) = found.notes
    assert "comes near" in note


def changed_file(folder: Path, name: str, value: object) -> None:
    write(folder, RECIPE)
    np.savez(folder / PICTURES, **{**np.load(folder / PICTURES), f"0/{name}": value})


def test_a_picture_that_is_none_is_refused(tmp_path: Path) -> None:
    changed_file(tmp_path, "in/picture", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="none"):
        checked_preparation(tmp_path, facts(RECIPE))


def test_a_source_that_makes_no_numbers_is_not_followed(tmp_path: Path) -> None:
    changed_file(tmp_path, "out/prepared", np.full((3, 64, 64), np.nan, np.float32))
    assert checked_preparation(tmp_path, facts(RECIPE)).preprocessing is None


@pytest.mark.parametrize("changed", [{"crop": (60, 60)}, {"layout": "NHWC"}, {"crop": (300, 300)}], ids=str)
def test_one_of_another_size_is_left_out(changed: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path, RECIPE)
    assert checked_preparation(tmp_path, facts(replace(RECIPE, **changed))).preprocessing is None  # type: ignore[arg-type]


def test_a_source_that_shows_no_pictures_is_believed(tmp_path: Path) -> None:
    assert checked_preparation(tmp_path, facts(RECIPE)) == facts(RECIPE)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_the_arithmetic_is_found_by_flat_colours(color: str) -> None:
    recipe = replace(RECIPE, color=color)
    found = worker_file("probe_pictures").arithmetic(lambda p: prepare_image(Image.fromarray(p), recipe)[0])
    assert found["color"] == color
    assert found["scale"] == 1 / 255
    np.testing.assert_allclose(found["mean"], recipe.mean, atol=1e-6)
    np.testing.assert_allclose(found["std"], recipe.std, atol=1e-6)
