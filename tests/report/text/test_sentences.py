"""The recommendation in words."""

import made_up
import pytest

from edgepack.report.entries import make_groups
from edgepack.report.entries.choice import default_limits
from edgepack.report.text.sentences import recommendation


def entries_of(build):
    (group,) = make_groups(*build)
    return group.entries


@pytest.fixture(scope="module")
def labelled():
    return entries_of(made_up.labelled_build())


def test_without_labels_the_sentence_says_that_accuracy_was_not_measured():
    entries = entries_of(made_up.unlabelled_build())
    text = recommendation(entries, default_limits(entries))
    assert "agrees with fp32 on 97.3 % of n = 200" in text
    assert "Accuracy was not measured: no labels." in text
    assert "disturbed machine" in text


def test_the_sentence_has_the_figures(labelled):
    text = recommendation(labelled, default_limits(labelled))
    assert text.startswith("Take host-openvino int8: p90 2.36 ms (")
    assert "1.86 times as fast as its fp32" in text
    assert "top-1 accuracy 91.3 %, a drop of +0.64 points (+0.31 to +0.97)" in text
