"""The table of metrics: what each needs, the default, and what is said of a name that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import ConfigError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import Accuracy
from edgepack.verify.closeness import ClosenessSums
from edgepack.verify.metrics import METRICS, Compared, Metric, default_metric, find_metric
from edgepack.verify.outputs import OutputReader, OutputWriter

SCORES = np.array([[3, 1, 0], [0, 2, 1], [1, 0, 2], [0, 5, 1]], np.float32)
LABELS = np.array([0, 1, 2, 0])


def compared(tmp_path: Path, metric: str, found: np.ndarray, labels: np.ndarray | None = LABELS) -> Compared:
    """Return SCORES of the fp32 model beside ``found``, sample by sample."""
    readers = []
    for name, values in (("fp32", SCORES), ("found", found)):
        with OutputWriter(tmp_path / name, ("y",)) as writer:
            for row in values:
                writer.add({"y": row[None]})
            readers.append(OutputReader(writer.finish()))
    sums = ClosenessSums(("y",))
    for first, second in zip(SCORES, found, strict=True):
        sums.add({"y": first[None]}, {"y": second[None]})
    return Compared(metric, sums.result(0), readers[0], readers[1], ("y",), labels, 0)


def test_every_metric_says_what_it_needs() -> None:
    found = dict(METRICS.all())
    assert {name for name, metric in found.items() if metric.needs_labels} == {
        "top1", "top5", "nearest-centre", "module:function",
    }  # fmt: skip
    assert {name for name, metric in found.items() if metric.needs_scores} == {"top1", "top5", "agreement"}
    assert {name for name, metric in found.items() if not metric.has_drop} == {"sqnr"}


@pytest.mark.parametrize(("name", "fp32", "value"), [("top1", 0.75, 0.5), ("top5", 1.0, 1.0), ("agreement", 1.0, 0.75)])
def test_figures_of_both_models_on_the_same_samples(tmp_path: Path, name: str, fp32: float, value: float) -> None:
    other = SCORES.copy()
    other[2] = [3, 0, 2]
    answer = find_metric(name).measure(compared(tmp_path, name, other))
    assert isinstance(answer, Accuracy)
    assert (answer.metric, answer.n, answer.fp32, answer.value) == (name, 4, fp32, value)
    assert answer.drop == pytest.approx(fp32 - value)
    assert answer.ci95[0] <= answer.drop <= answer.ci95[1]


def test_the_cosine_of_equal_outputs_is_one(tmp_path: Path) -> None:
    answer = find_metric("cosine").measure(compared(tmp_path, "cosine", SCORES * 2, None))
    assert isinstance(answer, Accuracy)
    assert (answer.value, answer.drop) == (pytest.approx(1.0), pytest.approx(0.0))


def test_sqnr_says_where_its_figure_is(tmp_path: Path) -> None:
    assert "sqnr_db" in str(find_metric("sqnr").measure(compared(tmp_path, "sqnr", SCORES, None)))


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels from 0 to 2"):
        find_metric("top1").measure(compared(tmp_path, "top1", SCORES, np.array([0, 1, 2, 3])))


def test_a_reference_is_the_users_function(tmp_path: Path) -> None:
    file = tmp_path / "score.py"
    file.write_text("def right(outputs, labels):\n    return (outputs.argmax(axis=1) == labels).mean()\n")
    name = f"{file}:right"
    assert name not in METRICS
    answer = find_metric(name).measure(compared(tmp_path, name, SCORES))
    assert isinstance(answer, Accuracy)
    assert (answer.metric, answer.fp32, answer.value, answer.drop) == (name, 0.75, 0.75, 0.0)


@pytest.mark.parametrize(("name", "hint"), [("topp1", "did you mean 'top1'"), ("nonsense", "or module:function")])
def test_an_unknown_name_is_no_users_function(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown metric '{name}'") as caught:
        find_metric(name)
    assert hint in caught.value.hint


def test_a_build_measures_top1_where_labels_and_outputs_allow() -> None:
    scores, boxes = TensorSpec("y", "float32", ("N", 10)), TensorSpec("y", "float32", ("N", 4, 100))
    assert default_metric((scores,), labelled=True) == "top1"
    assert default_metric((boxes,), labelled=False) == "top1"
    with pytest.raises(ConfigError, match="not class scores") as caught:
        default_metric((boxes,), labelled=True)
    assert "module:function" in caught.value.hint
    assert "rmse" not in caught.value.hint
    for shape in (("N",), ("N", 1)):
        with pytest.raises(ConfigError, match="not class scores") as caught:
            default_metric((TensorSpec("y", "float32", shape),), labelled=True)
        assert "--metric rmse" in caught.value.hint


@pytest.mark.parametrize("name", list(METRICS.own))
def test_every_row_is_a_metric(name: str) -> None:
    assert isinstance(METRICS.get(name), Metric)
