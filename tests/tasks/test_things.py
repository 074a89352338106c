import numpy as np
import pytest
from sounds import encode_wav, noise

from edgepack.errors import ConfigError, DataError
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task
from edgepack.tasks import Making, check_task, prepare

ROW = (TensorSpec("x", "float32", ("N", 2)),)


@pytest.mark.parametrize("kind", ["regression", "anomaly-score"])
def test_a_task_takes_what_its_recipe_makes_inputs_of(kind, tmp_path):
    np.testing.assert_array_equal(prepare({"a": 1, "b": 2}, Making(Task(kind), ROW)).feeds["x"], [[1, 2]])
    (tmp_path / "a.wav").write_bytes(encode_wav(noise(900), 16000))
    sounds = Task(kind, input={"length": 800})
    spec = (TensorSpec("x", "float32", ("N", 800)),)
    assert prepare(tmp_path / "a.wav", Making(sounds, spec)).feeds["x"].shape == (1, 800)
    picture = Making(Task(kind), (TensorSpec("x", "float32", ("N", 3, 4, 4)),), Preprocessing(resize=(4, 4)))
    assert prepare(np.zeros((8, 8, 3), np.uint8), picture).feeds["x"].shape == (1, 3, 4, 4)


def test_settings_of_neither_are_refused():
    for good in ({}, {"length": 800}, {"label": "y"}):
        check_task(Task("regression", input=good))
    with pytest.raises(ConfigError, match="unknown key 'lenght'"):
        check_task(Task("regression", input={"lenght": 800}))
    with pytest.raises(ConfigError, match="hop = 0"):
        check_task(Task("anomaly-score", input={"hop": 0}))


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"123456789012")
    with pytest.raises(DataError, match=r"a\.bin"):
        prepare(tmp_path / "a.bin", Making(Task("regression"), ROW))
