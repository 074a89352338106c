"""What exporters note; hostile notes are nothing."""

from __future__ import annotations

import pytest

from edgepack.data.suggest_notes import noted_classes, noted_labels, noted_points, noted_size


@pytest.mark.parametrize(
    ("text", "size"), [("[320, 416]", (320, 416)), ("320", (320, 320)), ("", (0, 0)), ("[0, 3]", (0, 0)), ("x", (0, 0))]
)
def test_the_size_of_pictures(text: str, size: tuple[int, int]) -> None:
    assert noted_size({"imgsz": text}) == size


@pytest.mark.parametrize(
    ("text", "points"), [("[21, 2]", (21, 2)), ("", (17, 3)), ("[0, 3]", (17, 3)), ("(((", (17, 3))]
)
def test_the_points_of_a_thing(text: str, points: tuple[int, int]) -> None:
    assert noted_points({"kpt_shape": text}, 17) == points


def test_classes_in_the_order_of_their_numbers() -> None:
    assert noted_classes({"names": "{1: 'dog', 0: 'cat'}"}) == ("cat", "dog")
    assert noted_classes({"names": "__import__('os')"}) == noted_classes({}) == ()


@pytest.mark.parametrize(
    ("text", "scores", "labels"),
    [
        ("0\n90", (2,), ("0", "90")),
        ("0\n90", (3,), ()),
        ("0\n90", None, ()),
        ("a\n", (2,), ()),
        ("a\n\x1b[2J", (2,), ()),
        ("", (1,), ()),
    ],
)
def test_labels_of_which_there_is_one_for_each_score(
    text: str, scores: tuple[int, ...] | None, labels: tuple[str, ...]
) -> None:
    assert noted_labels({"character": text}, scores) == labels
