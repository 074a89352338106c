"""How the inputs of a module are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.errors import ConfigError, DataError, ModelError
from edgepack.export.shapes import Arguments, KnownInput, as_specs, find_known, forward_arguments
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

IMAGE = Arguments(("image",), ("scale",), anything=False)
ANY = Arguments((), (), anything=True)
X = KnownInput(("N", 3), "float32")


def array(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def npz(tmp_path: Path, **arrays: np.ndarray) -> SampleSet:
    np.savez(tmp_path / "data.npz", **arrays)
    return SampleSet(str(tmp_path / "data.npz"), "npz", "0" * 64, (0,), False)


def pictures(**changes: Any) -> SampleSet:
    return SampleSet("folder", "pictures", "0" * 64, (0,), False, preprocessing=Preprocessing(**changes))


def test_arguments_are_those_of_forward() -> None:
    def forward(image: Any, scale: Any = None, *, mask: Any, **others: Any) -> None: ...

    assert forward_arguments(forward) == Arguments(("image", "mask"), ("scale",), anything=True)
    assert forward_arguments(lambda x: x) == Arguments(("x",), (), anything=False)


@pytest.mark.parametrize(
    ("examples", "known"),
    [
        (array(1, 3), {"image": X}),
        ((array(1, 3), array(2)), {"image": X, "scale": KnownInput(("N",), "float32")}),
        ({"image": array(4, 3, dtype="int64")}, {"image": KnownInput(("N", 3), "int64")}),
        ({"scale": array(), "image": array(1, 3)}, {"image": X, "scale": KnownInput((), "float32")}),
    ],
)
def test_examples_are_a_tensor_several_or_named(examples: Any, known: dict[str, KnownInput]) -> None:
    found = find_known(IMAGE, None, {}, examples)
    assert found == known
    assert list(found) == list(known)  # in the order of the arguments


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ((array(1, 3), array(1), array(1)), "example_inputs has 3 values, but forward takes 2"),
        ({"imag": array(1, 3)}, "example_inputs: the model has no input 'imag'"),
        ({"image": "text"}, "'image' is a str, not a tensor"),
        ([5], "'image' is a int, not a tensor"),
    ],
)
def test_examples_that_do_not_fit_are_refused(examples: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_known(IMAGE, None, {}, examples)


def test_what_is_asked_for_goes_before_samples_and_these_before_examples(tmp_path: Path) -> None:
    samples = npz(tmp_path, image=array(9, 5), labels=array(9))
    assert find_known(IMAGE, samples, {}, array(1, 3))["image"] == KnownInput(("N", 5), "float32")
    found = find_known(IMAGE, samples, {"image": (1, 7)}, array(1, 3))
    assert found == {"image": KnownInput((1, 7), None)}


def test_the_only_input_needs_no_name() -> None:
    assert find_known(IMAGE, None, {"": ("N", 3)}, None) == {"image": KnownInput(("N", 3), None)}


@pytest.mark.parametrize("shape", [(), (0, 3), (1, -3)])
def test_a_shape_without_values_is_none(shape: Any) -> None:
    with pytest.raises(ConfigError, match="is not a shape"):
        find_known(IMAGE, None, {"image": shape}, None)


def test_what_is_not_known_says_how_to_tell_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the shape of the input 'image' is not known") as caught:
        find_known(IMAGE, None, {"scale": (1,)}, None)
    assert "--shape NAME=Nx3x224x224" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="the shape of the model's inputs is not known"):
        find_known(ANY, npz(tmp_path, labels=array(3)), {}, None)
    with pytest.raises(ModelError, match="takes no inputs"):
        find_known(Arguments((), (), anything=False), None, {"x": (1,)}, None)


def test_arrays_of_others_and_labels_are_no_inputs(tmp_path: Path) -> None:
    samples = npz(tmp_path, image=array(9, 3), other=array(9, 4), labels=array(9), number=array())
    assert find_known(IMAGE, samples, {}, None) == {"image": X}
    assert set(find_known(ANY, samples, {}, None)) == {"image", "other"}


def test_headers_are_read_and_not_the_arrays(tmp_path: Path) -> None:
    samples = npz(tmp_path, image=array(2, 3, dtype="uint8"))
    assert find_known(IMAGE, samples, {}, None)["image"].dtype == "uint8"
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="cannot read"):
        find_known(IMAGE, samples, {}, None)


@pytest.mark.parametrize(
    ("preprocessing", "known"),
    [
        ({"crop": (8, 9)}, KnownInput(("N", 3, 8, 9), "float32")),
        ({"crop": (8, 9), "layout": "NHWC", "dtype": "uint8"}, KnownInput(("N", 8, 9, 3), "uint8")),
    ],
)
def test_pictures_have_the_shape_that_the_recipe_makes(preprocessing: Any, known: KnownInput) -> None:
    assert find_known(IMAGE, pictures(**preprocessing), {}, None) == {"image": known}


def test_pictures_of_any_size_and_several_inputs_tell_nothing() -> None:
    with pytest.raises(ConfigError):
        find_known(IMAGE, pictures(), {}, None)
    with pytest.raises(ConfigError):
        find_known(Arguments(("a", "b"), (), anything=False), pictures(crop=(8, 8)), {}, None)


def test_dtypes_are_settled_at_the_end() -> None:
    assert as_specs({"x": KnownInput(("N", 3), None)}, {"x": "int64"}) == (TensorSpec("x", "int64", ("N", 3)),)


def test_a_table_and_sounds_feed_the_only_input_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,kind,c\n1,2,x,3\n")
    (tmp_path / "b.csv").write_text("1,2,3,4\n")
    one = Arguments(("x",), (), anything=False)
    made = {"label": "kind"}
    for name, values, width in (("a.csv", made, 3), ("b.csv", {}, 4), ("a.csv", {"inputs": {"x": ("a", "b")}}, 2)):
        task = Task("tabular-classification", input=values)
        samples = SampleSet(str(tmp_path / name), "table", "0" * 64, (0,), False, task=task)
        assert find_known(one, samples, {}, None) == {"x": KnownInput(("N", width), "float32")}
    mels = {"features": "log-mel", "length": 16000, "hop": 160, "mels": 40}
    for values, shape in ((mels, ("N", 101, 40)), ({"length": 16000}, ("N", 16000))):
        sounds = SampleSet("x", "sounds", "0" * 64, (0,), False, task=Task("audio-classification", input=values))
        assert find_known(one, sounds, {}, None) == {"x": KnownInput(shape, "float32")}
    free = SampleSet("x", "sounds", "0" * 64, (0,), False, task=Task("audio-classification"))
    with pytest.raises(ConfigError, match="shape of the input 'x' is not known"):
        find_known(one, free, {}, None)
