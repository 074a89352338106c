import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgepack.tasks.ctc import greedy, spell


@given(st.lists(st.integers(0, 3), max_size=12), st.sampled_from([0, 3]))
def test_repeats_are_one_letter_and_blanks_none(path, blank):
    scores = np.eye(4)[path].reshape(-1, 4) * 0.7
    right = [number for number, _ in itertools.groupby(path) if number != blank]
    numbers, best = greedy(scores, blank)
    assert list(numbers) == right
    assert best == (0.7,) * len(right)


def test_a_moment_with_nan_is_blank():
    scores = np.array([[0.1, 0.9], [np.nan, 0.5], [0.1, 0.8]])
    assert greedy(scores, 0) == ((1, 1), (0.9, 0.8))


def test_letters_are_counted_without_the_blank():
    assert spell((1, 2, 3), "abc", 0) == "abc"
    assert spell((0, 1, 2), "abc", 3) == "abc"
    assert spell((1, 4, 2), "abc", 0) == "a b", "the class behind the last letter parts words"
    assert spell((0, 2), "abc", 1) == "ab"
