import numpy as np
import pytest
from sounds import encode_wav, noise

from edgepack.data.samples import find_samples, ignored_files, read_labels, read_samples, sample_names
from edgepack.data.sound_folder import as_input, holds_sounds, sound_settings
from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

MFCC = {
    "features": "mfcc", "definition": "tensorflow", "length": 1600, "window_length": 480, "hop": 320,
    "coefficients": 10,
}  # fmt: skip
TASK = Task("audio-classification", input=MFCC)
INPUTS = (TensorSpec("x", "float32", ("N", 4, 10, 1)),)


@pytest.fixture
def folder(tmp_path):
    for kind in ("down", "up"):
        (tmp_path / kind).mkdir()
        for i, (rate, bits, channels) in enumerate([(16000, 16, 1), (44100, 24, 2), (8000, 8, 1)]):
            sound = np.repeat(noise(rate // 10, i)[:, None], channels, axis=1)
            (tmp_path / kind / f"{i}.wav").write_bytes(encode_wav(sound, rate, bits))
    return tmp_path


def test_folders_are_classes_and_files_of_every_kind_inputs(folder):
    found = find_samples(str(folder), INPUTS, None, task=TASK)
    assert (found.kind, found.classes, len(found.indices)) == ("sounds", ("down", "up"), 6)
    np.testing.assert_array_equal(read_labels(found), [0, 0, 0, 1, 1, 1])
    feeds = [feed["x"] for feed in read_samples(found, INPUTS)]
    assert all(feed.shape == (1, 4, 10, 1) and feed.dtype == np.float32 for feed in feeds)
    np.testing.assert_array_equal(feeds[0], feeds[3])


def test_the_task_or_labels_txt_orders_the_classes(folder):
    task = Task("audio-classification", input=MFCC, classes=("up", "down"))
    assert read_labels(find_samples(str(folder), INPUTS, None, task=task)).tolist() == [1, 1, 1, 0, 0, 0]
    (folder / "labels.txt").write_text("stop\nup\ndown\n")
    assert read_labels(find_samples(str(folder), INPUTS, None, task=TASK)).tolist() == [2, 2, 2, 1, 1, 1]


def test_a_csv_may_say_what_they_are(folder):
    names = [f"{kind}/{i}.wav" for kind in ("down", "up") for i in range(3)]
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(names)))
    assert read_labels(find_samples(str(folder), INPUTS, None, task=TASK)).tolist() == [0, 1, 0, 1, 0, 1]


def test_a_broken_file_is_named_and_may_be_left_out(folder):
    (folder / "up" / "0.wav").write_bytes(encode_wav(noise(200), 16000)[:-100])
    found = find_samples(str(folder), INPUTS, None, task=TASK)
    with pytest.raises(DataError, match=r"up/0\.wav is cut short"):
        list(read_samples(found, INPUTS))
    found = find_samples(str(folder), INPUTS, None, task=TASK, skip_bad=1)
    assert len(list(read_samples(found, INPUTS))) == 5
    assert "up/0.wav is cut short" in found.skipped[0]


def test_what_does_not_fit_is_said_before_anything_is_read(folder):
    with pytest.raises(DataError, match=r"makes \[4, 10\] of it, the model's input 'x' is \[N, 49, 10, 1\]"):
        find_samples(str(folder), (TensorSpec("x", "float32", ("N", 49, 10, 1)),), None, task=TASK)
    with pytest.raises(DataError, match="no recipe says how"):
        find_samples(str(folder), INPUTS, None)
    with pytest.raises(ConfigError, match="hop = 0"):
        find_samples(str(folder), INPUTS, None, task=Task("audio-classification", input=MFCC | {"hop": 0}))
    with pytest.raises(DataError, match="2 inputs"):
        find_samples(str(folder), INPUTS * 2, None, task=TASK)


@pytest.mark.parametrize(
    ("shape", "wanted", "right"),
    [
        ((4, 10), ("N", 4, 10), (1, 4, 10)),
        ((4, 10), ("N", 1, 4, 10), (1, 1, 4, 10)),
        ((4, 10), ("N", 4, 10, 1), (1, 4, 10, 1)),
        ((4, 10), (1, "frames", 10), (1, 4, 10)),
        ((7,), ("N", "samples"), (1, 7)),
        ((7,), ("samples",), (7,)),
        ((7,), ("N", 1, 7), (1, 1, 7)),
        ((4, 10), ("N", 10, 4), None),
        ((4, 10), (2, 4, 10), None),
        ((4, 10), ("N", 40), None),
    ],
)
def test_axes_of_one_are_put_in_where_the_model_has_them(shape, wanted, right):
    spec = TensorSpec("x", "float32", wanted)
    if right is None:
        with pytest.raises(DataError, match="the model's input 'x' is"):
            as_input(np.zeros(shape, np.float32), spec, "a.wav")
    else:
        assert as_input(np.zeros(shape, np.float32), spec, "a.wav").shape == right


def test_a_folder_is_of_sounds_by_its_first_file(folder, tmp_path_factory):
    assert holds_sounds(folder)
    other = tmp_path_factory.mktemp("pictures")
    (other / "a.png").write_bytes(b"")
    (other / "b.wav").write_bytes(b"")
    assert not holds_sounds(other)
    assert not holds_sounds(tmp_path_factory.mktemp("empty"))


def test_samples_and_what_is_ignored_have_names(folder):
    (folder / "notes.txt").write_text("x")
    found = find_samples(str(folder), INPUTS, None, task=TASK)
    assert sample_names(found)[0] == "down/0.wav"
    assert ignored_files(found) == ("notes.txt",)


def test_a_model_that_keeps_a_state_is_not_calibrated_with_a_folder(folder):
    task = Task("voice-activity", input={"rate": 16000, "chunk": 512})
    with pytest.raises(DataError, match="takes chunks with the state after the one before") as error:
        sound_settings(task, str(folder))
    assert "chunks.py:chunks" in str(error.value.hint)


def test_a_folder_without_sounds_is_not_asked_for_pictures(tmp_path):
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(DataError, match="there is no sound in"):
        find_samples(str(tmp_path), INPUTS, None, task=TASK)


def test_parts_of_a_data_set_are_not_classes_of_sounds(folder):
    for name, part in (("down", "train"), ("up", "test")):
        (folder / name).rename(folder / part)
    with pytest.raises(DataError, match="are parts of a data set"):
        find_samples(str(folder), INPUTS, None, task=TASK)
