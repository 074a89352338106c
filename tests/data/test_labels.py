"""Labels of samples: arrays, and sequences of whatever size each label is."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.data.labels import digest_of, is_array, stack, take
from edgepack.specs.answer import Boxes


def boxes(n: int) -> Boxes:
    return Boxes(np.zeros((n, 4)), np.ones(n), np.arange(n), 10, 10)


def test_arrays_are_rows() -> None:
    labels = np.array([3, 4, 5])
    assert is_array(labels)
    assert take(labels, (2, 0)).tolist() == [5, 3]
    assert stack([labels[0], labels[1]]).tolist() == [3, 4]
    assert digest_of(labels) != digest_of(labels.astype(np.int32))


def test_false_and_true_are_classes() -> None:
    found = stack([np.bool_(False), np.bool_(True)])
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.tolist()) == (np.int64, [0, 1])


def test_sequences_hold_labels_of_any_size() -> None:
    labels = (boxes(0), boxes(3), boxes(1))
    some = take(labels, (2, 1))
    assert not is_array(some)
    assert [len(label) for label in some] == [1, 3]
    assert len(some[1:]) == 1
    assert digest_of(some) == [labels[2].digest(), labels[1].digest()]
    assert stack([labels[0]]) == (labels[0],)
    with pytest.raises(IndexError):
        some[2]


def test_text_is_a_label() -> None:
    assert digest_of(("a", "b"))[0] == digest_of(("a",))[0] != digest_of(("b",))[0]


def test_a_label_is_read_when_it_is_asked_for() -> None:
    class Lazy(tuple):
        def __getitem__(self, index):
            read.append(index)
            return boxes(index)

    read: list[int] = []
    some = take(Lazy((0, 1, 2)), (2,))
    assert read == []
    assert len(some[0]) == 2
    assert read == [2]
