"""Answers made in the graph against those that the task makes of the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_models import model, value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgepack.embed.answers import check_postprocessing, put_answers
from edgepack.embed.operators import begin, close
from edgepack.embed.wished import Wished
from edgepack.errors import ConfigError
from edgepack.graph.compare import run_model
from edgepack.graph.load import save_proto
from edgepack.specs.model import OnnxModel
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer

FRAME = Frame(64, 64, 64, 64)


def answered(task: Task, array: np.ndarray, folder: Path, **how: object):
    """Return the answer of the graph to one output, that of the task, and the graph's outputs."""
    return answered_all(task, {"o": array}, folder, **how)  # type: ignore[arg-type]


def answered_all(
    task: Task,
    arrays: dict[str, np.ndarray],
    folder: Path,
    *,
    suppresses: bool = True,
    probabilities: bool = False,
    whole: bool = False,
    sorts: bool = True,
    run=run_model,
):
    nodes = [helper.make_node("Identity", [f"raw_{name}"], [name]) for name in arrays]
    shapes = {name: array.shape for name, array in arrays.items()}
    inputs = [value(f"raw_{name}", list(shape)) for name, shape in shapes.items()]
    proto, made = begin(model(nodes, inputs, [value(name, list(shape)) for name, shape in shapes.items()]), sorts=sorts)
    found = put_answers(made, Wished(task, shapes, FRAME, suppresses, probabilities, whole))
    close(proto)
    saved = save_proto(proto, folder)
    ran = run(saved, {f"raw_{name}": array for name, array in arrays.items()})
    outputs = {spec.name: ran[spec.name] for spec in saved.outputs}
    return answer(found.task, outputs, FRAME), answer(task, arrays, FRAME), outputs


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000), count=st.integers(1, 80), classes=st.sampled_from([1, 2, 7]),
    score=st.sampled_from([0.0, 0.001, 0.3, 0.97]), iou=st.sampled_from([0.2, 0.45, 0.7]), agnostic=st.booleans(),
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


@pytest.mark.parametrize("top", [1, 5, 9])
def test_without_an_operator_that_sorts_the_classes_are_the_same(tmp_path: Path, top: int) -> None:
    """Of equal scores the first class comes first, as TopK has it."""
    scores = np.array([[0.1, 0.3, 0.3, 0.0, 0.05, 0.3, 0.1, 0.2, 0.0]], np.float32)
    task = Task("image-classification", settings={"top": top, "activation": "none"})
    found, _, outputs = answered(task, scores, tmp_path, sorts=False)
    assert found.numbers == (1, 2, 5, 7, 0, 6, 4, 3, 8)[:top]
    assert outputs["scores"][0].tolist() == np.sort(scores[0])[::-1][:top].tolist()


def test_too_many_values_to_compare_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the best 5 of 1025 values are too many to compare"):
        answered(Task("image-classification"), np.zeros((1, 1025), np.float32), tmp_path, sorts=False)


def test_probabilities_get_no_second_softmax(tmp_path: Path) -> None:
    scores = np.array([[0.1, 0.7, 0.2]], np.float32)
    found, expected, _ = answered(Task("image-classification"), scores, tmp_path, probabilities=True)
    assert found.numbers == expected.numbers == (1, 2, 0)
    assert found.scores == pytest.approx(expected.scores)


def test_a_single_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a row of class scores"):
        answered(Task("image-classification"), np.zeros((1, 1), np.float32), tmp_path)


@pytest.mark.parametrize("task", [Task("regression"), Task("object-detection", "text-maps")])
def test_tasks_without_answers_in_the_graph_are_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="--embed postprocessing"):
        check_postprocessing(task)
    check_postprocessing(None)


def tied(seed: int, count: int, classes: int) -> np.ndarray:
    """Boxes on a grid with scores of five steps, as int8 gives them: equal scores, equal boxes, overlaps of 1/2."""
    random = np.random.default_rng(seed)
    boxes = [random.integers(4, 20, (count, 2)) * 2, random.integers(1, 4, (count, 2)) * 4]
    scores = random.integers(0, 5, (count, classes)) / 4 * 0.9
    return np.concatenate([*boxes, scores], axis=1).T[None].astype(np.float32)


def in_openvino(saved: OnnxModel, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import openvino

    compiled = openvino.Core().compile_model(str(saved.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {name: array for port, array in compiled(feeds).items() for name in port.get_names()}


ENGINES = {"ONNX Runtime": run_model, "OpenVINO": in_openvino}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000), count=st.integers(12, 60), classes=st.sampled_from([1, 2, 7]),
    iou=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]), agnostic=st.booleans(), candidates=st.sampled_from([60, 3000]),
)  # fmt: skip
def test_equal_scores_and_overlaps_of_the_limit_are_decided_alike(
    tmp_path_factory, engine, seed, count, classes, iou, agnostic, candidates
) -> None:
    array = tied(seed, count, classes)
    task = Task("object-detection", "yolo", {"iou": iou, "agnostic": agnostic, "candidates": candidates})
    found, expected, _ = answered(task, array, tmp_path_factory.mktemp("ties"), run=ENGINES[engine])
    assert as_set(found) == as_set(expected)  # those of equal scores may come in any order
    assert list(found.scores) == sorted(found.scores, reverse=True)


def as_set(boxes) -> list[list[float]]:
    rows = zip(boxes.scores.tolist(), boxes.numbers.tolist(), boxes.corners.tolist(), strict=True)
    return sorted([round(score, 5), number, *np.round(corners, 3)] for score, number, corners in rows)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("candidates", "most"), [(9, 100), (9, 4), (3000, 4), (1, 1)])
def test_of_more_boxes_than_the_limits_the_best_are_left(tmp_path: Path, engine: str, candidates: int, most: int):
    random = np.random.default_rng(candidates + most)
    boxes = np.concatenate([random.uniform(10, 54, (40, 2)), random.uniform(4, 30, (40, 2))], axis=1)
    scores = np.stack([random.permutation(np.linspace(0.3, 0.6, 40)), np.full(40, 0.1)], axis=1)
    array = np.concatenate([boxes, scores], axis=1).T[None].astype(np.float32)
    task = Task("object-detection", "yolo", {"candidates": candidates, "most": most})
    found, expected, outputs = answered(task, array, tmp_path, run=ENGINES[engine])
    assert 0 < len(expected) <= min(candidates, most)
    assert outputs["scores"].shape == (1, min(candidates, most, 40))
    assert as_set(found) == as_set(expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("most", "candidates"), [(5, 3000), (100, 3)])
def test_final_boxes_are_not_suppressed(tmp_path: Path, engine: str, most: int, candidates: int) -> None:
    """DETR's boxes are one a thing: two that overlap are two things."""
    boxes = np.tile(np.array([0.5, 0.5, 0.4, 0.2], np.float32), (1, 10, 1))
    scores = np.random.default_rng(0).permutation(np.linspace(0.3, 0.9, 10, dtype=np.float32)).reshape(1, 10, 1)
    made = {"activation": "none", "nothing": False}
    task = Task("object-detection", "detr", {"most": most, "candidates": candidates}, parameters=made)
    given_outputs = {"boxes": boxes, "scores": scores}
    found, expected, outputs = answered_all(task, given_outputs, tmp_path, run=ENGINES[engine])
    assert len(found) == len(expected) == min(most, candidates)
    assert outputs["count"].tolist() == [len(expected)]
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_of_equal_classes_the_first_is_the_best(tmp_path: Path, engine: str) -> None:
    array = np.zeros((1, 4 + 30, 64), np.float32)
    array[0, :4] = [[32], [32], [8], [8]]
    array[0, 4 + 7 :] = 0.5  # 23 classes of one score
    found, expected, _ = answered(Task("object-detection", "yolo", {"most": 3}), array, tmp_path, run=ENGINES[engine])
    assert found.numbers.tolist() == expected.numbers.tolist() == [7]


def test_boxes_that_are_not_wanted_leave_zeros_whatever_they_were(tmp_path: Path) -> None:
    array = np.zeros((1, 6, 20), np.float32)
    array[0, :, 3] = [20, 20, 8, 8, 0.9, 0]
    array[0, 2:4, 5:] = np.inf  # an exponent that overflowed, of a box without a score
    found, expected, outputs = answered(Task("object-detection", "yolo"), array, tmp_path)
    assert len(found) == len(expected) == 1
    assert not outputs["boxes"][0, 1:].any()


@pytest.mark.parametrize("suppresses", [True, False])
@pytest.mark.parametrize(("boxes", "scores"), [("boxes", "scores"), ("box_count", "classes"), ("loc", "count")])
def test_names_that_the_model_has_itself_are_free_for_answers(
    tmp_path: Path, boxes: str, scores: str, suppresses: bool
) -> None:
    random = np.random.default_rng(4)
    corners = np.sort(random.uniform(0, 64, (1, 12, 2, 2)).astype(np.float32), axis=2).reshape(1, 12, 4)
    arrays = {boxes: corners, scores: random.random((1, 12, 3), np.float32)}
    task = Task("object-detection", "ssd", parameters={"form": "xyxy", "normalized": False, "background": -1})
    found, expected, _ = answered_all(task, arrays, tmp_path, suppresses=suppresses)
    assert len(expected) > 1
    assert as_set(found) == as_set(expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_near_0_are_answers_where_any_score_is(tmp_path: Path, engine: str) -> None:
    array = np.zeros((1, 5, 8), np.float32)
    array[0, :4] = np.array([[5 + 7 * i, 5 + 7 * i, 4, 4] for i in range(8)]).T
    array[0, 4] = 10.0 ** -np.arange(8)
    task = Task("object-detection", "yolo", {"score": 0.0})
    found, expected, outputs = answered(task, array, tmp_path, run=ENGINES[engine])
    assert len(expected) == outputs["count"][0] == 8
    assert as_set(found) == as_set(expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("suppresses", [True, False])
@pytest.mark.parametrize(("points", "point_values", "count"), [(3, 3, 40), (1, 2, 40), (17, 3, 100)])
def test_points_go_with_their_boxes(
    tmp_path: Path, engine: str, suppresses: bool, points: int, point_values: int, count: int
) -> None:
    random = np.random.default_rng(points)
    boxes = np.concatenate([random.uniform(10, 54, (count, 2)), random.uniform(4, 30, (count, 2))], axis=1)
    places = random.uniform(0, 64, (count, points * point_values))
    array = np.concatenate([boxes, random.random((count, 1)), places], axis=1).T[None].astype(np.float32)
    made = {"points": points, "point_values": point_values}
    task = Task("keypoints", "yolo", parameters=made)
    found, expected, outputs = answered(task, array, tmp_path, suppresses=suppresses, run=ENGINES[engine])
    assert len(found) == len(expected) > 1
    np.testing.assert_allclose(found.corners, expected.corners, atol=1e-3)
    np.testing.assert_allclose(found.points, expected.points, atol=1e-3)
    if suppresses:
        assert not outputs["points"][0, len(expected) :].any()


def peaks(seed: int, classes: int, steps: int, *, offsets: bool) -> dict[str, np.ndarray]:
    """A heat map with as many different levels as int8 leaves, so that some neighbours are equal, and maps of sides."""
    random = np.random.default_rng(seed)
    heat = np.round(random.normal(-2, 2, (1, classes, 8, 16)) * steps) / steps
    arrays = {"hm": heat, "wh": random.uniform(1, 9, (1, 2, 8, 16)), "reg": random.random((1, 2, 8, 16))}
    return {name: array.astype(np.float32) for name, array in arrays.items() if offsets or name != "reg"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("classes", "steps", "made", "how"),
    [
        (4, 100, {"logits": True}, {"most": 400}),
        (4, 2, {"logits": True}, {"most": 512, "score": 0.0}),  # many neighbours are equal, and all cells are looked at
        (1, 100, {}, {"score": 0.0, "candidates": 5}),
        (2, 100, {"logits": True}, {"most": 7}),
    ],
)
@pytest.mark.parametrize("offsets", [True, False])
def test_the_graph_finds_the_same_peaks(tmp_path: Path, engine: str, classes, steps, made, how, offsets) -> None:
    arrays = peaks(classes + steps, classes, steps, offsets=offsets)
    task = Task("object-detection", "center-points", how, parameters=made)
    found, expected, outputs = answered_all(task, arrays, tmp_path, run=ENGINES[engine])
    assert len(expected) > 4
    assert outputs["count"].tolist() == [len(expected)]
    rows = [np.column_stack([boxes.numbers, 100 * boxes.scores, boxes.corners]) for boxes in (found, expected)]
    apart = np.abs(rows[0][:, None] - rows[1][None]).max(axis=2)
    assert sorted(apart.argmin(axis=0).tolist()) == list(range(len(expected)))
    assert apart.min(axis=0).max() < 1e-2
    assert not outputs["boxes"][0, len(expected) :].any()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("low", "made"), [(0.0, {}), (0.3, {"middle": 0.0}), (-1.0, {"logits": True})])
def test_the_graph_finds_the_same_points(tmp_path: Path, engine: str, low: float, made: dict) -> None:
    """Peaks at the edges and corners of their maps, and of equal cells the first."""
    maps = np.full((1, 6, 8, 16), low, np.float32) + np.random.default_rng(0).integers(0, 5, (1, 6, 8, 16)) / 100
    for point, (row, column) in enumerate([(0, 0), (7, 15), (0, 9), (4, 15), (3, 6)]):
        maps[0, point, row, column] = 0.9
    task = Task("keypoints", "heat-maps", parameters=made)
    found, expected, _ = answered_all(task, {"o": maps.astype(np.float32)}, tmp_path, run=ENGINES[engine])
    assert len(found) == len(expected) == 1
    np.testing.assert_allclose(found.points, expected.points, atol=1e-3)
    np.testing.assert_allclose(found.corners, expected.corners, atol=1e-3)


MASKS = {
    "small map": ((1, 5, 16, 8), {}),
    "own size": ((1, 5, 64, 64), {}),
    "channels last": ((1, 20, 30, 4), {"layout": "NHWC"}),
    "one channel": ((1, 1, 32, 32), {"least": 0.3}),
    "one channel last": ((1, 32, 64, 1), {"layout": "NHWC"}),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", MASKS)
def test_the_graph_labels_the_same_pixels(tmp_path: Path, engine: str, kind: str) -> None:
    shape, how = MASKS[kind]
    scores = np.random.default_rng(len(kind)).random(shape, np.float32)
    task = Task("semantic-segmentation", settings=how, classes=("a", "b"))
    found, expected, outputs = answered(task, scores, tmp_path, run=ENGINES[engine])
    assert (outputs["labels"].dtype, outputs["labels"].shape) == (np.uint8, (1, 64, 64))
    assert (found.labels != expected.labels).mean() <= 0.001  # rounding decides where two classes are as high
    assert len(np.unique(expected.labels)) > 1
    assert found.names == expected.names


def test_classes_that_the_model_chooses_itself_are_no_scores(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scores of classes"):
        answered(Task("semantic-segmentation"), np.zeros((1, 8, 8), np.float32), tmp_path)
    with pytest.raises(ConfigError, match="no scores of classes"):
        answered(Task("semantic-segmentation"), np.zeros((1, 1, 8, 8), np.float32), tmp_path, whole=True)
    with pytest.raises(ConfigError, match="more than a byte"):
        answered(Task("semantic-segmentation"), np.zeros((1, 300, 8, 8), np.float32), tmp_path)
