"""Answers made in the graph against those that the task makes of the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_models import model, value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgepack.embed.answers import Wished, check_postprocessing, put_answers
from edgepack.embed.operators import begin, close
from edgepack.errors import ConfigError
from edgepack.graph.compare import run_model
from edgepack.graph.load import save_proto
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer

FRAME = Frame(64, 64, 64, 64)


def answered(task: Task, array: np.ndarray, folder: Path, *, suppresses: bool = True, probabilities: bool = False):
    """Return the answer of the graph, and of the task."""
    shape = list(array.shape)
    proto = model([helper.make_node("Identity", ["raw"], ["o"])], [value("raw", shape)], [value("o", shape)])
    proto, made = begin(proto)
    found = put_answers(made, Wished(task, {"o": array.shape}, FRAME, suppresses, probabilities))
    close(proto)
    saved = save_proto(proto, folder)
    ran = run_model(saved, {"raw": array})
    outputs = {spec.name: ran[spec.name] for spec in saved.outputs}
    return answer(found.task, outputs, FRAME), answer(task, {"o": array}, FRAME), outputs


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000), count=st.integers(1, 80), classes=st.sampled_from([1, 2, 7]),
    score=st.sampled_from([0.0, 0.3, 0.97]), iou=st.sampled_from([0.2, 0.45, 0.7]), agnostic=st.booleans(),
    most=st.sampled_from([1, 5, 100]), candidates=st.sampled_from([3, 30, 3000]), suppresses=st.booleans(),
)  # fmt: skip
def test_the_graph_finds_the_same_boxes(
    tmp_path_factory, seed, count, classes, score, iou, agnostic, most, candidates, suppresses
) -> None:
    random = np.random.default_rng(seed)
    boxes = np.concatenate([random.uniform(10, 54, (count, 2)), random.uniform(4, 30, (count, 2))], axis=1)
    array = np.concatenate([boxes, random.random((count, classes))], axis=1).T[None].astype(np.float32)
    if array.shape[1] >= array.shape[2]:
        array = np.ascontiguousarray(array.transpose(0, 2, 1))
        if array.shape[1] < array.shape[2]:
            return
    task = Task("object-detection", "yolo", {
        "score": score, "iou": iou, "agnostic": agnostic, "most": most, "candidates": candidates,
    })  # fmt: skip
    found, expected, outputs = answered(task, array, tmp_path_factory.mktemp("nms"), suppresses=suppresses)
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.numbers, expected.numbers)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    np.testing.assert_allclose(found.corners, expected.corners, atol=1e-3)
    if suppresses:
        assert outputs["count"].tolist() == [len(expected)]
        assert not outputs["boxes"][0, len(expected) :].any()


def test_nothing_found_is_no_box(tmp_path: Path) -> None:
    found, expected, outputs = answered(Task("object-detection", "yolo"), np.zeros((1, 6, 40), np.float32), tmp_path)
    assert (len(found), len(expected), outputs["count"].tolist()) == (0, 0, [0])


@pytest.mark.parametrize("activation", ["auto", "softmax", "sigmoid", "none"])
def test_the_graph_chooses_the_same_classes(tmp_path: Path, activation: str) -> None:
    scores = np.random.default_rng(0).standard_normal((1, 9, 1, 1)).astype(np.float32) * 3
    task = Task("image-classification", settings={"top": 4, "activation": activation}, classes=tuple("abcdefghi"))
    found, expected, _ = answered(task, scores, tmp_path)
    assert (found.numbers, found.names) == (expected.numbers, expected.names)
    assert found.scores == pytest.approx(expected.scores, rel=1e-5)


def test_probabilities_get_no_second_softmax(tmp_path: Path) -> None:
    scores = np.array([[0.1, 0.7, 0.2]], np.float32)
    found, expected, _ = answered(Task("image-classification"), scores, tmp_path, probabilities=True)
    assert found.numbers == expected.numbers == (1, 2, 0)
    assert found.scores == pytest.approx(expected.scores)


def test_a_single_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no row of class scores"):
        answered(Task("image-classification"), np.zeros((1, 1), np.float32), tmp_path)


@pytest.mark.parametrize("task", [Task("semantic-segmentation"), Task("object-detection", "heat-maps")])
def test_tasks_without_answers_in_the_graph_are_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="--embed postprocessing"):
        check_postprocessing(task)
    check_postprocessing(None)
