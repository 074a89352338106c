"""The check ends a row whose answers are others, and lets rounding be."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.embed.check import refuse_different, twice
from edgepack.errors import VerificationError
from edgepack.specs.embed import EmbeddedCheck
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer


@pytest.mark.parametrize(("samples", "same"), [(1, 0), (16, 14), (200, 195)])
def test_other_answers_are_refused(samples: int, same: int) -> None:
    with pytest.raises(VerificationError, match="others than without") as found:
        refuse_different(EmbeddedCheck({"preprocessing": ""}, samples=samples, same=same, things=samples))
    assert "--embed" in str(found.value.hint)


@pytest.mark.parametrize(("samples", "same"), [(1, 1), (16, 15), (200, 196)])
def test_rounding_is_let_be(samples: int, same: int) -> None:
    refuse_different(EmbeddedCheck({"preprocessing": ""}, samples=samples, same=same, things=samples))


def test_where_nothing_is_found_nothing_is_shown() -> None:
    with pytest.raises(VerificationError, match="nothing is found in any of 12 samples") as found:
        refuse_different(EmbeddedCheck({"postprocessing": ""}, samples=12, same=12))
    assert "lower score" in str(found.value.hint)


def test_a_mask_of_twice_the_sides_shows_what_the_nearest_label_costs() -> None:
    """Two cells of scores whose border lies off their middle: labels of the input's size know it to a pixel alone."""
    task, frame = Task("semantic-segmentation", classes=("ground", "thing")), Frame(2, 4, 2, 4)
    scores = np.array([[[[1.0, 0.4]], [[0.0, 0.9]]]], np.float32).repeat(2, axis=2)
    both = []
    for seen in (frame, twice(frame)):
        labels = answer(task, {"scores": scores}, frame).labels.astype(np.uint8)[None]
        both.append((answer(task, {"scores": scores}, seen).labels, answer(task, {"labels": labels}, seen).labels))
    assert (both[0][0] == both[0][1]).all()
    assert both[1][0].shape == both[1][1].shape == (4, 8)
    assert 0 < (both[1][0] != both[1][1]).mean() <= 1 / 8
