"""The user's own metric: what it is given, what it may return, and its interval."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgepack.errors import ConfigError, DataError, EdgepackError
from edgepack.specs.run import Accuracy
from edgepack.verify.metrics.user_function import METRIC, user_metric_code

VALUES = np.arange(8, dtype=np.float32)[:, None]


class Outputs:
    """What ``OutputReader`` is asked here."""

    def __init__(self, **values: np.ndarray) -> None:
        self._values = values

    def whole(self, name: str) -> np.ndarray:
        return self._values[name]


@pytest.fixture
def metric(tmp_path: Path) -> Any:
    def write(body: str) -> str:
        path = tmp_path / "score.py"
        path.write_text(f"import numpy as np\ndef score(outputs, labels):\n    {body}\n")
        return f"{path}:score"

    return write


def compared(reference: str, expected: Outputs, found: Outputs, labels: Any, *names: str, seed: int = 0) -> Any:
    return SimpleNamespace(metric=reference, names=names or ("y",), labels=np.asarray(labels), expected=expected,
                           found=found, seed=seed)  # fmt: skip


def measure(reference: str, labels: Any = range(8), seed: int = 0) -> Accuracy:
    answer = METRIC.measure(compared(reference, Outputs(y=VALUES), Outputs(y=VALUES / 2), labels, seed=seed))
    assert isinstance(answer, Accuracy)
    return answer


def test_both_models_are_measured_on_all_samples(metric: Any) -> None:
    answer = measure(metric("return (outputs[:, 0] * labels).sum()"))
    assert (answer.n, answer.fp32, answer.value, answer.drop) == (8, 140.0, 70.0, 70.0)


def test_the_interval_is_of_paired_resamples_fixed_by_the_seed(metric: Any) -> None:
    reference = metric("return outputs.mean()")
    first, again, other = (measure(reference, seed=seed) for seed in (1, 1, 2))
    assert first.ci95 == again.ci95 != other.ci95
    # The difference of a resample is half the mean of eight draws of 0..7: between these, and not a point.
    assert 0 < first.ci95[0] < 1.75 < first.ci95[1] < 3.5


def test_a_difference_that_is_the_same_for_every_sample_has_no_width(metric: Any) -> None:
    reference = metric("return outputs.mean()")
    answer = METRIC.measure(compared(reference, Outputs(y=VALUES), Outputs(y=VALUES - 0.5), range(8)))
    assert isinstance(answer, Accuracy)
    assert answer.ci95 == pytest.approx((0.5, 0.5))


def test_several_outputs_come_as_a_dict(metric: Any) -> None:
    reference = metric("return (outputs['a'] - outputs['b']).mean()")
    outputs = Outputs(a=VALUES + 3, b=VALUES)
    answer = METRIC.measure(compared(reference, outputs, outputs, range(8), "a", "b"))
    assert isinstance(answer, Accuracy)
    assert (answer.value, answer.drop) == (3.0, 0.0)


def test_labels_of_another_number_are_refused(metric: Any) -> None:
    with pytest.raises(DataError, match="there are 5 labels for 8 outputs"):
        measure(metric("return 1.0"), labels=range(5))


@pytest.mark.parametrize("value", ["np.nan", "np.inf", "-np.inf"])
def test_a_figure_that_is_not_finite_is_refused(metric: Any, value: str) -> None:
    with pytest.raises(DataError, match=f"returned {value.removeprefix('np.').replace('-np.', '-')}") as caught:
        measure(metric(f"return {value}"))
    assert "finite number" in str(caught.value.hint)


@pytest.mark.parametrize("body", ["return 'high'", "return None", "return outputs", "raise KeyError('scores')"])
def test_what_goes_wrong_in_it_names_it(metric: Any, body: str) -> None:
    reference = metric(body)
    with pytest.raises(EdgepackError, match=r"score\.py:score"):
        measure(reference)


def test_its_code_is_imported_before_any_work(metric: Any, tmp_path: Path) -> None:
    assert user_metric_code(metric("return 1.0"), tmp_path / "out") == tmp_path / "out"
    with pytest.raises(ConfigError):
        user_metric_code(f"{tmp_path / 'score.py'}:another", tmp_path / "out")
