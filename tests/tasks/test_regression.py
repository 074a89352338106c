import numpy as np
import pytest

from edgepack.errors import ConfigError
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer, check_task


def test_numbers_have_names_and_a_unit():
    task = Task("regression", settings={"unit": "°C", "scale": 2.0, "offset": 1.0}, classes=("oven", "room"))
    found = answer(task, {"y": np.array([[10.0, 0.25]], np.float32)}, Frame())
    assert found.values == (21.0, 1.5)
    assert found.lines() == ("oven 21 °C", "room 1.5 °C")
    assert found.summary()["numbers"][0] == {"name": "oven", "value": 21.0}


def test_nan_is_text_in_json():
    found = answer(Task("regression"), {"y": np.array([np.nan])}, Frame())
    assert found.summary()["numbers"][0]["value"] == "nan"


def test_a_scale_of_zero_is_refused():
    with pytest.raises(ConfigError, match="scale = 0"):
        check_task(Task("regression", settings={"scale": 0.0}))
