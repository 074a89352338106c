"""One set of shapes in COCO's, YOLO's and Pascal VOC's form: the same samples and labels; and what may be wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shape_data import NAMES, draw, write_coco, write_voc, write_yolo

from edgepack.data.samples import find_samples, read_any_labels, read_frames, read_samples, sample_names, split_samples
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

MADE = Preprocessing(resize=(32, 32), letterbox=True)
INPUTS = (TensorSpec("x", "float32", (1, 3, 32, 32)),)
WRITERS = {"coco": write_coco, "yolo": write_yolo, "pascal-voc": write_voc}


def find(place: Path | str, order: tuple[str, ...] = NAMES, skip_bad: int = 0) -> SampleSet:
    task = Task("object-detection", "yolo", classes=order)
    return find_samples(str(place), INPUTS, MADE, task=task, skip_bad=skip_bad)


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_same_boxes(form: str, tmp_path: Path) -> None:
    place = WRITERS[form](tmp_path / "x")
    samples = find(place)
    assert samples.kind == form
    assert samples.classes == NAMES
    assert len(samples.indices) == 6
    for seed, label in enumerate(read_any_labels(samples)):
        expected = np.array([thing[1:] for thing in draw(seed)[1]], float)
        assert label.corners == pytest.approx(expected, abs=1e-6)
        assert label.numbers.tolist() == [thing[0] for thing in draw(seed)[1]]
        assert (label.height, label.width) == (80, 120)


@pytest.mark.parametrize("form", WRITERS)
def test_samples_are_read_with_their_labels_and_checked(form: str, tmp_path: Path) -> None:
    samples = find(WRITERS[form](tmp_path / "x"))
    assert len(list(read_samples(samples, INPUTS))) == 6  # which compares the digest at the end
    one, other = split_samples(samples, 2, 0)
    assert len(list(read_samples(one, INPUTS))) == 2
    assert {frame.width for frame in read_frames(other)} == {120}
    assert not set(sample_names(one)) & set(sample_names(other))


@pytest.mark.parametrize("form", WRITERS)
def test_labels_have_the_models_order_of_classes(form: str, tmp_path: Path) -> None:
    samples = find(WRITERS[form](tmp_path / "x"), ("cross", "a thing", "Circle", "square"))
    numbers = [[{0: 2, 1: 3, 2: 0}[thing[0]] for thing in draw(seed)[1]] for seed in range(6)]
    assert [label.numbers.tolist() for label in read_any_labels(samples)] == numbers
    assert any("nothing of 1 of 4 classes is labelled" in note and "a thing" in note for note in samples.notes)


@pytest.mark.parametrize("form", WRITERS)
def test_without_an_order_the_sources_own_holds(form: str, tmp_path: Path) -> None:
    samples = find(WRITERS[form](tmp_path / "x"), ())
    assert samples.classes == (NAMES if form != "pascal-voc" else tuple(sorted(NAMES)))


@pytest.mark.parametrize("form", WRITERS)
def test_classes_that_the_model_lacks_are_not_counted_and_said(form: str, tmp_path: Path) -> None:
    samples = find(WRITERS[form](tmp_path / "x"), ("square", "cross"))
    assert any("of a class that the model does not have" in note and "circle" in note for note in samples.notes)
    with pytest.raises(DataError, match=r"no class of .* is one of the model's 2"):
        find(tmp_path / "x" / "instances.json" if form == "coco" else tmp_path / "x", ("dog", "cat"))


@pytest.mark.parametrize("form", WRITERS)
def test_a_changed_label_is_another_set(form: str, tmp_path: Path) -> None:
    place = WRITERS[form](tmp_path / "x")
    before = find(place).sha256
    name = {"coco": "instances.json", "yolo": "labels/000.txt", "pascal-voc": "Annotations/000.xml"}[form]
    path = tmp_path / "x" / name
    left = draw(0)[1][0][1]
    if form == "coco":
        data = json.loads(path.read_text())
        data["annotations"][0]["bbox"][0] += 1
        path.write_text(json.dumps(data))
    elif form == "yolo":
        words = path.read_text().split(" ")
        path.write_text(" ".join([words[0], str(float(words[1]) + 0.001), *words[2:]]))
    else:
        path.write_text(path.read_text().replace(f"<xmin>{left + 1}<", f"<xmin>{left + 2}<", 1))
    assert find(place).sha256 != before


@pytest.mark.parametrize("form", WRITERS)
def test_a_picture_that_changes_during_a_run_is_seen(form: str, tmp_path: Path) -> None:
    samples = find(WRITERS[form](tmp_path / "x"))
    picture = next((tmp_path / "x").rglob("000.png"))
    shutil.copy(picture.with_name("001.png"), picture)
    with pytest.raises(DataError, match="changed after its samples were chosen"):
        list(read_samples(samples, INPUTS))


@pytest.mark.parametrize("form", WRITERS)
def test_broken_pictures_can_be_left_out(form: str, tmp_path: Path) -> None:
    place = WRITERS[form](tmp_path / "x")
    picture = next((tmp_path / "x").rglob("002.png"))
    picture.write_bytes(picture.read_bytes()[:300])
    samples = find(place, skip_bad=1)
    assert samples.indices == (0, 1, 3, 4, 5)
    assert "002.png" in samples.skipped[0]
    assert len(list(read_samples(samples, INPUTS))) == 5


def test_a_box_outside_its_picture_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    data["annotations"][0]["bbox"] = [100, 10, 40, 10]
    path.write_text(json.dumps(data))
    with pytest.raises(
        DataError, match=r"the annotation 1: the box of .* lies outside its picture of 120x80"
    ) as caught:
        find(path)
    assert "--skip-bad 1" in str(caught.value.hint)
    samples = find(path, skip_bad=1)
    assert samples.indices == (1, 2, 3, 4, 5)
    assert "outside" in samples.skipped[0]


def test_a_label_without_a_file_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    coco, yolo, voc = (writer(tmp_path / name) for name, writer in WRITERS.items())
    for root in (tmp_path / "coco", tmp_path / "yolo", tmp_path / "pascal-voc"):
        next(root.rglob("003.png")).unlink()
    for place in (coco, yolo, voc):
        with pytest.raises(DataError, match=r"003.* no "):
            find(place)
        samples = find(place, skip_bad=1)
        assert len(samples.indices) == 5
        assert len(list(read_samples(samples, INPUTS))) == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "has 4 values, not 5"),
        ("0 0.5 0.5 0.1 nan", "'nan' is not a number"),
        ("0 0.5 -inf 0.1 0.1", "'-inf' is not a number"),
        ("nan 0.5 0.5 0.1 0.1", "'nan' is not a number"),
        ("x 0.5 0.5 0.1 0.1", "'x' is not a number"),
        ("0.5 0.5 0.5 0.1 0.1", "the class 0.5 is not a whole number"),
        ("7 0.5 0.5 0.1 0.1", "there is no class 7; there are 0 to 2"),
        ("0 1.5 0.5 0.1 0.1", "outside its picture"),
        ("0 0.5 0.5 -0.1 0.1", "has no area"),
        ("0 0.3 0.7 0 0.1", "has no area"),
        ("0 0.3 0.7 0.1 0", "has no area"),
        ("0 0.1 0.1 0.5 0.1 0.3 0.1", "has no area"),
    ],
)
def test_lines_that_are_wrong_are_named(line: str, message: str, tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "001.txt").write_text(line)
    with pytest.raises(DataError, match=rf"001\.txt line 1.*{message}"):
        find(root)
    assert find(root, skip_bad=1).indices == (0, 2, 3, 4, 5)


@pytest.mark.parametrize("sides", [(0, 9), (9, 0), (-5, 9), (float("nan"), 9)])
def test_boxes_without_an_area_are_refused_in_cocos_form_too(sides: tuple[float, float], tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    data["annotations"][0]["bbox"][2:] = sides
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"the annotation 1: a box .* has no area"):
        find(path)
    assert find(path, skip_bad=1).indices == (1, 2, 3, 4, 5)


def test_polygons_and_pictures_without_a_thing(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "001.txt").write_text("1 0.1 0.1 0.5 0.2 0.3 0.6")
    (root / "labels" / "002.txt").unlink()
    labels = read_any_labels(find(root))
    assert labels[1].corners == pytest.approx(np.array([[12, 8, 60, 48]]))
    assert len(labels[2]) == 0


def test_points_are_read(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    for path in (root / "labels").glob("*.txt"):
        path.write_text("0 0.5 0.5 0.2 0.2 0.5 0.25 2 0.1 0.5 0")
    (root / "data.yaml").write_text("val: images\nnames: [circle]\nkpt_shape: [2, 3]\n")
    label = read_any_labels(find(root, ("circle",)))[0]
    assert label.points.tolist() == [[[60, 20, 2], [12, 40, 0]]]
    coco = write_coco(tmp_path / "coco")
    data = json.loads(coco.read_text())
    for row in data["annotations"]:
        row["keypoints"] = [10, 11, 2, 0, 0, 0]
    coco.write_text(json.dumps(data))
    assert read_any_labels(find(coco))[0].points[0].tolist() == [[10, 11, 2], [0, 0, 0]]


def test_difficult_things_and_crowds_are_asked_of_nobody(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "Annotations" / "000.xml"
    path.write_text(path.read_text().replace("</name>", "</name><difficult>1</difficult>", 1))
    assert read_any_labels(find(root))[0].crowd[0]


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
        "<annotation><size><width>nan</width><height>1</height></size></annotation>",
        "<annotation><size><width>9</width><height>9</height></size><object/></annotation>",
        "<annotation><size>",
        '<?xml version="1.0" encoding="hex"?><annotation/>',
    ],
)
def test_xml_that_is_no_annotation_is_refused(text: str, tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "001.xml").write_text(text)
    with pytest.raises(DataError, match=r"001\.xml"):
        find(root)


def test_xml_whose_entities_are_in_utf_16_is_refused(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
    (root / "Annotations" / "001.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(DataError, match="UTF-8"):
        find(root)


@pytest.mark.parametrize("first", [b"", "<annotation/>".encode("utf-16")])
def test_a_folder_whose_first_annotation_is_damaged_is_not_taken_for_unlabelled(first: bytes, tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "000.xml").write_bytes(first)
    with pytest.raises(DataError, match=r"000\.xml"):
        find(root)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "Annotations" / "001.xml"
    whole = path.read_text()
    path.write_text(whole.replace("<filename>", f"<filename>{'a' * 300}"))
    with pytest.raises(DataError, match="too long"):
        find(root)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file"):
        find(root)


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_a_thing_that_is_labelled_twice_is_noted(form: str, tmp_path: Path) -> None:
    """pycocotools counts it twice, so that half of its labels are never found; the user would not know why."""
    place = WRITERS[form](tmp_path)
    assert not any("twice" in note for note in find(place).notes)
    if form == "coco":
        data = json.loads(place.read_text())
        data["annotations"].append({**data["annotations"][0], "id": 99})
        place.write_text(json.dumps(data))
    else:
        labels = place / "labels" / "000.txt"
        labels.write_text("\n".join([*labels.read_text().splitlines(), labels.read_text().splitlines()[0]]))
    assert any("a thing is labelled twice" in note for note in find(place).notes)


def test_several_files_of_labels_must_be_named(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    shutil.copy(path, tmp_path / "other.json")
    with pytest.raises(DataError, match="several files of labels"):
        find(tmp_path)
    assert find(path).kind == "coco"
    (tmp_path / "other.json").unlink()
    assert find(tmp_path).sha256 != ""


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- 1",
        "val: nowhere\nnames: [a]",
        "names: [a]",
        "val: images\nnames: {x: y}",
        "val: images\nkpt_shape: 3",
        "val: images\nnames: abc",
        "val: images\nnames: {.inf: a}",
        "val: images\nnames: {0.5: a, 1.5: b}",
        "val: images\nnames: {0: a, '0': b}",
        "val: images\nnames: [circle, no, cross]",  # YAML's False
        "val: images\nnames: [circle, square, cross]\nnc: 4",
        "val: 2020-13-45\nnames: [a]",
        "a: &a0 [x]\n" + "".join(f"b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)) + "names: *a9",
    ],
)
def test_yaml_that_says_nothing_is_refused(text: str, tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "data.yaml").write_text(text)
    with pytest.raises(DataError):
        find(root)


def test_a_list_of_names_may_be_numbered_by_text_and_lines_begin_with_a_mark_of_order(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "data.yaml").write_text('{"val": "images", "nc": 3, "names": {"0": "circle", "1": "square", "2": "cross"}}')
    before = find(root).sha256
    for path in (root / "labels").glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert find(root).sha256 == before


def test_a_part_of_a_yolo_folder_is_named(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    shutil.copytree(root / "images", root / "more" / "images")
    shutil.copytree(root / "labels", root / "more" / "labels")
    (root / "more" / "images" / "000.png").unlink()
    (root / "more" / "labels" / "000.txt").unlink()
    (root / "data.yaml").write_text("train: more/images\nval: images\nnames: [circle, square, cross]\n")
    assert len(find(root).indices) == 6
    assert len(find(f"{root}/data.yaml:train").indices) == 5
    (root / "data.yaml").unlink()
    assert len(find(root).indices) == 6  # images and labels alone


@pytest.mark.parametrize("form", ["coco", "pascal-voc"])
def test_pictures_of_another_size_than_their_labels_say_are_named(form: str, tmp_path: Path) -> None:
    """Scaled copies with the old labels would be measured as if nothing were found."""
    place = WRITERS[form](tmp_path / "x")
    picture = next((tmp_path / "x").rglob("004.png"))
    Image.open(picture).resize((60, 40)).save(picture)
    with pytest.raises(DataError, match=r"004\.png has 60x40 pixels, and .* labels one of 120x80"):
        find(place)
    assert find(place, skip_bad=1).indices == (0, 1, 2, 3, 5)


@pytest.mark.parametrize("order", [(), NAMES])
@pytest.mark.parametrize(("form", "ids"), [("coco", "5 and 11"), ("yolo", "0 and 2")])
def test_two_classes_of_one_name_are_refused(form: str, ids: str, order: tuple[str, ...], tmp_path: Path) -> None:
    place = WRITERS[form](tmp_path, names=("circle", "square", "circle"))
    with pytest.raises(DataError, match=rf"the classes {ids} are both named 'circle'") as error:
        find(place, order)
    assert "name of its own" in str(error.value.hint)


@pytest.mark.parametrize("used", [False, True])
def test_a_category_that_only_groups_another_of_its_name_is_no_class(used: bool, tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    data["categories"] = [{**row, "supercategory": "circle"} for row in data["categories"]]
    data["categories"].insert(0, {"id": 0, "name": "circle", "supercategory": "none"})
    if used:
        data["annotations"][0]["category_id"] = 0
    path.write_text(json.dumps(data))
    if used:
        with pytest.raises(DataError, match=r"the classes 0 and 5 are both named 'circle'"):
            find(path, ())
        return
    samples = find(path, ())
    assert samples.classes == NAMES
    expected = [[thing[0] for thing in draw(seed)[1]] for seed in range(6)]
    assert [label.numbers.tolist() for label in read_any_labels(samples)] == expected


@pytest.mark.parametrize("form", WRITERS)
def test_a_name_that_two_of_the_models_classes_have_is_refused(form: str, tmp_path: Path) -> None:
    place = WRITERS[form](tmp_path)
    with pytest.raises(DataError, match=r"two of the model's classes are named 'circle'"):
        find(place, ("circle", "square", "cross", "circle"))
    assert find(place, (*NAMES, "dog", "dog")).classes == (*NAMES, "dog", "dog"), "nothing is labelled with it"


def test_a_name_is_found_as_it_is_written_before_it_is_found_in_another_spelling(tmp_path: Path) -> None:
    place = write_yolo(tmp_path, names=("circle", "square", "Circle"))
    labels = read_any_labels(find(place, ("Circle", "circle", "square")))
    expected = [[{0: 1, 1: 2, 2: 0}[thing[0]] for thing in draw(seed)[1]] for seed in range(6)]
    assert [label.numbers.tolist() for label in labels] == expected


def test_a_file_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    data["images"].append({**data["images"][0], "id": 77, "file_name": "./000.png"})
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"lists 000\.png twice, as the pictures 10 and 77"):
        find(path)


def test_two_annotations_of_one_picture_are_refused(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "Annotations" / "004.xml"
    path.write_text(path.read_text().replace("004.png", "001.png"))
    with pytest.raises(DataError, match=r"001\.xml and 004\.xml in .* are both of 001\.png"):
        find(root)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("images", r"'000\.png' and '001\.png' have one id as picture, 10"),
        ("categories", "'circle' and 'square' .*, 5"),
    ],
)
def test_two_things_of_one_id_are_refused(key: str, message: str, tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    data[key][1]["id"] = data[key][0]["id"]
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        find(path)


@pytest.mark.parametrize(
    ("form", "labels", "kept", "one", "some"),
    [
        ("yolo", "labels", 6, "1 of 6 pictures of {} has no label file (taken as empty)", "3 of 6 pictures of {} have"),
        (
            "pascal-voc",
            "Annotations",
            3,
            "1 of 6 pictures of {}/JPEGImages has no annotation and is left out",
            "3 of 6 pictures of {}/JPEGImages have no annotation and are left out",
        ),
    ],
)
def test_pictures_without_labels_are_counted_in_a_note(
    form: str, labels: str, kept: int, one: str, some: str, tmp_path: Path
) -> None:
    place = WRITERS[form](tmp_path)
    assert not any("pictures of" in note for note in find(place).notes)
    files = sorted((tmp_path / labels).iterdir())
    files[0].unlink()
    assert find(place).notes[0] == one.format(tmp_path)
    for path in files[1:3]:
        path.unlink()
    samples = find(place)
    assert samples.notes[0].startswith(some.format(tmp_path))
    assert len(samples.indices) == kept
