import numpy as np
import pytest

from edgepack.data.named_classes import number_classes


def where(i):
    return f"x.csv line {i + 2}"


@pytest.mark.parametrize(
    ("words", "classes", "numbers", "names"),
    [
        (["cat", "dog", "cat"], (), [0, 1, 0], ("cat", "dog")),
        (["cat", "dog"], ("dog", "cat"), [1, 0], ("dog", "cat")),
        (["2", "0"], (), [2, 0], ()),
        (["2", "0"], ("a", "b", "c"), [2, 0], ("a", "b", "c")),
        (["10", "9"], ("9", "10"), [1, 0], ("9", "10")),
        (["10.0", "2.0", "0."], (), [10, 2, 0], ()),  # as tables write whole numbers once a cell was missing
        (["1.0", "0.0"], ("a", "b"), [1, 0], ("a", "b")),
        (["+1", "0"], (), [1, 0], ()),
        (["-1", "1", "-2"], (), [1, 2, 0], ("-2", "-1", "1")),
        (["10.5", "2.5"], (), [1, 0], ("2.5", "10.5")),
    ],
)
def test_words_are_places_among_the_classes(words, classes, numbers, names):
    found, known, bad = number_classes(words, classes, where)
    np.testing.assert_array_equal(found, numbers)
    assert (known, bad) == (names, ())


@pytest.mark.parametrize(
    ("odd", "words"), [("", "is empty"), ("n/a", "'n/a' is not a number, as the other labels are")]
)
def test_a_label_that_is_missing_does_not_make_names_of_the_numbers(odd, words):
    """Sorted as names "10" would come before "2", and every label would be another."""
    numbers = [str(n) for n in range(12)]
    found, names, bad = number_classes([*numbers, odd], (), where)
    assert found[:12].tolist() == list(range(12))
    assert names == ()
    assert [item.index for item in bad] == [12]
    assert words in bad[0].reason


def test_words_among_numbers_are_classes_where_they_are_many():
    found, names, bad = number_classes(["1", "2", "other", "2"], (), where)
    assert (found.tolist(), names, bad) == ([0, 1, 2, 1], ("1", "2", "other"), ())


def test_a_word_that_is_no_class_is_named():
    _, _, bad = number_classes(["cat", "dgo", " "], ("cat", "dog"), where)
    assert [item.index for item in bad] == [1, 2]
    assert bad[0].reason == "x.csv line 3: 'dgo' is not a class of the model"
    assert "dog" in bad[0].hint
    assert bad[1].reason == "x.csv line 4 is empty"
    _, _, bad = number_classes(["3", "0"], ("a", "b"), where)
    assert "label 3 is beyond the 2 classes" in bad[0].reason
