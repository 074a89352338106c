"""miou and pixel-accuracy against sums by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.specs.answer import Mask
from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import METRICS, masks

TRUTH = [np.array([[0, 0, 1, 1]], np.uint16), np.array([[2, 2, Mask.IGNORED, 1]], np.uint16)]
FP32 = TRUTH[0], np.array([[2, 2, 2, 1]], np.uint16)
INT8 = np.array([[0, 1, 1, 1]], np.uint16), np.array([[2, 0, 0, 1]], np.uint16)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Measure a metric of given masks; how answers are made is not looked at here."""

    def measure(metric: str, labels: Any = True) -> Any:
        found = {"fp32": [Mask(m) for m in FP32], "int8": [Mask(m) for m in INT8]}
        truth = [Mask(m) for m in TRUTH] if labels is True else labels
        monkeypatch.setattr(masks, "answers", lambda _compared, reader: iter(found[reader]))
        monkeypatch.setattr(masks, "truths", lambda _compared: truth)
        both = type("Both", (), {"metric": metric, "expected": "fp32", "found": "int8", "labels": truth, "seed": 0})()
        return METRICS.get(metric).measure(both)

    return measure


def test_pixels(measured: Any) -> None:
    result: Accuracy = measured("pixel-accuracy")
    assert (result.fp32, result.value, result.n) == (1.0, pytest.approx(5 / 7), 2)
    assert result.ci95[0] <= result.drop <= result.ci95[1]


def test_mean_of_classes(measured: Any) -> None:
    # class 0: 1 of {2 labelled, 2 answered}; 1: 3 of {3, 4}; 2: 1 of {2, 1}
    assert measured("miou").value == pytest.approx(np.mean([1 / 3, 3 / 4, 1 / 2]))
    assert measured("miou").fp32 == 1.0


def test_masks_of_another_size_are_refused(measured: Any) -> None:
    with pytest.raises(DataError, match="own size"):
        measured("miou", [Mask(np.zeros((2, 2), np.uint16))] * 2)


def test_nothing_labelled(measured: Any) -> None:
    assert "no pixel" in measured("miou", [Mask(np.full((1, 4), Mask.IGNORED, np.uint16))] * 2)


def test_masks_in_another_order_are_seen() -> None:
    doubt = METRICS.get("miou").doubt
    assert doubt is not None
    assert "another order" in str(doubt(None, Accuracy("miou", 9, 0.01, 0.01, 0.0, (0, 0))))  # type: ignore[arg-type]
    assert doubt(None, Accuracy("miou", 9, 0.5, 0.01, 0.0, (0, 0))) is None  # type: ignore[arg-type]


def test_classes_are_measured_by_themselves(measured: Any) -> None:
    found = {one.name: (one.things, one.fp32, round(one.value, 3)) for one in measured("miou").classes}
    assert found == {"class 0": (2, 1.0, 0.333), "class 1": (3, 1.0, 0.75), "class 2": (2, 1.0, 0.5)}
