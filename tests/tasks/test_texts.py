from pathlib import Path

import numpy as np
import pytest
from tokenizers_made import tokenizer_bytes

from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task
from edgepack.tasks import Making, check_task, files_of, prepare

INPUTS = (TensorSpec("input_ids", "int64", ("N", "L")), TensorSpec("attention_mask", "int64", ("N", "L")))
TASK = Task("text-classification", input={"padding": "longest"})


def test_a_sentence_becomes_token_ids_with_the_tokenizer_of_the_bundle():
    read = {"tokenizer.json": tokenizer_bytes()}.__getitem__
    found = prepare("the card", Making(TASK, INPUTS, read=read))
    np.testing.assert_array_equal(found.feeds["input_ids"], [[2, 5, 7, 3]])
    assert found.frame.text == "the card"
    assert found.frame.places == ((0, 0), (0, 3), (4, 8), (0, 0))


def test_a_text_that_the_model_reads_in_part_says_how_far():
    inputs = (TensorSpec("input_ids", "int64", ("N", 4)), TensorSpec("attention_mask", "int64", ("N", 4)))
    read = {"tokenizer.json": tokenizer_bytes()}.__getitem__
    assert prepare("the card", Making(TASK, inputs, read=read)).frame.read_to == 0
    assert prepare("the card the card", Making(TASK, inputs, read=read)).frame.read_to == len("the card")


def test_the_tokenizer_travels_with_a_bundle(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_bytes())
    assert files_of(TASK, tmp_path / "a.csv") == {"tokenizer.json": tmp_path / "tokenizer.json"}
    named = Task("sentence-embedding", input={"tokenizer": "own.json"})
    assert files_of(named, tmp_path / "a.csv") == {"tokenizer.json": Path("own.json")}
    assert files_of(Task("regression"), tmp_path) == files_of(None, tmp_path) == {}


@pytest.mark.parametrize("thing", ["", "  \n", 3, None, np.zeros(3)])
def test_what_is_no_sentence_is_refused(thing):
    with pytest.raises(DataError):
        prepare(thing, Making(TASK, INPUTS, read=lambda name: tokenizer_bytes()))


@pytest.mark.parametrize(
    ("values", "words"),
    [({"max_length": 0}, "max_length = 0"), ({"pading": "longest"}, "pading"), ({"padding": "x"}, "x")],
)
def test_settings_that_cannot_be_meant_are_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        check_task(Task("text-classification", input=values))
