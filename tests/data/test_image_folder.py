import os

import numpy as np
import pytest
from calibrate_inputs import IMAGE_INPUT

from edgepack.data.image_folder import list_pictures
from edgepack.data.preprocess import read_picture
from edgepack.data.samples import find_samples, read_labels, read_samples
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

MADE = Preprocessing(resize=(8, 8), scale=1 / 255)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def find(root, inputs=IMAGE_INPUT, made=MADE):
    return find_samples(str(root), inputs, made)


def test_class_folders_give_sorted_labels_and_names(root, save_picture):
    for name in ("dog/b.png", "dog/a.jpg", "cat/x/deep.png", "ant/1.bmp"):
        save_picture(root / name)
    found = find(root)
    assert found.classes == ("ant", "cat", "dog")
    assert list_pictures(root).names == ("ant/1.bmp", "cat/x/deep.png", "dog/a.jpg", "dog/b.png")
    assert read_labels(found).tolist() == [0, 1, 2, 2]


def test_numbers_as_class_folders_are_the_labels_themselves(root, save_picture):
    for name in ("10/a.png", "9/b.png", "207/c.png"):
        save_picture(root / name)
    found = find(root)
    assert found.classes == ()
    assert read_labels(found).tolist() == [10, 207, 9]


def test_one_number_written_twice_is_refused(root, save_picture):
    save_picture(root / "1/a.png")
    save_picture(root / "01/b.png")
    with pytest.raises(DataError, match="the same number"):
        find(root)


def test_flat_folder_is_unlabelled(root, save_picture):
    save_picture(root / "b.png", seed=1)
    save_picture(root / "a.PNG", seed=2)
    found = find(root)
    assert not found.labelled
    feeds = list(read_samples(found, IMAGE_INPUT))
    assert feeds[0]["image"].shape == (1, 3, 8, 8)
    np.testing.assert_array_equal(feeds[1]["image"][0], read_picture(root / "b.png", MADE))


def test_labels_file_with_class_names(root, save_picture):
    for name in ("a.png", "sub/b.png", "c.png"):
        save_picture(root / name)
    (root / "labels.csv").write_text("\ufefffile,label\n c.png , dog\n./a.png,cat\n\nsub/b.png,dog\n", encoding="utf-8")
    found = find(root)
    assert found.classes == ("cat", "dog")
    assert read_labels(found).tolist() == [0, 1, 1]


def test_labels_file_with_numbers(root, save_picture):
    save_picture(root / "a.png")
    save_picture(root / "b.png")
    for text in ("file,label\na.png,281\nb.png,7\n", "file,label\na.png,281.0\nb.png,7.0\n"):
        (root / "labels.csv").write_text(text)
        found = find(root)
        assert found.classes == ()
        assert read_labels(found).tolist() == [281, 7]


def test_folders_named_like_versions_are_names(root, save_picture):
    for name in ("1.0/a.png", "2.0/b.png"):
        save_picture(root / name)
    found = find(root)
    assert found.classes == ("1.0", "2.0")
    assert read_labels(found).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;label\na.png;1\n", "its columns are separated by ';'"),
        ("file\tlabel\na, b.png\t1\n", "its columns are separated by tabs"),
        ("", "does not begin with the line file,label"),
        ("a.png,1\n", "does not begin with the line file,label"),
        ("file,label\na.png,1\n", "no label for b.png"),
        ("file,label\na.png,1\nb.png,2\nc.png,3\n", "line 4: there is no picture 'c.png'"),
        ("file,label\na.png,1\nb.png,2\n../secret.png,3\n", "there is no picture '../secret.png'"),
        ("file,label\na.png,1\na.png,2\nb.png,1\n", "line 3: a.png is listed twice"),
        ("file,label\na.png,1\nb.png\n", "line 3: not a file name and a label"),
        ("file,label\na.png,1\nb.png,\n", "line 3: not a file name and a label"),
        ("file,label\na.png,1,2\n", "line 2: not a file name and a label"),
        ('file,label\n"a.png,1\n', "not a CSV file"),
        ("file,label\na.png,1\nb.png," + "x" * 200_000 + "\n", "not a CSV file"),
    ],
)
def test_what_is_wrong_in_a_labels_file_is_named(root, save_picture, text, message):
    save_picture(root / "a.png")
    save_picture(root / "b.png")
    (root / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        find(root)
    assert "labels.csv" in caught.value.message


def test_labels_file_that_is_not_text(root, save_picture):
    save_picture(root / "a.png")
    (root / "labels.csv").write_bytes(b"file,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"labels.csv is not a CSV file in UTF-8"):
        find(root)


def test_near_name_is_suggested(root, save_picture):
    save_picture(root / "kitten.png")
    (root / "labels.csv").write_text("file,label\nkiten.png,1\n")
    with pytest.raises(DataError) as caught:
        find(root)
    assert "did you mean 'kitten.png'" in caught.value.hint


def test_empty_folder_and_folder_without_pictures(root):
    with pytest.raises(DataError, match="there is no picture in"):
        find(root)
    (root / "readme.txt").write_text("x")
    with pytest.raises(DataError, match=r"it has 1 other files, such as readme.txt"):
        find(root)


def test_pictures_beside_class_folders_are_refused(root, save_picture):
    save_picture(root / "a" / "1.png")
    save_picture(root / "b" / "1.png")
    save_picture(root / "loose.png")
    with pytest.raises(DataError, match="both in class folders"):
        find(root)


def test_a_single_subfolder_is_not_taken_for_a_class(root, save_picture):
    save_picture(root / "images" / "1.png")
    with pytest.raises(DataError, match=r"all pictures of .* are in one subfolder, images") as caught:
        find(root)
    assert str(root / "images") in caught.value.hint


def test_hidden_and_foreign_files_are_ignored(root, save_picture):
    save_picture(root / "a.png")
    for name in (".hidden.png", "notes.txt", ".git/x.png", "__MACOSX/._a.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    found = list_pictures(root)
    assert found.names == ("a.png",)
    assert found.ignored == (".git", ".hidden.png", "__MACOSX", "notes.txt")


def test_links_that_leave_the_folder_are_refused(root, tmp_path, save_picture):
    save_picture(root / "a.png")
    outside = save_picture(tmp_path / "outside.png")
    (root / "b.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"b.png is a link that leaves the data folder"):
        find(root)


def test_linked_folders_that_leave_are_refused_and_loops_end(root, tmp_path, save_picture):
    save_picture(root / "a.png")
    (root / "loop").symlink_to(root)
    assert list_pictures(root).ignored == ("loop",)
    save_picture(tmp_path / "other" / "x.png")
    (root / "other").symlink_to(tmp_path / "other")
    with pytest.raises(DataError, match="other is a link that leaves"):
        find(root)


def test_links_inside_and_a_linked_root_are_fine(root, tmp_path, save_picture):
    save_picture(root / "a.png")
    (root / "b.png").symlink_to("a.png")
    (tmp_path / "link").symlink_to(root)
    assert len(find(tmp_path / "link").indices) == 2


def test_broken_link_and_pipe(root, save_picture):
    save_picture(root / "a.png")
    (root / "b.png").symlink_to(root / "gone.png")
    with pytest.raises(DataError, match=r"b.png is a link to nothing"):
        find(root)
    (root / "b.png").unlink()
    os.mkfifo(root / "c.png")
    with pytest.raises(DataError, match=r"c.png is not a file"):
        find(root)


def test_damaged_picture_is_named_when_it_is_read(root, save_picture):
    save_picture(root / "a.png")
    (root / "b.png").write_bytes(b"\x89PNG broken")
    samples = find(root)
    with pytest.raises(DataError, match=r"b.png is not a picture that can be read"):
        list(read_samples(samples, IMAGE_INPUT))


def test_file_that_vanished_is_named(root, save_picture):
    for name in ("a.png", "b.png"):
        save_picture(root / name)
    samples = find(root)
    (root / "b.png").unlink()
    with pytest.raises(DataError, match="has only 1 pictures left"):
        list(read_samples(samples, IMAGE_INPUT))


def test_pictures_need_a_recipe(root, save_picture):
    save_picture(root / "a.png")
    with pytest.raises(DataError, match="no recipe says how") as caught:
        find(root, made=None)
    assert "--recipe" in caught.value.hint


def test_a_folder_of_other_files_is_not_said_to_contain_pictures(root):
    (root / "a.txt").write_text("words")
    with pytest.raises(DataError, match="there is no picture in"):
        find(root, made=None)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        (("N", 3, 9, 16), "recipes new own.toml --from RECIPE --size 9x16"),
        (("N", 1, 9, 16), "choose a recipe with the model's size"),
        (("N", 9, 16, 3), "choose a recipe with the model's size"),
    ],
)
def test_a_recipe_of_another_size_is_said_how_to_copy(root, save_picture, shape, hint):
    save_picture(root / "a.png")
    with pytest.raises(DataError) as caught:
        find(root, inputs=(TensorSpec("x", "float32", shape),))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TensorSpec("x", "float32", ("N", 8, 8, 3)), "makes pictures of shape .*the model's input 'x' is"),
        (TensorSpec("x", "float32", ("N", 1, 8, 8)), "makes pictures of shape"),
        (TensorSpec("x", "float32", ("N", 3, 9, 8)), "makes pictures of shape"),
        (TensorSpec("x", "float32", (4, 3, 8, 8)), "makes pictures of shape"),
        (TensorSpec("x", "float32", (3, 8, 8)), "makes pictures of shape"),
        (TensorSpec("x", "uint8", ("N", 3, 8, 8)), "'x' is float32, the model's input is uint8"),
        (TensorSpec("x", "bfloat16", ("N", 3, 8, 8)), "is of type bfloat16"),
        (TensorSpec("x", "string", ("N", 3, 8, 8)), "is of type string"),
    ],
)
def test_a_recipe_that_does_not_suit_the_model_is_refused_at_once(root, save_picture, spec, message):
    save_picture(root / "a.png")
    with pytest.raises(DataError, match=message):
        find(root, inputs=(spec,))


def test_symbolic_dimensions_fit(root, save_picture):
    save_picture(root / "a.png")
    spec = (TensorSpec("x", "float32", ("N", 3, "h", "w")),)
    assert next(read_samples(find(root, inputs=spec), spec))["x"].shape == (1, 3, 8, 8)


def test_size_of_each_picture_is_checked_when_the_recipe_keeps_it(root, save_picture):
    save_picture(root / "a.png", size=(8, 8))
    save_picture(root / "b.png", size=(9, 8))
    samples = find(root, made=Preprocessing())
    with pytest.raises(DataError, match=r"b.png: 'image' has shape \[1, 3, 8, 9\], the model's input is"):
        list(read_samples(samples, IMAGE_INPUT))


def test_pictures_cannot_feed_two_inputs(root, save_picture):
    save_picture(root / "a.png")
    with pytest.raises(DataError, match="the model has 2 inputs"):
        find(root, inputs=(*IMAGE_INPUT, TensorSpec("mask", "float32", ("N", 1))))


def test_a_pipe_in_place_of_labels_does_not_block(root, save_picture):
    save_picture(root / "a.png")
    os.mkfifo(root / "labels.csv")
    with pytest.raises(DataError, match="not a regular file"):
        find(root)


def test_labels_without_an_end_are_not_read(root, save_picture, monkeypatch):
    from edgepack.data import image_folder

    monkeypatch.setattr(image_folder, "_MOST_LABELS_BYTES", 1000)
    save_picture(root / "a.png")
    (root / "labels.csv").write_text("file,label\n" + "a.png,1\n" * 1000)
    with pytest.raises(DataError, match="larger than 1000 bytes"):
        find(root)


def named_folder(root, save_picture):
    for number, name in enumerate(("cat", "dog", "eel")):
        save_picture(root / name / "a.png", seed=number)
    return root


def test_labels_txt_gives_the_order_of_classes(tmp_path, save_picture):
    root = named_folder(tmp_path, save_picture)
    assert list_pictures(root).labels == (0, 1, 2)
    (root / "labels.txt").write_text("eel\n\ncat\nbird\ndog\n")
    found = list_pictures(root)
    assert found.labels == (1, 3, 0)
    assert found.classes == ("eel", "cat", "bird", "dog")
    assert found.ignored == ()


def test_a_recipes_classes_come_before_labels_txt(tmp_path, save_picture):
    root = named_folder(tmp_path, save_picture)
    (root / "labels.txt").write_text("eel\ncat\ndog\n")
    task = Task("image-classification", classes=("dog", "eel", "cat"))
    samples = find_samples(str(root), None, Preprocessing(resize=(8, 8)), task=task)
    assert samples.classes == task.classes
    assert read_labels(samples).tolist() == [2, 0, 1]
    inputs = (TensorSpec("x", "float32", ("N", 3, 8, 8)),)
    assert len(list(read_samples(samples, inputs))) == 3  # which compares labels and pictures with those chosen
    other = find_samples(str(root), None, Preprocessing(resize=(8, 8)))
    assert other.sha256 != samples.sha256


@pytest.mark.parametrize(
    ("text", "message"), [("cat\ndog\n", "'eel' is not one of the 2 classes"), ("cat\ncat\neel\ndog", "'cat' twice")]
)
def test_classes_that_are_not_those_of_the_folders(text, message, tmp_path, save_picture):
    root = named_folder(tmp_path, save_picture)
    (root / "labels.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        list_pictures(root)


def test_numbers_stay_numbers_unless_they_are_names_of_classes(tmp_path, save_picture):
    for name in ("7", "12"):
        save_picture(tmp_path / name / "a.png")
    assert list_pictures(tmp_path).labels == (12, 7)
    (tmp_path / "labels.txt").write_text("7\n12\n")
    assert list_pictures(tmp_path).labels == (1, 0)


def test_broken_pictures_of_a_folder_can_be_left_out(tmp_path, save_picture):
    root = named_folder(tmp_path, save_picture)
    (root / "dog" / "a.png").write_bytes(b"no picture")
    made = Preprocessing(resize=(8, 8))
    with pytest.raises(DataError, match=r"dog/a\.png is not a picture"):
        list(read_samples(find_samples(str(root), None, made), (TensorSpec("x", "float32", ("N", 3, 8, 8)),)))
    samples = find_samples(str(root), None, made, skip_bad=1)
    assert samples.indices == (0, 2)
    assert "dog" in samples.skipped[0]
    (root / "cat" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="and 1 more") as caught:
        find_samples(str(root), None, made, skip_bad=1)
    assert "--skip-bad 2" in caught.value.hint
    (root / "eel" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no sample of .* can be used"):
        find_samples(str(root), None, made, skip_bad=3)


@pytest.mark.parametrize("parts", [("train", "valid", "test"), ("Train", "Val"), ("training", "testing")])
def test_parts_of_a_data_set_are_not_classes(parts, root, save_picture):
    for part in parts:
        save_picture(root / part / "cat" / "a.png")
    with pytest.raises(DataError, match="are parts of a data set") as caught:
        find(root)
    assert ("--eval" in caught.value.hint) == (parts[0].lower() == "train")
    (root / "labels.txt").write_text("\n".join(parts))  # unless the model calls its classes so
    assert find(root).classes == parts


def test_pictures_in_one_folder_of_classes_are_told_where_to_look(root, save_picture):
    for name in ("cat", "dog"):
        save_picture(root / "train" / name / "a.png")
    with pytest.raises(DataError, match=r"all pictures of .* are in one subfolder, train") as caught:
        find(root)
    assert "whose folders are then the classes" in caught.value.hint


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metadata.csv", "file_name,label\na.png,dog\nb.png,cat\n"),
        ("metadata.jsonl", '{"file_name": "a.png", "label": "dog"}\n{"label": "cat", "file_name": "b.png"}\n'),
    ],
)
def test_metadata_of_datasets_gives_labels(file, text, root, save_picture):
    for name in ("a.png", "b.png"):
        save_picture(root / name)
    (root / file).write_text(text)
    found = list_pictures(root)
    assert (found.labels, found.classes, found.ignored) == ((1, 0), ("cat", "dog"), ())
    assert find(root).kind == "pictures"
    (root / file).write_text(text.replace("b.png", "a.png"))
    with pytest.raises(DataError, match="listed twice"):
        find(root)


def test_what_is_not_read_beside_pictures_and_below_classes_is_noted(root, save_picture):
    save_picture(root / "a.png")
    (root / "train.csv").write_text("id,label\na.png,cat\n")
    assert find(root).notes == ("train.csv beside the pictures is not read: labels stand in labels.csv",)
    deep = root.parent / "deep"
    for name in ("animals/cat", "things/cup"):
        save_picture(deep / name / "a.png")
    assert find(deep).notes == ("folders below a class folder belong to that class, such as animals/cat/a.png",)


def test_an_archive_in_the_folder_is_named(root):
    (root / "data.zip").write_bytes(b"x")
    with pytest.raises(DataError, match="there is no picture in") as caught:
        find(root)
    assert caught.value.hint == f"give the archive, {root / 'data.zip'}"


def test_folders_without_a_picture_are_named(root, save_picture):
    for name in ("cat", "dog"):
        save_picture(root / name / "a.png")
    for name in ("bird", ".cache"):
        (root / name).mkdir()
    assert find(root).notes == ("1 folder has no picture and is not a class: bird",)
    (root / "fish").mkdir()
    (root / "fish" / "notes.txt").write_text("none yet")
    assert find(root).notes == ("2 folders have no picture and are not classes: bird, fish",)
    (root / "labels.txt").write_text("bird\ncat\ndog\nfish\n")  # then they are classes, whose samples lint misses
    assert find(root).notes == ()
