import numpy as np
import pytest

from edgepack.data.samples import find_samples, kind_of, read_labels, read_samples
from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

INPUTS = (TensorSpec("x", "float32", ("N", 2)),)
NAMED = {"inputs": {"x": ("b", "a")}, "label": "kind"}


def write(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


def rows(data, inputs=INPUTS, task=None):
    found = find_samples(data, inputs, None, task=task)
    feeds = [{name: value.tolist() for name, value in feed.items()} for feed in read_samples(found, inputs)]
    return feeds, read_labels(found).tolist() if found.labelled else None, found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a,b,label\n1,2.5,0\n-3,4e1,1\n", "a.csv"),
        ("label\ta\tb\n0\t1\t2.5\n1\t-3\t40\n", "a.tsv"),
        ('{"a": 1, "b": 2.5, "label": 0}\n{"a": -3, "b": 40, "label": 1}\n', "a.jsonl"),
    ],
)
def test_all_columns_but_the_labels_feed_the_only_input(tmp_path, text, name):
    feeds, labels, found = rows(write(tmp_path, text, name))
    assert feeds == [{"x": [[1, 2.5]]}, {"x": [[-3, 40]]}]
    assert labels == [0, 1]
    assert found.kind == "table"


def test_without_a_header_columns_are_numbers(tmp_path):
    feeds, labels, _ = rows(write(tmp_path, "1,7,2\n3,9,4\n"), task=Task("regression", input={"label": "1"}))
    assert feeds == [{"x": [[1, 2]]}, {"x": [[3, 4]]}]
    assert labels == [7, 9]


def test_a_recipe_names_the_columns(tmp_path):
    task = Task("tabular-classification", input=NAMED, classes=("no", "yes"))
    feeds, labels, found = rows(write(tmp_path, "id,a,b,kind\nr1,1,2,yes\nr2,3,4,no\n"), task=task)
    assert feeds == [{"x": [[2, 1]]}, {"x": [[4, 3]]}]
    assert labels == [1, 0]
    assert found.classes == ("no", "yes")


def test_each_of_several_inputs_takes_the_column_of_its_name(tmp_path):
    inputs = (TensorSpec("a", "float32", ("N", 1)), TensorSpec("b", "int64", ("N",)))
    feeds, _, _ = rows(write(tmp_path, "b,a\n3,0.5\n"), inputs)
    assert feeds == [{"a": [[0.5]], "b": [3]}]


def test_numbers_fill_the_models_shape(tmp_path):
    feeds, _, _ = rows(write(tmp_path, "a,b,c,d\n1,2,3,4\n"), (TensorSpec("x", "float32", ("N", 2, 2)),))
    assert feeds == [{"x": [[[1, 2], [3, 4]]]}]


@pytest.mark.parametrize(
    ("labels", "task", "right"),
    [
        ("0.5,1", None, [0.5, 1.0]),
        ("3,1", None, [3, 1]),
        ("3,1", Task("regression"), [3.0, 1.0]),
        ("b,a", None, [1, 0]),
        ("11.0,2.0", None, [11, 2]),
        ("1,-1", Task("tabular-classification"), [1, 0]),
        ("1.5,0.5", Task("tabular-classification"), [1, 0]),
    ],
)
def test_labels_are_numbers_or_classes(tmp_path, labels, task, right):
    one, other = labels.split(",")
    _, found, samples = rows(write(tmp_path, f"a,b,y\n1,2,{one}\n3,4,{other}\n"), task=task)
    assert found == right
    assert read_labels(samples).dtype == (np.float64 if isinstance(right[0], float) else np.int64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,x\n", r"a\.csv line 3, column 'b' 'x' is not a number"),
        ("a,b\n1,\n", r"a\.csv line 2, column 'b' is empty"),
        ("a,b\n1,nan\n", r"a\.csv line 2, column 'b' holds nan"),
        ("a,b\n1,1e999\n", r"a\.csv line 2, column 'b' holds 1e999"),
        ("a,b\n1,1_000\n", r"a\.csv line 2, column 'b' '1_000' is not a number"),
        ("a,b,c\n1,2,3\n", r"3 columns feed the model's input 'x', which takes 2"),
        ("a,label\n1,2\n", r"1 column feeds"),
        ("a,b,label\n1,2,\n", r"column 'label' is empty"),
    ],
)
def test_a_cell_that_is_wrong_is_named_with_line_and_column(tmp_path, text, words):
    with pytest.raises(DataError, match=words) as error:
        rows(write(tmp_path, text))
    assert error.value.hint


def test_a_column_of_words_may_be_the_label(tmp_path):
    with pytest.raises(DataError, match="column 'species' 'rose' is not a number") as error:
        rows(write(tmp_path, "a,b,species\n1,2,rose\n3,4,lily\n"), task=Task("tabular-classification"))
    assert error.value.hint.startswith("if 'species' is the label, write label = 'species' in [task.input]")


def test_a_label_under_a_name_of_its_own_is_pointed_out_once_for_the_table(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv: 3 columns feed the model's input 'x', which takes 2") as error:
        rows(write(tmp_path, "a,b,price\n1,2,30\n3,4,50\n"), task=Task("regression"))
    assert error.value.hint == "if 'price' is the label, write label = 'price' in [task.input] of a recipe of yours"
    assert "more of the kind" not in error.value.message


def test_broken_rows_may_be_left_out(tmp_path):
    data = write(tmp_path, "a,b,y\n1,2,0.5\n3,x,0.5\n5,6,none\n7,8,1.5\n")
    task = Task("regression", input={"label": "y"})
    found = find_samples(data, INPUTS, None, task=task, skip_bad=2)
    assert found.indices == (0, 3)
    assert read_labels(found).tolist() == [0.5, 1.5]


def test_columns_that_are_not_there_are_named(tmp_path):
    data = write(tmp_path, "a,c,kind\n1,2,0\n")
    with pytest.raises(DataError, match="no column 'b'"):
        rows(data, task=Task("tabular-classification", input=NAMED))
    with pytest.raises(ConfigError, match="names no columns for the model's input 'x'"):
        rows(data, task=Task("tabular-classification", input={"inputs": {"y": ("a",)}}))
    with pytest.raises(DataError, match="no column 'z' for the label"):
        rows(data, task=Task("tabular-classification", input={"label": "z"}))
    with pytest.raises(DataError, match="no column 'b' for the input of that name"):
        rows(data, (TensorSpec("a", "float32", ("N", 1)), TensorSpec("b", "float32", ("N", 1))))


@pytest.mark.parametrize(
    ("number", "dtype"), [("1e39", "float32"), ("-1e39", "float32"), ("70000", "float16"), ("256", "uint8"),
                          ("-1", "uint8"), ("9223372036854775808", "int64"), ("2", "bool")],
)  # fmt: skip
def test_a_number_that_the_input_does_not_hold(number, dtype, tmp_path):
    with pytest.raises(DataError, match=f"which {dtype} of the model's input 'x' does not hold"):
        rows(write(tmp_path, f"a,b\n1,{number}\n"), (TensorSpec("x", dtype, ("N", 2)),))


def test_a_whole_number_is_read_exactly(tmp_path):
    """A float64 on the way would make another id of it."""
    largest, odd = 2**63 - 1, 2**53 + 1
    feeds, _, _ = rows(write(tmp_path, f"a,b\n{largest},{odd}\n"), (TensorSpec("x", "int64", ("N", 2)),))
    assert feeds[0]["x"] == [[largest, odd]]


def test_half_a_number_is_no_whole_one(tmp_path):
    with pytest.raises(DataError, match=r"column 'b' is not a whole number"):
        rows(write(tmp_path, "a,b\n1,2.5\n"), (TensorSpec("x", "int64", ("N", 2)),))


def test_a_table_beside_pictures_is_of_these(tmp_path, save_picture):
    data = write(tmp_path, "a,b,label\n1,2,0\n")
    save_picture(tmp_path / "x.png")
    assert kind_of(str(tmp_path), None) == "pictures"
    assert kind_of(str(tmp_path), Task("tabular-classification")) == kind_of(data, None) == "table"
