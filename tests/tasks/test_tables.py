import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task
from edgepack.tasks import Making, prepare

MAKING = Making(Task("tabular-classification"), (TensorSpec("x", "float32", ("N", 2)),))


def test_a_mapping_an_array_and_a_file_are_the_same_row(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2.5\n")
    (tmp_path / "b.csv").write_text("a,b,label\n1,2.5,7\n")
    for thing in (
        {"a": 1, "b": 2.5},
        np.array([1, 2.5]),
        np.array([[1, 2.5]]),
        tmp_path / "a.csv",
        str(tmp_path / "b.csv"),
    ):
        np.testing.assert_array_equal(prepare(thing, MAKING).feeds["x"], [[1, 2.5]])


def test_a_recipe_names_the_columns():
    task = Task("regression", input={"inputs": {"x": ("b", "a")}})
    found = prepare({"a": 1, "b": 2, "c": 3}, Making(task, MAKING.inputs)).feeds
    np.testing.assert_array_equal(found["x"], [[2, 1]])


def test_names_count_and_not_places_where_the_bundle_has_them(tmp_path):
    making = Making(Task("tabular-classification", input={"inputs": {"x": ("a", "b")}}), MAKING.inputs)
    (tmp_path / "named.csv").write_text("label,b,a\n7,2.5,1\n")
    (tmp_path / "bare.csv").write_text("1,2.5\n")
    (tmp_path / "other.csv").write_text("a,height\n1,2.5\n")
    for thing in ({"b": 2.5, "a": 1}, [1, 2.5], (1, np.float32(2.5)), tmp_path / "named.csv", tmp_path / "bare.csv"):
        np.testing.assert_array_equal(prepare(thing, making).feeds["x"], [[1, 2.5]])
    for thing in (tmp_path / "other.csv", {"a": 1, "height": 2.5}):
        with pytest.raises(DataError, match="has no column 'b'"):
            prepare(thing, making)


def test_what_is_no_row_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "b.csv").write_text("a,b\n1,x\n")
    for thing, words in (
        (tmp_path / "a.csv", "has 2 rows"),
        (tmp_path / "b.csv", "line 2, column 'b' 'x' is not a number"),
        ({"a": 1}, "1 column feeds the model's input 'x', which takes 2"),
        ({"a": 1, "b": float("nan")}, "the row, column 'b' holds nan"),
        (np.zeros(3), "does not fit the model's input 'x'"),
        (np.array([1, np.nan]), "holds NaN"),
        (3, "is not a row"),
    ):
        with pytest.raises(DataError, match=words):
            prepare(thing, MAKING)
