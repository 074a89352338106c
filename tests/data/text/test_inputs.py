import numpy as np
import pytest
from tokenizers_made import tokenizer_bytes

from edgepack.data.text.inputs import find_inputs, text_input
from edgepack.data.text.tokenizer import read_tokenizer
from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.signals import Text

TOKENIZER = read_tokenizer(tokenizer_bytes(), "x")  # [CLS] 2, [SEP] 3; "the" 5, "card" 7
FIXED = {
    "strategy": {"Fixed": 8},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}


def specs(*names, shape=("N", "L"), dtype="int64"):
    return tuple(TensorSpec(name, dtype, shape) for name in names)


def test_inputs_are_found_by_their_usual_names():
    found = find_inputs(Text(), specs("input_ids", "token_type_ids", "attention_mask"))
    assert (found.ids, found.mask, found.types) == ("input_ids", "attention_mask", "token_type_ids")
    assert find_inputs(Text(), specs("x")).ids == "x"
    found = find_inputs(Text(ids="a", mask="b"), specs("b", "a"))
    assert (found.ids, found.mask, found.types) == ("a", "b", "")


@pytest.mark.parametrize(
    ("made", "names", "words"),
    [
        (Text(), ("input_ids", "position_ids"), "the input 'position_ids'"),
        (Text(), ("a", "b"), "the input 'a'"),
        (Text(ids="inputs"), ("input_ids",), "no input 'inputs' for ids"),
    ],
)
def test_an_input_that_nothing_feeds_is_named(made, names, words):
    with pytest.raises(ConfigError, match=words) as error:
        find_inputs(made, specs(*names))
    assert error.value.hint


def test_a_text_has_its_own_length_where_nothing_says_another():
    feed, encoded = text_input(TOKENIZER, "the card", Text(), specs("input_ids", "attention_mask", dtype="int32"))
    np.testing.assert_array_equal(feed["input_ids"], [[2, 5, 7, 3]])
    np.testing.assert_array_equal(feed["attention_mask"], [[1, 1, 1, 1]])
    assert feed["input_ids"].dtype == np.int32
    assert encoded.places == ((0, 0), (0, 3), (4, 8), (0, 0))


@pytest.mark.parametrize(
    ("made", "shape", "padding", "length"),
    [
        (Text(), ("N", 6), None, 6),
        (Text(max_length=5, padding="max_length"), ("N", "L"), None, 5),
        (Text(max_length=3), ("N", "L"), None, 3),
        (Text(max_length=3), ("N", 6), None, 6),
        (Text(), ("N", 3), FIXED, 3),
        (Text(), ("N", "L"), FIXED, 8),
        (Text(padding="longest"), ("N", "L"), FIXED, 4),
        (Text(max_length=6), ("N", "L"), FIXED, 4),
        (Text(), ("N", "L"), FIXED | {"strategy": "BatchLongest", "pad_to_multiple_of": 6}, 6),
    ],
)
def test_it_is_cut_and_filled_to_what_the_model_the_recipe_or_the_file_says(made, shape, padding, length):
    tokenizer = read_tokenizer(tokenizer_bytes(padding=padding), "x")
    feed, encoded = text_input(tokenizer, "the card", made, specs("input_ids", "attention_mask", shape=shape))
    assert feed["input_ids"].shape == (1, length)
    own = len(encoded.ids)
    assert own == min(4, made.max_length or 4, shape[1] if isinstance(shape[1], int) else 4)
    np.testing.assert_array_equal(feed["attention_mask"][0], [1] * own + [0] * (length - own))
    assert feed["input_ids"][0, own - 1] == 3, "the special token at the end is kept"


def test_it_is_filled_on_the_side_and_with_the_ids_of_the_file():
    tokenizer = read_tokenizer(
        tokenizer_bytes(padding=FIXED | {"direction": "Left", "pad_id": 9, "pad_type_id": 1}), "x"
    )
    feed, _ = text_input(tokenizer, "the", Text(), specs("input_ids", "attention_mask", "token_type_ids"))
    np.testing.assert_array_equal(feed["input_ids"], [[9] * 5 + [2, 5, 3]])
    np.testing.assert_array_equal(feed["attention_mask"], [[0] * 5 + [1] * 3])
    np.testing.assert_array_equal(feed["token_type_ids"], [[1] * 5 + [0] * 3])


def test_an_input_that_is_no_row_of_tokens_is_named():
    with pytest.raises(DataError, match="'image' has shape"):
        text_input(TOKENIZER, "the", Text(), specs("image", shape=("N", 3, 8, 8)))
