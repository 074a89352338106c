import dataclasses

import numpy as np
import pytest
from calibrate_inputs import IMAGE_INPUT, random_images
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.data.samples import (
    find_samples,
    ignored_files,
    read_labels,
    read_samples,
    sample_names,
    split_samples,
    take_samples,
)
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing, SampleSet

MADE = Preprocessing(resize=(8, 8), scale=1 / 255)


@pytest.fixture
def folder(tmp_path, save_picture):
    """Six pictures in two class folders."""
    for index in range(6):
        save_picture(tmp_path / "data" / ("cat" if index < 4 else "dog") / f"{index}.png", seed=index)
    return tmp_path / "data"


@pytest.fixture
def npz(save_npz):
    return save_npz(image=random_images(9), labels=np.arange(9) % 3)


def test_all_samples_are_found_and_read_with_a_batch_axis(npz):
    found = find_samples(npz, IMAGE_INPUT, None)
    assert (found.kind, found.labelled, found.indices) == ("npz", True, tuple(range(9)))
    feeds = list(read_samples(found, IMAGE_INPUT))
    np.testing.assert_array_equal(np.concatenate([feed["image"] for feed in feeds]), random_images(9))
    assert read_labels(found).tolist() == [0, 1, 2] * 3


def test_split_is_disjoint_whole_and_reproducible(npz):
    found = find_samples(npz, IMAGE_INPUT, None)
    first, second = split_samples(found, 4, seed=3)
    assert len(first.indices) == 4
    assert sorted(first.indices + second.indices) == list(found.indices)
    assert list(first.indices) == sorted(first.indices)
    assert split_samples(found, 4, seed=3) == (first, second)
    assert split_samples(found, 4, seed=4)[0].indices != first.indices
    assert first.sha256 != second.sha256


@pytest.mark.parametrize("first", [0, 9, 10, -1])
def test_split_that_leaves_a_part_empty_is_refused(npz, first):
    with pytest.raises(DataError, match="cannot be split"):
        split_samples(find_samples(npz, IMAGE_INPUT, None), first, seed=0)


def test_take_is_a_reproducible_subset(npz):
    found = find_samples(npz, IMAGE_INPUT, None)
    taken = take_samples(found, 5, seed=1)
    assert set(taken.indices) < set(found.indices)
    assert take_samples(found, 5, seed=1) == taken
    assert take_samples(found, 9, seed=1) == found
    feeds = [feed["image"][0] for feed in read_samples(taken, IMAGE_INPUT)]
    np.testing.assert_array_equal(feeds, random_images(9)[list(taken.indices)])
    assert read_labels(taken).tolist() == [i % 3 for i in taken.indices]


def test_taking_of_a_part_stays_inside_it(npz):
    first, _ = split_samples(find_samples(npz, IMAGE_INPUT, None), 5, seed=0)
    assert set(take_samples(first, 3, seed=7).indices) < set(first.indices)


def test_fewer_samples_than_asked_for(npz):
    found = find_samples(npz, IMAGE_INPUT, None)
    with pytest.raises(DataError, match=r"asked for 10 samples, found 9 in .*data.npz"):
        take_samples(found, 10, seed=0)
    with pytest.raises(DataError, match="asked for 0 samples"):
        take_samples(found, 0, seed=0)


def test_digest_covers_contents_labels_choice_and_preprocessing(folder, save_picture):
    found = find_samples(str(folder), IMAGE_INPUT, MADE)
    digests = {found.sha256}
    digests.add(find_samples(str(folder), IMAGE_INPUT, dataclasses.replace(MADE, color="BGR")).sha256)
    digests.add(take_samples(found, 5, seed=0).sha256)
    save_picture(folder / "cat" / "0.png", seed=99)
    digests.add(find_samples(str(folder), IMAGE_INPUT, MADE).sha256)
    (folder / "cat").rename(folder / "zebra")
    digests.add(find_samples(str(folder), IMAGE_INPUT, MADE).sha256)
    assert len(digests) == 5


def test_digest_does_not_depend_on_where_the_folder_is(folder):
    first = find_samples(str(folder), IMAGE_INPUT, MADE)
    moved = folder.rename(folder.with_name("elsewhere"))
    assert find_samples(str(moved), IMAGE_INPUT, MADE).sha256 == first.sha256


def test_own_digest_function_is_used(folder):
    asked = []
    find_samples(str(folder), IMAGE_INPUT, MADE, digest=lambda path: asked.append(path.name) or "0" * 64)
    assert len(asked) == 6


def test_picture_changed_meanwhile_is_noticed(folder, save_picture):
    found = find_samples(str(folder), IMAGE_INPUT, MADE)
    assert len(list(read_samples(found, IMAGE_INPUT))) == 6
    save_picture(folder / "dog" / "5.png", seed=50)
    with pytest.raises(DataError, match="changed after its samples were chosen"):
        list(read_samples(found, IMAGE_INPUT))


def test_reading_may_start_later(npz, folder):
    for found in (find_samples(npz, IMAGE_INPUT, None), find_samples(str(folder), IMAGE_INPUT, MADE)):
        whole = [feed["image"] for feed in read_samples(found, IMAGE_INPUT)]
        part = [feed["image"] for feed in read_samples(found, IMAGE_INPUT, start=2)]
        np.testing.assert_array_equal(whole[2:], part)


def test_names_for_messages(folder, npz):
    assert sample_names(find_samples(str(folder), IMAGE_INPUT, MADE))[:2] == ("cat/0.png", "cat/1.png")
    assert sample_names(find_samples(npz, IMAGE_INPUT, None))[1] == "sample 1"


def test_labels_of_an_unlabelled_source(save_npz):
    found = find_samples(save_npz(image=random_images(2)), IMAGE_INPUT, None)
    assert not found.labelled
    with pytest.raises(DataError, match="has no labels"):
        read_labels(found)


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        ("none.npz", "there is no file or folder", "did you mean .*nine.npz"),
        ("nine.npy", "neither a folder nor a .npz", "np.savez"),
        ("nine.py", "neither a folder nor a .npz", "nine.py:function"),
        ("nine.png", "neither a folder nor a .npz", "give the folder of the picture"),
        ("nine.txt", "neither a folder nor a .npz", "module:callable"),
        ("a\0b", "there is no file or folder", ""),
    ],
)
def test_what_is_no_source_is_explained(tmp_path, data, message, hint):
    for name in ("nine.npz", "nine.npy", "nine.py", "nine.png", "nine.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=message) as caught:
        find_samples(str(tmp_path / data), IMAGE_INPUT, None)
    assert pytest.importorskip("re").search(hint, caught.value.hint)


def test_preprocessing_is_for_pictures_only(npz):
    assert find_samples(npz, IMAGE_INPUT, MADE).preprocessing is None


def test_ignored_files_are_told(folder):
    (folder / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    found = find_samples(str(folder), IMAGE_INPUT, MADE)
    assert ignored_files(found) == (".DS_Store", "notes.txt")


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.data())
def test_split_and_take_never_lose_or_share_a_sample(tmp_path_factory, count, data):
    path = tmp_path_factory.getbasetemp() / f"split-{count}.npz"
    if not path.exists():
        np.savez(path, image=random_images(count))
    found = find_samples(str(path), IMAGE_INPUT, None)
    first, second = split_samples(found, data.draw(st.integers(1, count - 1)), data.draw(st.integers(0, 2**32)))
    assert sorted(first.indices + second.indices) == list(range(count))
    taken = take_samples(second, data.draw(st.integers(1, len(second.indices))), 0)
    assert set(taken.indices) <= set(second.indices)
    assert isinstance(taken, SampleSet)
