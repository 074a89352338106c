import numpy as np
import pytest

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer, check_task

SCORES = np.full((1, 6, 4), 0.02)
for moment, number in enumerate([1, 1, 0, 1, 3, 2]):
    SCORES[0, moment, number] = 0.94


def read(task, scores=SCORES):
    return answer(task, {"y": scores}, Frame())


def test_the_best_path_is_spelt():
    found = read(Task("text-recognition", settings={"charset": "abc"}))
    assert found.text == "aacb"
    assert found.score == pytest.approx(0.94)
    assert read(Task("text-recognition", classes=("x", "yy", "z"))).text == "xxzyy"
    last = read(Task("text-recognition", settings={"charset": "abc", "blank": "last"}))
    assert last.text == "bab" + "c"[:1]


def test_logits_are_made_probabilities_and_moments_may_come_first():
    task = Task("text-recognition", settings={"charset": "abc", "layout": "time-first"})
    found = read(task, np.log(SCORES).transpose(1, 0, 2) + 7)
    assert found.text == "aacb"
    assert found.score == pytest.approx(0.94)


def test_a_charset_of_another_length_is_said():
    with pytest.raises(DataError, match="4 classes, and 5 letters and a blank are 6"):
        read(Task("text-recognition", settings={"charset": "abcde"}))
    with pytest.raises(ConfigError, match="both charset and classes"):
        check_task(Task("text-recognition", settings={"charset": "abc"}, classes=("a",)))


def test_nothing_is_an_empty_text():
    blank = np.zeros((1, 3, 4))
    blank[:, :, 0] = 1
    found = read(Task("text-recognition", settings={"charset": "abc"}), blank)
    assert (found.text, found.score) == ("", 0.0)
