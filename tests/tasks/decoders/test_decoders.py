"""All decoders: boxes that are written into outputs as each family writes them are read again.

The writers here are plain: one box at a time, from the published definitions.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import ndimage

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer, check_task, read_settings
from edgepack.tasks.decoders import DECODERS, Candidates, Wanted, cells, choose, grids, sigmoid, softmax
from edgepack.tasks.decoders.text_maps import areas

SIDE = 64
FRAME = Frame(SIDE, SIDE, SIDE, SIDE)
# left, top, right, bottom, class, score
BOXES = [(6.0, 10.0, 30.0, 40.0, 2, 0.9), (33.0, 5.0, 61.0, 29.0, 0, 0.6)]
CLASSES = 3


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def center(box: tuple) -> tuple[float, float, float, float]:
    left, top, right, bottom = box[:4]
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def decode(name: str, outputs: Mapping[str, np.ndarray], least: float = 0.3, every: bool = False, **made) -> Candidates:
    decoder = DECODERS.get(name)
    check_task(Task("object-detection", name, parameters=made))
    return decoder.decode(outputs, read_settings(decoder.parameters, made), FRAME, Wanted(least, every))


def check(found: Candidates, tolerance: float = 1e-3) -> None:
    order = np.argsort(-found.scores)
    assert found.classes in (CLASSES, None)
    assert found.numbers[order].tolist() == [2, 0]
    assert found.scores[order] == pytest.approx([0.9, 0.6], abs=1e-5)
    assert found.corners[order] == pytest.approx(np.array([box[:4] for box in BOXES]), abs=tolerance)


def f32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_yolo(turned: bool, normalized: bool) -> None:
    value = np.zeros((4 + CLASSES, 50))
    for place, box in zip((7, 30), BOXES, strict=True):
        value[:4, place] = np.array(center(box)) / (SIDE if normalized else 1)
        value[4 + box[4], place] = box[5]
    output = f32(value.T if turned else value)[None]
    check(decode("yolo", {"o": output}, normalized=normalized))


def test_yolo_with_points() -> None:
    value = np.zeros((4 + 1 + 6, 50))
    value[:5, 3] = [20, 20, 10, 10, 0.8]
    value[5:, 3] = [18, 19, 0.7, 22, 21, 0.4]
    found = decode("yolo", {"o": f32(value)[None]}, points=2)
    assert found.points is not None
    assert found.points[0] == pytest.approx(np.array([[18, 19, 0.7], [22, 21, 0.4]]))


def test_yolo_counts_every_class_where_that_is_asked() -> None:
    value = np.zeros((4 + CLASSES, 50))
    value[:, 3] = [20, 20, 10, 10, 0.8, 0.1, 0.5]
    assert decode("yolo", {"o": f32(value)[None]}).numbers.tolist() == [0]
    assert sorted(decode("yolo", {"o": f32(value)[None]}, every=True).numbers) == [0, 2]


@pytest.mark.parametrize("name", ["yolo", "yolo-objectness", "yolo-final"])
def test_weights_of_masks_behind_a_box_are_not_read(name: str) -> None:
    """YOLOv8-seg, v5-seg and 26-seg: they would be classes with any score."""
    head = {"yolo": 4 + CLASSES, "yolo-objectness": 5 + CLASSES, "yolo-final": 6}[name]
    value = np.concatenate([np.zeros((50, head)), np.full((50, 32), 7.0)], axis=1)
    for place, box in zip((7, 30), BOXES, strict=True):
        sides = box[:4] if name == "yolo-final" else center(box)
        scores = {"yolo": [0] * CLASSES, "yolo-objectness": [1] + [0] * CLASSES, "yolo-final": [box[5], box[4]]}[name]
        value[place, :head] = [*sides, *scores]
        if name != "yolo-final":
            value[place, head - CLASSES + box[4]] = box[5]
    check(decode(name, {"o": f32(value.T if name == "yolo" else value)[None]}, unread=32))
    with pytest.raises(ConfigError, match="unread = -1"):
        decode(name, {}, unread=-1)


def test_yolo_objectness() -> None:
    value = np.zeros((50, 5 + CLASSES))
    for place, box in zip((7, 30), BOXES, strict=True):
        value[place, :5] = [*center(box), 0.95]
        value[place, 5 + box[4]] = box[5] / 0.95
    check(decode("yolo-objectness", {"o": f32(value)[None]}))


@pytest.mark.parametrize("form", ["v5", "v3"])
@pytest.mark.parametrize("apart", [False, True])
def test_yolo_anchors(form: str, apart: bool) -> None:
    strides, anchors = (8.0, 16.0), ((10.0, 13.0, 24.0, 30.0), (30.0, 61.0, 26.0, 22.0))
    maps = [np.full((2, SIDE // int(s), SIDE // int(s), 5 + CLASSES), -12.0) for s in strides]
    for level, box in enumerate(BOXES):
        x, y, w, h = center(box)
        column, row = int(x / strides[level]), int(y / strides[level])
        cell = maps[level][1, row, column]
        aw, ah = anchors[level][2:]
        if form == "v5":
            cell[:2] = [logit((x / strides[level] - column + 0.5) / 2), logit((y / strides[level] - row + 0.5) / 2)]
            cell[2:4] = [logit(math.sqrt(w / aw) / 2), logit(math.sqrt(h / ah) / 2)]
        else:
            cell[:2] = [logit(x / strides[level] - column), logit(y / strides[level] - row)]
            cell[2:4] = [math.log(w / aw), math.log(h / ah)]
        cell[4], cell[5 + box[4]] = logit(0.95), logit(box[5] / 0.95)
    shaped = [m if apart else m.transpose(0, 3, 1, 2).reshape(-1, *m.shape[1:3]) for m in maps]
    outputs = {f"o{i}": f32(m)[None] for i, m in enumerate(shaped[::-1])}  # in any order
    check(decode("yolo-anchors", outputs, strides=strides, anchors=anchors, form=form))


def test_yolo_final() -> None:
    value = np.zeros((300, 6))
    for place, (*corners, number, score) in zip((0, 1), BOXES, strict=True):
        value[place] = [*corners, score, number]
    check(decode("yolo-final", {"o": f32(value)[None]}))


@pytest.mark.parametrize("decoded", [False, True])
def test_yolox(decoded: bool) -> None:
    columns, rows, levels = cells(grids(FRAME, (8, 16, 32)))
    value = np.zeros((len(columns), 5 + CLASSES))
    for level, box in enumerate(BOXES):
        stride = (8, 16)[level]
        x, y, w, h = center(box)
        at = (columns == int(x / stride)) & (rows == int(y / stride)) & (levels == level)
        place = int(np.flatnonzero(at)[0])
        steps = [x / stride - columns[place], y / stride - rows[place], math.log(w / stride), math.log(h / stride)]
        value[place, :4] = center(box) if decoded else steps
        value[place, 4], value[place, 5 + box[4]] = 0.95, box[5] / 0.95
    check(decode("yolox", {"o": f32(value)[None]}, decoded=decoded))


@pytest.mark.parametrize("form", ["xyxy", "yxyx", "cxcywh"])
@pytest.mark.parametrize("order", ["boxes first", "scores first"])
def test_ssd(form: str, order: str) -> None:
    boxes, scores = np.zeros((20, 4)), np.zeros((20, 1 + CLASSES))
    scores[:, 0] = 1
    for place, box in zip((3, 11), BOXES, strict=True):
        left, top, right, bottom = box[:4]
        written = {"xyxy": (left, top, right, bottom), "yxyx": (top, left, bottom, right), "cxcywh": center(box)}[form]
        boxes[place] = np.array(written) / SIDE
        scores[place] = 0
        scores[place, 1 + box[4]] = box[5]
    found = {"boxes": f32(boxes)[None], "scores": f32(scores)[None]}
    outputs = found if order == "boxes first" else dict(reversed(found.items()))
    check(decode("ssd", outputs, form=form))


def test_ssd_from_priors() -> None:
    strides, sizes = (8.0, 16.0), ((10.0, 16.0), (32.0,))
    priors = [
        ((c + 0.5) * s / SIDE, (r + 0.5) * s / SIDE, size / SIDE)
        for s, many in zip(strides, sizes, strict=True)
        for r in range(SIDE // int(s))
        for c in range(SIDE // int(s))
        for size in many
    ]
    steps, scores = np.zeros((len(priors), 4)), np.zeros((len(priors), 1 + CLASSES))
    for place, box in zip((31, 135), BOXES, strict=True):
        x, y, w, h = (value / SIDE for value in center(box))
        px, py, side = priors[place]
        steps[place] = [
            (x - px) / (0.1 * side),
            (y - py) / (0.1 * side),
            math.log(w / side) / 0.2,
            math.log(h / side) / 0.2,
        ]
        scores[place, 1 + box[4]] = box[5]
    outputs = {"scores": f32(scores)[None], "boxes": f32(steps)[None]}
    check(decode("ssd", outputs, strides=strides, sizes=sizes))


def test_ssd_from_anchors_of_any_width_and_height() -> None:
    strides, anchors = (8.0, 32.0), ((10.0, 20.0, 24.0, 12.0), (40.0, 80.0))
    priors = [
        ((c + 0.5) * s, (r + 0.5) * s, *many[i : i + 2])
        for s, many in zip(strides, anchors, strict=True)
        for r in range(SIDE // int(s))
        for c in range(SIDE // int(s))
        for i in range(0, len(many), 2)
    ]
    steps, scores = np.zeros((len(priors), 4)), np.full((len(priors), CLASSES), -9.0)
    for place, box in zip((37, 130), BOXES, strict=True):
        (x, y, w, h), (px, py, pw, ph) = center(box), priors[place]
        steps[place] = [(x - px) / (0.1 * pw), (y - py) / (0.1 * ph), math.log(w / pw) / 0.2, math.log(h / ph) / 0.2]
        scores[place, box[4]] = logit(box[5])
    outputs = {"scores": f32(scores)[None], "boxes": f32(steps)[None]}
    check(decode("ssd", outputs, strides=strides, anchors=anchors, background=-1, activation="sigmoid"))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"strides": (8.0,), "sizes": ((8.0,),), "anchors": ((8.0, 8.0),)}, "both sizes and anchors"),
        ({"strides": (8.0,), "anchors": ((8.0, 8.0, 9.0),)}, "not pairs"),
        ({"strides": (8.0,), "anchors": ((8.0, 0.0),)}, "not above 0"),
        ({"strides": (8.0, 16.0), "anchors": ((8.0, 8.0),)}, "strides do not fit"),
    ],
)
def test_priors_that_cannot_be_meant(made: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode("ssd", {}, **made)


@pytest.mark.parametrize("names", ["detection_boxes detection_classes detection_scores num", "a b c d"])
def test_boxes_scores_classes(names: str) -> None:
    boxes, classes, scores = np.zeros((10, 4)), np.zeros(10), np.zeros(10)
    for place, (left, top, right, bottom, number, score) in enumerate(BOXES):
        boxes[place] = np.array([top, left, bottom, right]) / SIDE
        classes[place], scores[place] = number + 1, score
    scores[2:] = 0.8  # beyond the number that counts
    values = (boxes[None], classes[None], scores[None], np.array([2.0]))
    check(decode("boxes-scores-classes", dict(zip(names.split(), map(f32, values), strict=True)), first=1))


def test_torchvisions_detectors() -> None:
    boxes = np.array([box[:4] for box in BOXES])
    outputs = {"boxes": f32(boxes), "labels": np.array([2, 0]), "scores": f32(np.array([0.9, 0.6]))}
    check(decode("boxes-scores-classes", outputs, form="xyxy", normalized=False))


def test_fastestdet() -> None:
    value = np.zeros((5 + CLASSES, 4, 4))
    for box in BOXES:
        x, y, w, h = (value / SIDE for value in center(box))
        column, row = int(x * 4), int(y * 4)
        cell = value_at = np.zeros(5 + CLASSES)
        cell[0] = 0.9
        cell[1:5] = [math.atanh(x * 4 - column), math.atanh(y * 4 - row), logit(w), logit(h)]
        cell[5 + box[4]] = (box[5] / 0.9**0.6) ** (1 / 0.4)
        value[:, row, column] = value_at
    check(decode("fastestdet", {"o": f32(value)[None]}), 1e-2)


def test_yunet() -> None:
    outputs, box = {}, (8.0, 12.0, 40.0, 44.0)
    for stride in (8, 16, 32):
        n = (SIDE // stride) ** 2
        values = {"cls": np.zeros((n, 1)), "obj": np.zeros((n, 1)), "bbox": np.zeros((n, 4)), "kps": np.zeros((n, 10))}
        if stride == 16:
            column, row = 1, 1
            place = row * (SIDE // stride) + column
            values["cls"][place], values["obj"][place] = 0.81, 1.0
            values["bbox"][place] = [24 / 16 - column, 28 / 16 - row, math.log(32 / 16), math.log(32 / 16)]
            values["kps"][place] = np.array([[20 / 16 - column, 24 / 16 - row]] * 5).ravel()
        outputs |= {f"{name}_{stride}": f32(value)[None] for name, value in values.items()}
    found = decode("yunet", outputs)
    assert found.corners[0] == pytest.approx(box)
    assert found.scores == pytest.approx([0.9])
    assert found.points is not None
    assert found.points[0, :, :2] == pytest.approx(np.array([[20, 24]] * 5))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_detr(activation: str) -> None:
    nothing = activation == "softmax"
    scores, boxes = np.full((20, CLASSES + nothing), -20.0), np.full((20, 4), 0.5)
    scores[:, -1] = 20.0 if nothing else -20.0
    for place, box in zip((3, 11), BOXES, strict=True):
        boxes[place] = np.array(center(box)) / SIDE
        scores[place] = -20.0
        scores[place, box[4]] = logit(box[5])
        scores[place, -1] = 0.0 if nothing else scores[place, -1]
    outputs = {"pred_logits": f32(scores)[None], "pred_boxes": f32(boxes)[None]}
    check(decode("detr", outputs, activation=activation, nothing=nothing))


@pytest.mark.parametrize("logits", [False, True])
def test_center_points(logits: bool) -> None:
    heat, sides, offsets = np.zeros((CLASSES, 16, 16)), np.zeros((2, 16, 16)), np.zeros((2, 16, 16))
    for box in BOXES:
        x, y, w, h = (value / 4 for value in center(box))
        column, row = int(x), int(y)
        heat[box[4], row - 1 : row + 2, column - 1 : column + 2] = box[5] - 0.1  # neighbours that are no peaks
        heat[box[4], row, column] = box[5]
        sides[:, row, column], offsets[:, row, column] = [w, h], [x - column, y - row]
    if logits:
        heat = np.log(np.clip(heat, 1e-6, None) / (1 - heat))
    outputs = {"hm": f32(heat)[None], "wh": f32(sides)[None], "reg": f32(offsets)[None]}
    check(decode("center-points", outputs, logits=logits))


@pytest.mark.parametrize("joined", [False, True])
def test_distributions(joined: bool) -> None:
    strides, bins = (8.0, 16.0, 32.0), 8
    outputs: dict[str, np.ndarray] = {}
    scores = [np.zeros(((SIDE // int(s)) ** 2, CLASSES)) for s in strides]
    sides = [np.zeros(((SIDE // int(s)) ** 2, 4, bins)) for s in strides]
    for level, box in zip((0, 1), BOXES, strict=True):
        stride, across = strides[level], SIDE // int(strides[level])
        x, y, *_ = center(box)
        column, row = int(x / stride), int(y / stride)
        px, py = (column + 0.5) * stride, (row + 0.5) * stride
        away = np.array([px - box[0], py - box[1], box[2] - px, box[3] - py]) / stride
        place = row * across + column
        for side, distance in enumerate(away):
            low = int(distance)
            chances = np.full(bins, 1e-9)
            chances[low], chances[low + 1] = 1 - (distance - low), max(distance - low, 1e-9)
            sides[level][place, side] = np.log(np.maximum(chances, 1e-9))
        scores[level][place, box[4]] = box[5]
    flat = [s.reshape(len(s), -1) for s in sides]
    if joined:
        outputs["o"] = f32(np.concatenate([np.concatenate(scores), np.concatenate(flat)], axis=1))[None]
    else:
        outputs |= {f"s{i}": f32(s)[None] for i, s in enumerate(scores)} | {
            f"d{i}": f32(s)[None] for i, s in enumerate(flat)
        }
    check(decode("distributions", outputs, strides=strides, bins=bins))


def test_blaze() -> None:
    """As MediaPipe's calculators compute it, one anchor after the other."""
    places = [(x + 0.5, y + 0.5, stride) for stride, each in ((8, 2), (16, 6)) for y in range(SIDE // stride)
              for x in range(SIDE // stride) for _ in range(each)]  # fmt: skip
    steps, scores = np.zeros((len(places), 8)), np.full((len(places), 1), -200.0)
    for row, box in zip((37, 205), BOXES, strict=True):
        x, y, stride = places[row]
        anchor = np.array([x * stride, y * stride])
        middle, sides = np.array(center(box)[:2]), center(box)[2:]
        steps[row] = [*(middle - anchor), *sides, *(np.array([box[0], box[1]]) - anchor), *(middle - anchor)]
        scores[row] = logit(box[5])
    found = decode("blaze", {"s": f32(scores)[None], "b": f32(steps)[None]})
    assert found.classes == 1
    assert found.numbers.tolist() == [0, 0]
    assert found.corners == pytest.approx(np.array([box[:4] for box in BOXES]), abs=1e-4)
    assert found.points is not None
    points = [[(*box[:2], box[5]), (*center(box)[:2], box[5])] for box in BOXES]
    assert found.points == pytest.approx(np.array(points), abs=1e-4)
    with pytest.raises(DataError, match=r"with \[2\.0, 5\.0\] anchors a cell"):
        decode("blaze", {"s": f32(scores)[None], "b": f32(steps)[None]}, each=(2.0, 5.0))


def test_text_maps() -> None:
    """Areas become boxes that are wider by area * 1.5 / circumference; small ones and unsure ones are left out."""
    maps = np.zeros((32, 32), np.float32)
    maps[4:8, 2:22] = 0.9  # 20 x 4 cells of 2 pixels
    maps[8, 22] = 0.9  # touches it by a corner
    maps[20:26, 4:14] = 0.5
    maps[28:30, 20:30] = 0.9  # two cells high
    maps[12:18, 25:31] = np.tril(np.full((6, 6), 0.35))  # its box is half empty
    found = decode("text-maps", {"o": maps[None, None]}, grow=1.5)
    first, second = 21 * 5 * 1.5 / 52, 10 * 6 * 1.5 / 32
    corners = np.array(
        [[2 - first, 4 - first, 23 + first, 9 + first], [4 - second, 20 - second, 14 + second, 26 + second]]
    )
    np.testing.assert_allclose(found.corners, corners * SIDE / 32, rtol=1e-5)
    np.testing.assert_allclose(found.scores, [81 * 0.9 / 105, 0.5], rtol=1e-5)
    assert found.numbers.tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(30))
def test_areas_are_those_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 40, 2)) < random.choice([0.02, 0.2, 0.4, 0.6, 0.95])
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    expected = [[c.start, r.start, c.stop, r.stop] for r, c in ndimage.find_objects(labels)]
    assert sorted(areas(mask).tolist()) == sorted(expected)


def test_a_map_of_every_other_pixel_is_one_area_in_time() -> None:
    mask = (np.add.outer(np.arange(960), np.arange(960)) % 2).astype(bool)
    began = time.process_time()
    assert areas(mask).tolist() == [[0, 0, 960, 960]]
    assert areas(mask & (np.arange(960) % 4 < 1)).shape[0] > 1000
    assert time.process_time() - began < 20


@pytest.mark.parametrize("name", DECODERS.own)
def test_nothing_is_found_in_nothing_and_other_outputs_are_refused(name: str) -> None:
    for outputs in ({"o": np.zeros((1, 3), np.float32)}, {f"o{i}": np.zeros((2, 3, 5), np.float32) for i in range(7)}):
        with pytest.raises(DataError):
            decode(name, outputs)


def test_helpers() -> None:
    scores = np.array([[0.1, 0.9], [0.2, 0.1], [0.6, 0.7]])
    rows, numbers, values = choose(scores, Wanted(0.5))
    assert (rows.tolist(), numbers.tolist(), values.tolist()) == ([0, 2], [1, 1], [0.9, 0.7])
    assert choose(scores, Wanted(0.5, every=True))[1].tolist() == [1, 0, 1]
    assert choose(scores[:, :1], Wanted(0.5))[0].tolist() == [2]
    assert sigmoid(np.array([-1000.0, 0.0])).tolist() == [0, 0.5]
    assert softmax(np.array([[1e4, 1e4]])).tolist() == [[0.5, 0.5]]
    assert grids(FRAME, (24,)) == [(2, 2)]
    assert grids(FRAME, (24,), up=True) == [(3, 3)]


SHAPES = {
    "yolo": [(1, 7, 84)],
    "yolo-objectness": [(1, 252, 8)],
    "yolo-anchors": [(1, 24, 8, 8), (1, 24, 4, 4), (1, 24, 2, 2)],
    "yolo-final": [(1, 300, 6)],
    "yolox": [(1, 84, 8)],
    "ssd": [(1, 20, 4), (1, 20, 4)],
    "boxes-scores-classes": [(1, 10, 4), (1, 10), (1, 10), (1,)],
    "fastestdet": [(1, 8, 4, 4)],
    "yunet": [(1, n, values) for values in (1, 1, 4, 10) for n in (64, 16, 4)],
    "detr": [(1, 20, 4), (1, 20, 4)],
    "center-points": [(1, 3, 16, 16), (1, 2, 16, 16), (1, 2, 16, 16)],
    "distributions": [(1, n, values) for values in (3, 32) for n in (64, 16, 4, 1)],
    "text-maps": [(1, 1, 32, 32)],
    "heat-maps": [(1, 5, 16, 16)],
    "blaze": [(1, 224, 16), (1, 224, 1)],
}
YUNET = [f"{name}_{stride}" for name in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]


@pytest.mark.parametrize("size", [1.0, 30.0, 1e4, 1e30])
@pytest.mark.parametrize("name", DECODERS.own)
def test_outputs_that_went_astray_give_numbers_or_nothing(name: str, size: float) -> None:
    """NaN, infinities and huge values: no warning, no box that is nowhere, nothing that JSON cannot hold."""
    random = np.random.default_rng(0)
    for measuring in (False, True) * 5:
        outputs = {}
        for i, shape in enumerate(SHAPES[name]):
            value, kind = random.normal(0, size, shape).astype(np.float32), random.random(shape)
            value[kind < 0.05], value[kind > 0.95], value[abs(kind - 0.5) < 0.03] = np.nan, np.inf, -np.inf
            outputs[YUNET[i] if name == "yunet" else f"o{i}"] = value
        task = Task("keypoints", name, settings={"score": 0.0})
        try:
            found = answer(task, outputs, FRAME, measuring=measuring)
        except DataError:
            continue
        json.dumps(found.summary(), allow_nan=False)
