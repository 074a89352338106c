"""Pascal VOC: the lists in ImageSets are parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from shape_data import NAMES, write_coco, write_voc

from edgepack.data.samples import find_samples, read_any_labels, sample_names, stated_classes
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.task import Task


def find(root: Path) -> SampleSet:
    return find_samples(str(root), None, Preprocessing(resize=(32, 32)), task=Task("object-detection", classes=NAMES))


def test_a_list_of_pictures_is_a_part(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("000\n001\n")
    assert not any("all parts" in note for note in find(root).notes)  # CVAT always writes one list
    (lists / "val.txt").write_text("003 1\n004 -1\n")
    assert any("all parts" in note and str(lists / "val.txt") in note for note in find(root).notes)
    samples = find(lists / "val.txt")
    assert [Path(name).stem for name in sample_names(samples)] == ["003", "004"]
    assert not any("all parts" in note or "outside" in note for note in samples.notes)
    (lists / "val.txt").write_text("gone\n")
    with pytest.raises(DataError, match=r"nothing that .* lists is in"):
        find(lists / "val.txt")


@pytest.mark.parametrize("size", ["<size><width>0</width><height>0</height><depth>0</depth></size>", ""])
def test_a_size_that_is_not_stated_is_the_pictures(size: str, tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    for path in (root / "Annotations").iterdir():
        text = path.read_text()
        start, end = text.index("<size>"), text.index("</size>") + len("</size>")
        path.write_text(text[:start] + size + text[end:])
    assert {(label.height, label.width) for label in read_any_labels(find(root))} == {(80, 120)}


def test_folders_in_annotations_are_those_of_the_pictures(tmp_path: Path) -> None:
    """They were not looked into: all but the files above them were left out without a word."""
    root = write_voc(tmp_path)
    usual = [label.digest() for label in read_any_labels(find(root))]
    for folder, suffix, end in ((root / "JPEGImages", ".png", ".png"), (root / "Annotations", ".xml", ".XML")):
        for number in range(6):
            (folder / "ab"[number // 3]).mkdir(exist_ok=True)
            # Two pictures have one name.
            moved = folder / "ab"[number // 3] / f"{number % 3}{end}"
            (folder / f"{number:03}{suffix}").rename(moved)
            if end == ".XML":
                moved.write_text(moved.read_text().replace(f"{number:03}.png", f"{number % 3}.png"))
    samples = find(root)
    assert [label.digest() for label in read_any_labels(samples)] == usual
    assert sample_names(samples)[3] == "JPEGImages/b/0.png"
    (root / "Annotations" / "a" / "1.XML").unlink()
    assert any(note.startswith("1 of 6 pictures") for note in find(root).notes)


def test_names_in_annotations_number_no_classes(tmp_path: Path) -> None:
    task = Task("object-detection", classes=("other",))
    assert stated_classes(str(write_voc(tmp_path / "voc")), None, task) == ()
    assert stated_classes(str(write_coco(tmp_path / "coco")), None, task) == NAMES
