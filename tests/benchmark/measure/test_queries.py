import numpy as np
import pytest

from edgepack.benchmark.measure import queries as feeds
from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec

DYNAMIC = (TensorSpec("a", "float32", ("N", 2)), TensorSpec("b", "int64", ("N",)))
FIXED = (TensorSpec("a", "float32", (1, 2)), TensorSpec("state", "float32", (2, 1, 4)))


def sample(i):
    return {"a": np.full((1, 2), i, np.float32), "b": np.array([i])}


def test_batches_rotate_over_all_samples():
    queries = feeds.make_queries([sample(i) for i in range(3)], DYNAMIC, 2)
    assert [q["b"].tolist() for q in queries] == [[0, 1], [2, 0], [1, 2]]
    assert all(q["a"].shape == (2, 2) and q["a"].flags.c_contiguous for q in queries)


def test_one_sample_a_query_is_the_sample_itself():
    queries = feeds.make_queries([sample(0), sample(1)], DYNAMIC, 1)
    assert [q["b"].tolist() for q in queries] == [[0], [1]]


def test_more_samples_than_memory_should_hold_are_left_out():
    many = [sample(i) for i in range(100)]
    assert len(feeds.make_queries(many, DYNAMIC, 1)) == 32
    assert len(feeds.make_queries(many, DYNAMIC, 4)) == 32


@pytest.mark.parametrize(("inputs", "dynamic"), [(DYNAMIC, True), (FIXED, False), ((), False)])
def test_a_batch_is_dynamic_when_all_inputs_share_a_free_first_axis(inputs, dynamic):
    assert feeds.batch_is_dynamic(inputs) is dynamic


def test_inputs_with_different_free_axes_cannot_be_batched():
    assert not feeds.batch_is_dynamic((TensorSpec("a", "float32", ("N",)), TensorSpec("b", "float32", ("M",))))


def test_sequences_are_not_joined_along_their_length():
    frames = (TensorSpec("frames", "float32", ("*frames", 40)),)
    assert not feeds.batch_is_dynamic(frames)
    with pytest.raises(ConfigError, match="not for 2 samples at once"):
        feeds.check_batch(frames, 2, "asr")


def test_a_fixed_batch_refuses_more():
    with pytest.raises(ConfigError, match=r"fixed batch.*state"):
        feeds.check_batch(FIXED, 8, "kws")
    feeds.check_batch(FIXED, 1, "kws")
    with pytest.raises(ConfigError, match="no samples"):
        feeds.check_batch(DYNAMIC, 0, "kws")


def test_no_samples_is_an_error():
    with pytest.raises(DataError, match="no golden inputs"):
        feeds.make_queries([], DYNAMIC, 1)


def test_samples_of_different_shape_cannot_be_joined():
    other = {"a": np.zeros((1, 3), np.float32), "b": np.array([1])}
    with pytest.raises(DataError, match="cannot be joined"):
        feeds.make_queries([sample(0), other], DYNAMIC, 2)


def test_groups_are_of_the_asked_size_and_rotate():
    groups = feeds.group_queries(feeds.make_queries([sample(i) for i in range(3)], DYNAMIC, 1), 2)
    assert [[int(q["b"][0]) for q in g] for g in groups] == [[0, 1], [2, 0], [1, 2]]
