"""Pascal VOC: the lists in ImageSets are parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from shape_data import NAMES, write_voc

from edgepack.data.samples import find_samples, sample_names
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
