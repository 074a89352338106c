import numpy as np
import onnxruntime
import pytest
from signal_models import listener

from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.signal_answers import Segment
from edgepack.specs.signals import Speech
from edgepack.specs.task import Frame, Task
from edgepack.tasks import TASKS, Making, answer, check_task, prepare
from edgepack.tasks.voice_activity import chunks, find_names, segments

INPUTS = (
    TensorSpec("input", "float32", ("B", "n")), TensorSpec("state", "float32", (2, "B", 4)),
    TensorSpec("sr", "int64", ()),
)  # fmt: skip
TASK = Task("voice-activity", input={"speech": "speech", "next_state": "next"})


def listen(infer, sound, task=TASK):
    return TASKS.get("voice-activity").stream(infer, sound, Making(task, INPUTS))


def test_chunks_follow_each_other_behind_what_was_before():
    found = list(chunks(np.arange(1, 1101, dtype=np.float32), Speech()))
    assert len(found) == 3
    assert all(piece.shape == (1, 576) for piece in found)
    np.testing.assert_array_equal(found[0][0, :64], 0)
    np.testing.assert_array_equal(found[1][0], np.arange(512 - 63, 1025))
    np.testing.assert_array_equal(found[2][0, 64 + 1100 - 1024 :], 0)


def test_the_state_of_a_chunk_is_fed_with_the_next(tmp_path):
    session = onnxruntime.InferenceSession(listener(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])

    def infer(feeds):
        return dict(zip(("speech", "next"), session.run(["speech", "next"], dict(feeds)), strict=True))

    sound = np.concatenate([np.zeros(16000), np.tile([0.2, -0.2], 8000), np.zeros(16000)])
    outputs, frame = listen(infer, sound)
    level, right = 0.0, []
    for piece in chunks(sound.astype(np.float32), Speech()):
        level = 0.5 * (level + np.abs(piece).mean())
        right.append(min(1.0, 10 * level))
    np.testing.assert_allclose(outputs["speech"], right, atol=1e-6)
    found = answer(TASK, outputs, frame)
    (segment,) = found.segments
    assert segment.start == pytest.approx(1.0, abs=0.1)
    assert segment.end == pytest.approx(2.0, abs=0.15)
    assert found.lines() == (f"{segment.start:.2f} s to {segment.end:.2f} s speech",)


def probabilities(text: str) -> np.ndarray:
    return np.array([{"#": 0.9, "-": 0.4, ".": 0.0, "?": np.nan}[c] for c in text])


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("..........", []),
        ("....###...", []),  # 96 ms are shorter than 250
        ("..##########.....", [(2, 12)]),
        ("..####.#####.....", [(2, 12)]),  # a gap of 32 ms is none
        ("..##########------####", [(2, 22)]),  # 0.4 is not below 0.5 - 0.15
        ("..##########.....##########.....", [(2, 12), (17, 27)]),
        ("##########", [(0, 10)]),
        ("..##########....", [(2, 16)]),  # 96 ms of silence end nothing, and the sound is over
        ("?#########?", [(1, 11)]),
    ],
)
def test_segments_are_long_enough_and_so_are_gaps(text, right):
    made = Speech(pad_ms=0)
    found = segments(probabilities(text), made)
    assert found == tuple(Segment(a * 512 / 16000, b * 512 / 16000) for a, b in right)


def test_segments_are_padded_within_the_sound_and_half_way_to_the_next():
    found = segments(probabilities("##########.....##########"), Speech(pad_ms=1000))
    assert found == (Segment(0.0, 12.5 * 512 / 16000), Segment(12.5 * 512 / 16000, 25 * 512 / 16000))


def test_inputs_are_found_by_their_shapes_and_named_where_they_are_not():
    names = find_names(Speech(), INPUTS)
    assert (names.samples.name, names.state.name, names.sample_rate.name) == ("input", "state", "sr")
    with pytest.raises(DataError, match="are not samples"):
        find_names(Speech(), INPUTS[:1])
    with pytest.raises(DataError, match="no input 'h'"):
        find_names(Speech(state="h"), INPUTS)


def test_outputs_that_are_none_are_named():
    with pytest.raises(DataError, match="are not a probability and a next state"):
        listen(lambda feeds: {"a": np.zeros(7), "b": np.zeros(8)}, np.zeros(600))


def test_one_chunk_is_fed_by_name_and_a_sound_is_not_one():
    feeds = {"input": np.zeros((1, 576), np.float32)}
    assert prepare(feeds, Making(TASK, INPUTS)).feeds == feeds
    with pytest.raises(DataError, match="many runs"):
        prepare("a.wav", Making(TASK, INPUTS))
    assert answer(TASK, {"speech": np.array([[0.9]])}, Frame()).speech == 0.9


@pytest.mark.parametrize(
    "task", [Task("voice-activity", input={"chunk": 0}), Task("voice-activity", settings={"threshold": 0.5})]
)
def test_settings_that_cannot_be_meant_are_refused(task):
    with pytest.raises(ConfigError):
        check_task(task)
