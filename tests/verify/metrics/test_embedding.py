import numpy as np
import pytest
from compared import compared
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid, NearestNeighbors

from edgepack.verify.metrics import METRICS
from edgepack.verify.metrics.embedding import at_nearest_centre, neighbours, recalled

RANDOM = np.random.default_rng(0)
LABELS = np.repeat(np.arange(10), 8)
CENTRES = RANDOM.normal(size=(10, 16))
FP32 = CENTRES[LABELS] + RANDOM.normal(0, 1.0, (80, 16))
OTHER = FP32 + RANDOM.normal(0, 2.0, (80, 16))


@given(st.integers(2, 40), st.integers(1, 5))
def test_neighbours_are_scikit_learns(n, k):
    vectors = np.random.default_rng(n).normal(size=(n, 6))
    k = min(k, n - 1)
    right = NearestNeighbors(n_neighbors=k, metric="cosine").fit(vectors).kneighbors(return_distance=False)
    np.testing.assert_array_equal(neighbours(vectors, k), right)


def test_a_sample_is_found_by_one_of_its_class():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.9, 0.6]])
    np.testing.assert_array_equal(recalled(vectors, np.array([0, 0, 1, 1]), 1), [True, True, True, False])
    np.testing.assert_array_equal(recalled(vectors, np.array([0, 0, 1, 1]), 3), [True] * 4)
    assert not recalled(np.full((3, 2), np.nan), np.zeros(3, int), 1).any()


def test_the_nearest_centre_is_scikit_learns_without_the_sample_itself():
    unit = FP32 / np.linalg.norm(FP32, axis=1, keepdims=True)
    right = []
    for i in range(len(unit)):
        others = np.arange(len(unit)) != i
        fitted = NearestCentroid().fit(unit[others], LABELS[others])
        centres = fitted.centroids_ / np.linalg.norm(fitted.centroids_, axis=1, keepdims=True)
        right.append(fitted.classes_[np.argmax(centres @ unit[i])] == LABELS[i])
    np.testing.assert_array_equal(at_nearest_centre(FP32, LABELS), right)
    assert 0.5 < np.mean(right) < 1


def test_a_class_of_one_has_no_centre():
    np.testing.assert_array_equal(at_nearest_centre(np.eye(3), np.array([0, 0, 1]))[2:], [False])


@pytest.mark.parametrize("name", ["recall@1", "recall@5", "recall@10", "nearest-centre"])
def test_vectors_that_were_moved_drop(name):
    found = METRICS.get(name).measure(compared(name, FP32, OTHER, LABELS))
    assert found.n == 80
    assert found.fp32 > found.value
    assert found.drop == pytest.approx(found.fp32 - found.value)
    assert found.ci95[0] < found.drop < found.ci95[1]


def test_without_labels_fp32s_nearest_must_be_found_again():
    same = METRICS.get("recall@1").measure(compared("recall@1", FP32, FP32 * 2))
    assert (same.fp32, same.value) == (1, 1)
    moved = METRICS.get("recall@1").measure(compared("recall@1", FP32, OTHER))
    assert moved.value < 1
    assert METRICS.get("nearest-centre").needs_labels


def test_classes_of_one_sample_each_have_no_figure():
    for name in ("recall@1", "nearest-centre"):
        assert "each class has one" in METRICS.get(name).measure(compared(name, np.eye(4), np.eye(4), np.arange(4)))
