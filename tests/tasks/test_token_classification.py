import numpy as np
import pytest
from tokenizers_made import tokenizer_bytes

from edgepack.data.text.tokenizer import read_tokenizer
from edgepack.errors import ConfigError, DataError
from edgepack.specs.signal_answers import Span
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer, check_task
from edgepack.tasks.token_classification import Tagged, fit_places, join, words_of

CLASSES = ("O", "B-LOC", "I-LOC", "B-PER")
TASK = Task("token-classification", classes=CLASSES)
TEXT = "hello new york, my world"
PLACES = read_tokenizer(tokenizer_bytes(), "x").encode(TEXT, None).places


def tag(*names, filled=0, text=TEXT, places=PLACES):
    scores = np.full((1, len(names) + filled, 4), -5.0)
    for i, name in enumerate(names):
        scores[0, i, CLASSES.index(name)] = 5
    return answer(TASK, {"y": scores}, Frame(text=text, places=places))


def test_tokens_are_joined_to_parts_of_the_text():
    found = tag("O", "O", "B-LOC", "I-LOC", "O", "O", "B-PER", "O", filled=3)
    assert [(span.start, span.end, span.name, span.text) for span in found] == [
        (6, 14, "LOC", "new york"),
        (19, 24, "PER", "world"),
    ]
    assert all(span.score > 0.99 for span in found)


def test_a_word_has_the_tag_of_its_first_token():
    places = ((0, 0), (0, 4), (4, 7), (7, 8), (9, 12), (0, 0))
    frame = Frame(text="walking. run", places=places)
    found = words_of(frame, ["O", "B-LOC", "O", "O", "B-PER", "O"], [1.0, 0.9, 0.8, 0.7, 0.6, 1.0])
    assert found == [Tagged(0, 7, "B-LOC", 0.9), Tagged(7, 8, "O", 0.7), Tagged(9, 12, "B-PER", 0.6)]


@pytest.mark.parametrize(
    ("tags", "right"),
    [
        (["B-A", "I-A", "B-A"], [(0, 2, "A"), (2, 3, "A")]),
        (["I-A", "I-B", "O"], [(0, 1, "A"), (1, 2, "B")]),
        (["A", "A", "B"], [(0, 2, "A"), (2, 3, "B")]),
        (["S-A", "I-A", "E-A"], [(0, 1, "A"), (1, 3, "A")]),
        (["B-A", "O", "I-A"], [(0, 1, "A"), (2, 3, "A")]),
    ],
)
def test_prefixes_begin_and_go_on(tags, right):
    words = [Tagged(i, i + 1, name, 0.5) for i, name in enumerate(tags)]
    assert join(words, "O", "abc") == tuple(Span(a, b, name, "abc"[a:b], 0.5) for a, b, name in right)


def test_places_are_fitted_to_what_the_model_was_fed():
    frame = Frame(text="x", places=((0, 0), (0, 1), (1, 2), (2, 3), (0, 0)))
    assert fit_places(frame, 7) == [*frame.places, (0, 0), (0, 0)]
    assert fit_places(frame, 3) == [(0, 0), (0, 1), (0, 0)]
    assert fit_places(Frame(text="x", places=frame.places, left=True), 6) == [(0, 0), *frame.places]


def test_what_does_not_fit_is_said():
    with pytest.raises(DataError, match="no tag of 4 for each token"):
        answer(TASK, {"y": np.zeros((1, 5, 9))}, Frame(places=PLACES))
    with pytest.raises(DataError, match="where tokens lie"):
        answer(TASK, {"y": np.zeros((1, 5, 4))}, Frame())
    with pytest.raises(ConfigError, match="outside = 'X'"):
        check_task(Task("token-classification", settings={"outside": "X"}, classes=CLASSES))
