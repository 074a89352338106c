from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from edgepack.verify.metrics.edits import edit_distance

TEXT = st.text("abc", max_size=7)


def by_definition(one: str, other: str) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i or j
        return min(
            distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        )

    return distance(len(one), len(other))


@given(TEXT, TEXT)
def test_it_is_levenshteins_distance(one, other):
    assert edit_distance(one, other) == by_definition(one, other)
    assert edit_distance(list(one), list(other)) == edit_distance(other, one)


def test_words_are_items_too():
    assert edit_distance(["the", "cat", "sat"], ["the", "cat", "sat"]) == 0
    assert edit_distance(["the", "cat", "sat"], ["a", "cat"]) == 2
    assert edit_distance("kitten", "sitting") == 3
