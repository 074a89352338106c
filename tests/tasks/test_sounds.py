import numpy as np
import pytest
from sounds import encode_wav, noise

from edgepack.data.audio.wav import Wav
from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task
from edgepack.tasks import Making, check_task, prepare

TASK = Task("audio-classification", input={"length": 800})
MAKING = Making(TASK, (TensorSpec("x", "float32", ("N", 800)),))


def test_a_file_a_sound_and_an_array_are_the_same_thing(tmp_path):
    sound = np.round(noise(1000) * 32768) / 32768
    (tmp_path / "a.wav").write_bytes(encode_wav(sound, 16000))
    things = [tmp_path / "a.wav", str(tmp_path / "a.wav"), Wav(sound[:, None].astype(np.float32), 16000), sound]
    for thing in things:
        found = prepare(thing, MAKING).feeds["x"]
        assert found.shape == (1, 800)
        np.testing.assert_allclose(found[0], sound[:800], atol=1e-7)


@pytest.mark.parametrize(
    "thing", [3, None, np.zeros(0), np.zeros(5, np.int16), np.zeros((2, 2, 2)), np.array([np.nan])]
)
def test_what_is_no_sound_is_refused(thing):
    with pytest.raises(DataError):
        prepare(thing, MAKING)


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(ConfigError, match=r"task: task\.input: hop = 0"):
        check_task(Task("audio-classification", input={"hop": 0}))
    with pytest.raises(ConfigError, match="windw"):
        check_task(Task("audio-classification", input={"windw": "hann"}))
