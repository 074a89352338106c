import numpy as np
import pytest

from edgepack.errors import ConfigError
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer, check_task

KINDS = ("text-classification", "audio-classification", "tabular-classification")


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_classes_come_first(kind):
    task = Task(kind, settings={"top": 2}, classes=("a", "b", "c"))
    found = answer(task, {"y": np.log([[0.2, 0.7, 0.1]])}, Frame())
    assert found.names == ("b", "a")
    assert found.scores == pytest.approx((0.7, 0.2))
    assert found.lines() == ("0.700 b", "0.200 a")


def test_with_a_threshold_only_what_reaches_it_is_shown_and_all_is_measured():
    task = Task("audio-classification", settings={"activation": "sigmoid", "threshold": 0.5, "top": 3})
    outputs = {"y": np.array([[3.0, -2.0, 1.0]])}
    assert answer(task, outputs, Frame()).numbers == (0, 2)
    assert answer(task, outputs, Frame(), measuring=True).numbers == (0, 2, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("settings", "words"), [({"top": 0}, "top = 0"), ({"threshold": 2.0}, "threshold = 2"), ({"tpo": 1}, "tpo")]
)
def test_settings_that_cannot_be_meant_are_refused(kind, settings, words):
    with pytest.raises(ConfigError, match=words):
        check_task(Task(kind, settings=settings))
    check_task(Task(kind))


def test_names_of_another_number_of_classes_are_none():
    found = answer(Task("text-classification", classes=("a", "b")), {"y": np.log([[0.2, 0.7, 0.1]])}, Frame())
    assert found.names == ("", "", "")
    assert found.lines()[0] == "0.700 class 1"
