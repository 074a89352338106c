import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer
from edgepack.tasks.sentence_embedding import pool

TOKENS = np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32)
FRAME = Frame(text="x", places=((0, 0), (0, 1), (1, 2), (0, 0)))


def embed(settings=None, outputs=TOKENS, frame=FRAME):
    return answer(Task("sentence-embedding", settings=settings or {}), {"y": outputs}, frame).values


def test_the_mean_leaves_filled_places_out_and_has_length_one():
    right = TOKENS[0, :4].mean(axis=0)
    np.testing.assert_allclose(embed(), right / np.linalg.norm(right), rtol=1e-6)
    np.testing.assert_allclose(embed({"normalize": False}), right, rtol=1e-6)
    np.testing.assert_allclose(embed({"normalize": False, "pooling": "first"}), TOKENS[0, 0])


def test_tokens_may_be_filled_on_the_left():
    frame = Frame(text="x", places=FRAME.places, left=True)
    np.testing.assert_allclose(embed({"normalize": False}, frame=frame), TOKENS[0, 2:].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(pool(TOKENS[0], 4, left=True, pooling="first"), TOKENS[0, 2])


def test_a_text_that_the_model_cuts_has_as_many_tokens_as_the_model():
    frame = Frame(text="x", places=((0, 1),) * 9)
    np.testing.assert_allclose(embed({"normalize": False}, frame=frame), TOKENS[0].mean(axis=0), rtol=1e-6)


def test_a_vector_is_taken_as_it_is():
    np.testing.assert_allclose(embed({"normalize": False}, TOKENS[:, 0], Frame()), TOKENS[0, 0])
    np.testing.assert_array_equal(embed({}, np.zeros((1, 3)), Frame()), np.zeros(3))


@pytest.mark.parametrize(
    ("settings", "outputs", "frame", "words"),
    [
        ({"output": "z"}, TOKENS, FRAME, "no output 'z'; it has y"),
        ({}, TOKENS, Frame(), "how many tokens are not padding"),
        ({}, np.zeros((2, 3)), FRAME, "is not a vector"),
    ],
)
def test_what_is_no_vector_is_said(settings, outputs, frame, words):
    with pytest.raises(DataError, match=words):
        embed(settings, outputs, frame)
