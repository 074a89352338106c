import dataclasses

import numpy as np
import pytest

from edgepack.data.recipes import list_recipes, load_recipe
from edgepack.lint.encodings import PLAIN, USUAL, alternatives, encoding_of, guess_encoding

# What one training program alone does, too rare to be tried on everybody's samples: a mean and std of its own, or those
# of red applied to blue.
OF_ONE_PROGRAM = ("centernet", "pp-ocr-detection")


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_is_a_usual_encoding(name):
    made = load_recipe(name).preprocessing
    if made is None or made.color == "L":
        pytest.skip("not a recipe for colour pictures")
    found = encoding_of(made)
    assert (found in USUAL) != (name in OF_ONE_PROGRAM)
    assert found.bgr == (made.color == "BGR")


@pytest.mark.parametrize("encoding", USUAL, ids=lambda e: e.title)
def test_an_encoding_is_undone_and_told_from_its_values(encoding):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 30, 3)).astype(np.float64)
    pixels[0, 0], pixels[0, 1] = 0, 255
    values = encoding.encode(pixels)
    np.testing.assert_allclose(encoding.decode(values), pixels, atol=1e-3)
    told = guess_encoding(values.min(axis=(0, 1)).astype(np.float64), values.max(axis=(0, 1)).astype(np.float64))
    assert told is not None
    assert told.name == encoding.name
    if len(set(encoding.mean)) > 1:
        assert told.bgr == encoding.bgr


def test_values_of_no_usual_encoding_are_not_guessed_at():
    assert guess_encoding(np.full(3, -80.0), np.full(3, 900.0)) is None
    assert guess_encoding(np.full(3, 0.2), np.full(3, 0.3)) is None


def test_no_two_alternatives_are_near_each_other():
    by_name = {e.name: e for e in PLAIN}
    assert by_name["ImageNet mean and std"].near(by_name["CIFAR-10 mean and std"])
    assert by_name["-1 to 1"].near(by_name["(x - 127) / 128"])
    assert not by_name["-1 to 1"].near(by_name["ImageNet mean and std"])
    assert not by_name["-1 to 1"].near(dataclasses.replace(by_name["-1 to 1"], bgr=True))
    for present in USUAL:
        found = (present, *alternatives(present))
        assert len(found) == 10
        assert not any(one.near(other) for i, one in enumerate(found) for other in found[:i])
