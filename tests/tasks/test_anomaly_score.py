import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer


def test_above_the_threshold_is_unusual():
    task = Task("anomaly-score", settings={"threshold": 0.5, "output": "score"})
    for score, word in ((0.6, "0.6 unusual (threshold 0.5)"), (0.5, "0.5 usual (threshold 0.5)")):
        assert answer(task, {"x": np.zeros(9), "score": np.array([[score]])}, Frame()).lines() == (word,)
    assert answer(Task("anomaly-score"), {"y": np.array(2.0)}, Frame()).summary() == {
        "score": 2.0, "threshold": None, "unusual": None,
    }  # fmt: skip


def test_what_is_no_score_is_said():
    with pytest.raises(DataError, match=r"an output \[3\] is not a score"):
        answer(Task("anomaly-score"), {"y": np.zeros(3)}, Frame())
    with pytest.raises(DataError, match="no output 's'"):
        answer(Task("anomaly-score", settings={"output": "s"}), {"y": np.zeros(1)}, Frame())
