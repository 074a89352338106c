import sys

import numpy as np
import pytest
from calibrate_inputs import IMAGE_INPUT

from edgepack.data.samples import find_samples, read_labels, read_samples, take_samples
from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec


@pytest.fixture
def source(tmp_path):
    """Write a Python file and return the reference to one function in it."""

    def write(body: str, name: str = "make") -> str:
        path = tmp_path / f"samples_{abs(hash(body))}.py"
        path.write_text("import numpy as np\n" + body)
        return f"{path}:{name}"

    return write


GOOD = """
def make():
    rng = np.random.default_rng(0)
    for i in range(6):
        yield {"image": rng.normal(size=(3, 8, 8)).astype("float32"), "labels": i % 2}
"""


def test_samples_are_yielded_with_labels_and_a_batch_axis(source):
    found = find_samples(source(GOOD), IMAGE_INPUT, None)
    assert (found.kind, found.labelled, len(found.indices)) == ("callable", True, 6)
    feeds = list(read_samples(found, IMAGE_INPUT))
    expected = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate([feed["image"] for feed in feeds]), expected)
    assert read_labels(found).tolist() == [0, 1, 0, 1, 0, 1]


def test_a_choice_is_read_in_order(source):
    found = take_samples(find_samples(source(GOOD), IMAGE_INPUT, None), 3, seed=0)
    assert len(list(read_samples(found, IMAGE_INPUT))) == 3
    assert read_labels(found).tolist() == [i % 2 for i in found.indices]


def test_module_on_the_path(tmp_path, monkeypatch):
    (tmp_path / "own_samples_module.py").write_text("import numpy as np\n" + GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert len(find_samples("own_samples_module:make", IMAGE_INPUT, None).indices) == 6
    finally:
        sys.modules.pop("own_samples_module", None)


def test_a_list_is_as_good_as_a_generator(source):
    body = "def make():\n    return [{'image': np.zeros((1, 3, 8, 8), 'float32')}] * 2\n"
    found = find_samples(source(body), IMAGE_INPUT, None)
    assert len(found.indices) == 2
    assert not found.labelled


def test_other_samples_at_every_call_are_noticed(source):
    body = "def make():\n    yield {'image': np.random.default_rng().normal(size=(3, 8, 8)).astype('float32')}\n"
    found = find_samples(source(body), IMAGE_INPUT, None)
    with pytest.raises(DataError, match="changed after its samples were chosen") as caught:
        list(read_samples(found, IMAGE_INPUT))
    assert "seed" in caught.value.hint


ZEROS = "np.zeros((3, 8, 8), 'float32')"


@pytest.mark.parametrize(
    ("yielded", "message"),
    [
        ("[1, 2]", "sample 0 of .* is a list, not a dict"),
        ("None", "is a NoneType, not a dict"),
        ("{1: 2}", "is a dict, not a dict of arrays"),
        ("{}", "has no array named 'image'"),
        ("{'imgae': 1}", "has no array named 'image'"),
        ("{'image': 'text'}", "which is not numeric"),
        ("{'image': [[1], [1, 2]]}", "that numpy cannot read"),
        ("{'image': np.zeros((3, 8, 8))}", "'image' is float64, the model's input is float32"),
        ("{'image': np.zeros((3, 8, 9), 'float32')}", r"'image' has shape \[1, 3, 8, 9\]"),
        ("{'image': np.zeros((8, 8), 'float32')}", r"'image' has shape \[8, 8\]"),
        ("{'image': np.zeros((4, 3, 8, 8), 'float32')}", "a batch of 4"),
        ("{'image': np.full((3, 8, 8), np.nan, 'float32')}", "holds NaN"),
        (f"{{'image': {ZEROS}, 'extra': 1}}", "has 'extra', which is not an input"),
        (f"{{'image': {ZEROS}, 'labels': 'cat'}}", "its label is"),
        (f"{{'image': {ZEROS}, 'labels': np.nan}}", "'labels' holds NaN"),
    ],
)
def test_wrong_samples_are_named(source, yielded, message):
    with pytest.raises(DataError, match=message) as caught:
        find_samples(source(f"def make():\n    yield {yielded}\n"), IMAGE_INPUT, None)
    assert caught.value.hint


def test_sequences_of_any_length_are_samples_where_the_first_axis_is_a_length(source):
    """A batch of several is refused with how to say that it is none; a length has to be there."""
    three = source("def make():\n    yield {'frames': np.zeros((3, 8), 'float32')}\n")
    with pytest.raises(DataError, match="a batch of 3") as caught:
        find_samples(three, (TensorSpec("frames", "float32", ("t", 8)),), None)
    assert "--shape frames=*x8" in caught.value.hint
    inputs = (TensorSpec("frames", "float32", ("*t", 8)),)
    samples = find_samples(three, inputs, None)
    assert [feed["frames"].shape for feed in read_samples(samples, inputs)] == [(3, 8)]
    one = source("def make():\n    yield {'frames': np.zeros(8, 'float32')}\n")
    with pytest.raises(DataError, match=r"'frames' has shape \[8\]"):
        find_samples(one, inputs, None)


def test_what_is_said_of_an_input_that_was_fixed(source):
    """As --set does, whose input is none any more; a name that is no input may also be a label's, misspelt."""
    with pytest.raises(DataError) as caught:
        find_samples(source(f"def make():\n    yield {{'image': {ZEROS}, 'sr': 16000}}\n"), IMAGE_INPUT, None)
    assert caught.value.hint == "known: image, labels; samples leave out what --set fixes"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def make():\n    yield from ()\n", "yielded no sample"),
        ("def make():\n    return 5\n", "failed: TypeError"),
        ("def make():\n    raise OSError('no disk')\n", r"failed: OSError: no disk \(samples_.*py line 3\)"),
        ("def make():\n    yield 1 / 0\n", "failed: ZeroDivisionError"),
        ("def make():\n    raise SystemExit(3)\n", "failed: SystemExit"),
        ("def make(needed):\n    yield needed\n", "failed: TypeError"),
        (f"def make():\n    yield {{'image': {ZEROS}, 'labels': 1}}\n    yield {{'image': {ZEROS}}}\n", "has no label"),
        (
            f"def make():\n    for label in (1, [1, 2]):\n        yield {{'image': {ZEROS}, 'labels': label}}\n",
            "labels of different shapes",
        ),
    ],
)
def test_callables_that_fail_are_explained(source, body, message):
    with pytest.raises(DataError, match=message):
        find_samples(source(body), IMAGE_INPUT, None)


@pytest.mark.parametrize(
    ("body", "name"), [("def make(): pass\n", "mkae"), ("make = 5\n", "make"), ("raise ValueError('x')\n", "make")]
)
def test_references_that_name_no_function(source, body, name):
    with pytest.raises(ConfigError):
        find_samples(source(body, name), IMAGE_INPUT, None)


def test_missing_file_and_module(tmp_path):
    for reference in (f"{tmp_path}/none.py:make", "no_such_module_here:make"):
        with pytest.raises(ConfigError):
            find_samples(reference, IMAGE_INPUT, None)


def test_a_callable_without_end_is_stopped(source, monkeypatch):
    from edgepack.data import generator

    monkeypatch.setattr(generator, "_MOST_SAMPLES", 50)
    body = f"def make():\n    while True:\n        yield {{'image': {ZEROS}}}\n"
    with pytest.raises(DataError, match="still yields samples after 50"):
        find_samples(source(body), IMAGE_INPUT, None)


def test_fewer_samples_than_before(tmp_path, source):
    count = tmp_path / "count"
    count.write_text("4")
    body = (
        "from pathlib import Path\n"
        f"def make():\n    for i in range(int(Path({str(count)!r}).read_text())):\n"
        "        yield {'image': np.full((3, 8, 8), i, 'float32')}\n"
    )
    found = find_samples(source(body), IMAGE_INPUT, None)
    count.write_text("2")
    with pytest.raises(DataError, match="fewer samples than before"):
        list(read_samples(found, IMAGE_INPUT))
