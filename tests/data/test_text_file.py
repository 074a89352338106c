import json
import zipfile

import numpy as np
import pytest
from tokenizers_made import tokenizer_bytes

from edgepack.data.samples import (
    find_samples,
    read_any_labels,
    read_frames,
    read_labels,
    read_samples,
    sample_names,
    take_samples,
)
from edgepack.data.text_file import tokenizer_beside
from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.signal_answers import Span, Spans
from edgepack.specs.task import Task

TASK = Task("text-classification")
INPUTS = (TensorSpec("input_ids", "int64", ("N", "L")), TensorSpec("attention_mask", "int64", ("N", "L")))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_bytes())
    return tmp_path


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_rows_become_token_ids_and_labels(folder):
    data = write(folder, "a.csv", "text,label\nthe card,lost\nmy money,new\nthe card,lost\n")
    found = find_samples(data, INPUTS, None, task=TASK)
    assert (found.kind, found.labelled, found.classes) == ("texts", True, ("lost", "new"))
    np.testing.assert_array_equal(read_labels(found), [0, 1, 0])
    feeds = list(read_samples(found, INPUTS))
    np.testing.assert_array_equal(feeds[0]["input_ids"], [[2, 5, 7, 3]])
    np.testing.assert_array_equal(feeds[0]["attention_mask"], [[1, 1, 1, 1]])
    assert [frame.text for frame in read_frames(found)] == ["the card", "my money", "the card"]
    assert next(read_frames(found)).places == ((0, 0), (0, 3), (4, 8), (0, 0))
    few = take_samples(found, 2, 1)
    assert len(list(read_samples(few, INPUTS))) == 2


def test_every_kind_of_file_says_the_same(folder):
    files = {
        "a.csv": "category,text\nnew,the card\n",
        "a.tsv": "text\tcategory\nthe card\tnew\n",
        "a.jsonl": '{"text": "the card", "category": "new"}\n',
    }
    ids = [
        next(read_samples(find_samples(write(folder, name, text), INPUTS, None, task=TASK), INPUTS))[
            "input_ids"
        ].tolist()
        for name, text in files.items()
    ]
    assert ids == [[[2, 5, 7, 3]]] * 3


def test_the_recipe_names_the_columns_the_tokenizer_and_the_classes(folder, tmp_path):
    (tmp_path / "other.json").write_bytes(tokenizer_bytes())
    (folder / "tokenizer.json").unlink(missing_ok=True)
    task = Task(
        "text-classification", input={"tokenizer": str(tmp_path / "other.json"), "text": "q", "label": "kind"},
        classes=("new", "lost"),
    )  # fmt: skip
    data = write(folder, "a.csv", "id,q,kind\n7,the card,lost\n")
    assert read_labels(find_samples(data, INPUTS, None, task=task)).tolist() == [1]


def test_another_tokenizer_makes_other_samples(folder):
    data = write(folder, "a.csv", "text\nthe card\n")
    one = find_samples(data, INPUTS, None, task=TASK)
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes(normalizer=None))
    assert find_samples(data, INPUTS, None, task=TASK).sha256 != one.sha256
    with pytest.raises(DataError, match="changed after its samples were chosen"):
        list(read_samples(one, INPUTS))


def test_where_the_tokenizer_lies_makes_no_other_samples(folder, tmp_path):
    data = write(folder, "a.csv", "text\nthe card\n")
    digests = set()
    for name in ("one.json", "other.json"):
        (tmp_path / name).write_bytes(tokenizer_bytes())
        task = Task("text-classification", input={"tokenizer": str(tmp_path / name)})
        digests.add(find_samples(data, INPUTS, None, task=task).sha256)
    assert len(digests) == 1


def test_spans_are_labels_of_taggers(folder):
    lines = [{"text": "new york is", "label": [[0, 8, "LOC"]]}, {"text": "hello", "label": []}]
    data = write(folder, "a.jsonl", "\n".join(map(json.dumps, lines)))
    found = find_samples(data, INPUTS, None, task=Task("token-classification", classes=("O", "B-LOC")))
    labels = read_any_labels(found)
    assert labels[0] == Spans((Span(0, 8, "LOC", "new york"),))
    assert labels[1] == Spans(())


def test_rows_that_are_broken_are_named_and_may_be_left_out(folder):
    data = write(folder, "a.csv", "text,label\nthe card,lost\n  ,lost\nmy card,lsot\n")
    task = Task("text-classification", classes=("lost", "new"))
    with pytest.raises(DataError, match=r"a\.csv line 3, column 'text' holds no text \(and 1 more") as error:
        find_samples(data, INPUTS, None, task=task)
    assert "--skip-bad 2" in error.value.hint
    found = find_samples(data, INPUTS, None, task=task, skip_bad=2)
    assert found.indices == (0,)
    assert "'lsot' is not a class of the model" in found.skipped[1]
    bad = write(folder, "b.jsonl", '{"text": "the", "label": [[0, 9, "X"]]}\n{"text": "the", "label": 3}\n')
    with pytest.raises(DataError, match=r"b\.jsonl line 1, column 'label' is not a list of spans"):
        find_samples(bad, INPUTS, None, task=Task("token-classification"))
    other = write(
        folder, "c.jsonl", '{"text": "the", "label": [[0, 3, "LOC"]]}\n{"text": "the", "label": [[0, 3, "CITY"]]}\n'
    )
    with pytest.raises(DataError, match=r"c\.jsonl line 2, column 'label': no tag of the model is for 'CITY'") as error:
        find_samples(other, INPUTS, None, task=Task("token-classification", classes=("O", "B-LOC", "I-LOC", "PER")))
    assert "LOC, O, PER" in error.value.hint


@pytest.mark.parametrize(
    ("text", "task", "error", "words"),
    [
        ("a,b,c\n1,2,3\n", TASK, DataError, "has no column of texts; it has a, b, c"),
        ("text\nthe\n", Task("text-classification", input={"text": "txt"}), DataError, "no column 'txt' for the text"),
        (
            "text\nthe\n",
            Task("text-classification", input={"tokenizer": "no.json"}),
            DataError,
            "cannot read the tokenizer",
        ),
        ("text\nthe\n", Task("text-classification", input={"maxlength": 3}), ConfigError, "maxlength"),
        ("text\nthe\n", Task("text-classification", input={"ids": "x"}), ConfigError, "no input 'x'"),
    ],
)
def test_what_cannot_be_read_is_named(folder, text, task, error, words):
    with pytest.raises(error, match=words):
        find_samples(write(folder, "a.csv", text), INPUTS, None, task=task)


def test_without_a_tokenizer_it_is_said_where_one_is_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"there is no tokenizer\.json beside .*a\.csv"):
        find_samples(write(tmp_path, "a.csv", "text\nthe\n"), INPUTS, None, task=TASK)


def test_a_folder_and_a_zip_file_hold_the_texts_and_the_tokenizer(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "elsewhere" / "store"))
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.csv").write_text("text,label\nthe card,lost\nmy money,new\n")
    (folder / "tokenizer.json").rename(inside / "tokenizer.json")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in inside.iterdir():
            archive.write(file, f"inside/{file.name}")
    for data in (inside, tmp_path / "a.zip"):
        found = find_samples(str(data), INPUTS, None, task=TASK)
        assert next(read_samples(found, INPUTS))["input_ids"].tolist() == [[2, 5, 7, 3]]
        assert [frame.text for frame in read_frames(found)] == ["the card", "my money"]
        assert tokenizer_beside(TASK, data).read_bytes() == tokenizer_bytes()
    assert tokenizer_beside(TASK, tmp_path / "elsewhere.npz") is None


def test_a_sample_is_named_by_its_line(folder):
    data = write(folder, "a.csv", "text,label\nthe card,lost\n\nmy money,new\n")
    assert sample_names(find_samples(data, INPUTS, None, task=TASK)) == ("a.csv line 2", "a.csv line 4")


def test_a_list_of_labels_is_no_class(folder):
    with pytest.raises(DataError, match=r"line 1, column 'label' is a list"):
        find_samples(write(folder, "a.jsonl", '{"text": "the", "label": [0, 3]}\n'), INPUTS, None, task=TASK)
