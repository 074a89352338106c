"""What a row may lose, and how it is said."""

from __future__ import annotations

import dataclasses

import pytest

from edgepack.errors import GateError
from edgepack.pipeline.limits import _dropped, check_row
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.data import Finding
from edgepack.specs.run import Accuracy, Verification
from edgepack.verify.closeness import Closeness
from edgepack.verify.evaluate import Evaluation


def test_what_was_lost_is_said_in_the_unit_of_the_metric() -> None:
    error = Accuracy("mae", 50, 40.0, 42.5, 2.5, (1.0, 4.0))
    assert _dropped(error, "int8", 2.0) == (
        "int8 makes mae worse by 2.5 (40 to 42.5, n=50, 95 % interval 1 to 4), more than the 2 allowed"
    )
    letters = Accuracy("cer", 50, 0.01, 0.04, 0.03, (0.01, 0.05))
    assert "int8 raises cer by 3.00 points (1.00 to 4.00 %" in _dropped(letters, "int8", 0.01)
    share = Accuracy("top1", 50, 0.9, 0.8, 0.1, (0.05, 0.15))
    assert "int8 drops top1 by 10.00 points (90.00 to 80.00 %" in _dropped(share, "int8", 0.01)


def test_an_accuracy_that_the_check_of_the_samples_disproves_misses_the_gate() -> None:
    settings = BuildSettings(model="m.onnx", targets=("host-onnxruntime",))
    accuracy = Accuracy("top1", 100, 0.4, 0.4, 0.0, (-0.01, 0.01))
    close = Closeness(100, 40.0, None, 1.0, None, 1.0, None)
    evaluation = Evaluation(Verification(True, (), 4, "x", {}, ()), accuracy, None, close)
    warning = Finding("preprocessing", "warning", "the preprocessing does not fit the model", "encode pixels as RGB")
    check_row(evaluation, settings, "int8", 0, (warning,))
    proven = (dataclasses.replace(warning, proven=True),)
    with pytest.raises(GateError, match="the preprocessing does not fit the model") as caught:
        check_row(evaluation, settings, "int8", 0, proven)
    assert caught.value.hint == "encode pixels as RGB"
    check_row(dataclasses.replace(evaluation, accuracy=None), settings, "int8", 0, proven)
