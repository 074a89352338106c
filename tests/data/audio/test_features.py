import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sounds import noise

from edgepack.data.audio.features import check_sound, feature_shape, sound_input
from edgepack.data.audio.wav import Wav
from edgepack.errors import ConfigError, DataError
from edgepack.specs.signals import Sound

REFERENCES = dict(np.load(Path(__file__).parent / "references.npz"))  # by make_references.py
CASES = sorted(name.removesuffix(".case") for name in REFERENCES if name.endswith(".case"))


def wav(samples: np.ndarray, rate: int = 16000) -> Wav:
    return Wav(np.asarray(samples, np.float32).reshape(len(samples), -1), rate)


def test_the_references_are_of_this_sound():
    np.testing.assert_allclose(REFERENCES["sound"], noise(4000), atol=1e-7)
    assert str(REFERENCES["librosa.version"]) == "0.11.0"
    assert str(REFERENCES["tensorflow.version"]) == "2.21.0"
    assert len(CASES) == 7


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("features", ["log-mel", "mfcc"])
def test_features_are_those_of_the_library_they_are_named_after(case, features):
    definition = case.partition(".")[0]
    settings = json.loads(str(REFERENCES[f"{case}.case"]))
    coefficients = 13 if definition == "librosa" else 10
    made = Sound(features=features, definition=definition, coefficients=coefficients, **settings)
    right = REFERENCES[f"{case}.{features}"]
    found = sound_input(wav(noise(4000)), made, "x")
    found = found.T[..., :6] if definition == "librosa" else found[:6]
    assert found.shape == right.shape
    np.testing.assert_allclose(found, right, atol=1e-4)  # decibels and logarithms; float32 sums differ


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("definition", ["librosa", "tensorflow"])
@pytest.mark.parametrize("features", ["samples", "log-mel", "mfcc"])
@pytest.mark.parametrize("length", [None, 1600, 4096, 16000])
def test_the_shape_is_known_before(first, definition, features, length):
    made = Sound(features=features, definition=definition, length=length, frequency_first=first, hop=160)
    if first and features == "samples":
        return
    said = feature_shape(made)
    if length is not None and 0 in said:
        with pytest.raises(DataError, match="less than one frame"):
            sound_input(wav(noise(3000)), made, "x")
        return
    found = sound_input(wav(noise(3000)), made, "x").shape
    assert len(found) == len(said)
    assert all(isinstance(want, str) or want == have for want, have in zip(said, found, strict=True))


def test_channels_are_averaged_or_the_first_is_taken():
    stereo = wav(np.stack([np.full(10, 0.5), np.full(10, -0.1)], axis=1))
    np.testing.assert_allclose(sound_input(stereo, Sound(), "x"), 0.2, rtol=1e-6)
    np.testing.assert_allclose(sound_input(stereo, Sound(channel="first"), "x"), 0.5)


def test_a_sound_is_cut_or_filled_and_scaled():
    sound = wav(np.array([0.1, -0.5, 0.2]))
    np.testing.assert_allclose(sound_input(sound, Sound(length=2), "x"), [0.1, -0.5])
    np.testing.assert_allclose(
        sound_input(sound, Sound(length=5, peak="magnitude"), "x"), [0.2, -1, 0.4, 0, 0], rtol=1e-6
    )
    np.testing.assert_allclose(sound_input(sound, Sound(peak="maximum"), "x"), [0.5, -2.5, 1], rtol=1e-6)
    np.testing.assert_allclose(sound_input(wav(np.zeros(3)), Sound(peak="magnitude"), "x"), 0)
    found = sound_input(sound, Sound(scale=10, mean=(1.0,), std=(2.0,)), "x")
    np.testing.assert_allclose(found, [0, -3, 0.5], atol=1e-6)


def test_another_rate_is_resampled_first():
    assert sound_input(wav(noise(44100), 44100), Sound(), "x").shape == (16000,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": 0}, "rate = 0"),
        ({"hop": 0}, "hop = 0"),
        ({"length": -1}, "length = -1"),
        ({"mels": 0, "features": "log-mel"}, "mels = 0"),
        ({"std": (0.0,)}, "std above 0"),
        ({"mean": ()}, "mean and std"),
        ({"window_length": 600, "fft_length": 512}, "window of 600"),
        ({"fft_length": 1 << 20, "mels": 4096, "features": "log-mel"}, "4096 mel filters"),
        ({"length": 1 << 40}, "length = "),
        ({"high_hz": 9000.0}, "to 9000 Hz at a rate of 16000"),
        ({"low_hz": 5000.0, "high_hz": 4000.0}, "from 5000 to 4000"),
        ({"features": "mfcc", "mels": 10}, "13 coefficients of 10 mels"),
        ({"definition": "tensorflow", "mel_norm": "slaney"}, "TensorFlow's mel filters"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, words):
    made = dataclasses.replace(Sound(), **changes)
    with pytest.raises(ConfigError, match=words):
        check_sound(made, "x.toml")
    with pytest.raises(ConfigError, match=words):
        sound_input(wav(noise(3000)), made, "x")


def test_what_cannot_be_made_is_named():
    with pytest.raises(DataError, match=r"bell.wav has 300 samples .* one frame of 480"):
        sound_input(wav(noise(300)), Sound(features="mfcc", definition="tensorflow", window_length=480), "bell.wav")
    with pytest.raises(DataError, match=r"bell.wav says that it is recorded at 3 Hz"):
        sound_input(wav(noise(300), 3), Sound(), "bell.wav")
    with pytest.raises(DataError, match="longer than can be resampled"):
        sound_input(Wav(np.broadcast_to(np.float32(0), (2_000_000, 1)), 200), Sound(rate=51000), "bell.wav")
    with pytest.raises(ConfigError, match=r"3 and 1 numbers, a frame of bell.wav has 13"):
        sound_input(wav(noise(3000)), Sound(features="mfcc", mean=(0.0, 1.0, 2.0)), "bell.wav")
