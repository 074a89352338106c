"""What the converter of scikit-learn fails on or gets wrong is mended, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from worker_files import far_pairs, refused

pytestmark = pytest.mark.slow

DATA, CLASSES = load_iris(return_X_y=True)
KINDS = [
    ("line", LogisticRegression(max_iter=500)), ("tree", DecisionTreeClassifier(max_depth=3)), ("bayes", GaussianNB()),
]  # fmt: skip
NUMBERS = [("out", "drop"), ("line", Ridge()), ("tree", DecisionTreeRegressor(max_depth=3))]
MENDED = {
    "boosted classes": HistGradientBoostingClassifier(max_iter=5),
    "boosted numbers": HistGradientBoostingRegressor(max_iter=5),
    "forest": RandomForestClassifier(5, random_state=0),
    "tree of classes": DecisionTreeClassifier(random_state=0),
    "tree of numbers": DecisionTreeRegressor(random_state=0),
    "soft votes": VotingClassifier(KINDS, voting="soft"),
    "soft votes by weight": VotingClassifier([("out", "drop"), *KINDS], voting="soft", weights=[7, 1, 2, 5]),
    "hard votes by weight": VotingClassifier(KINDS, voting="hard", weights=[1, 2, 5]),
    "votes on a number": VotingRegressor(NUMBERS, weights=[7, 1, 3]),
}


@pytest.mark.parametrize("name", MENDED)
def test_it_answers_as_scikit_learn_does_for_missing_values_too(name: str, tmp_path: Path) -> None:
    assert far_pairs(MENDED[name].fit(DATA, CLASSES), tmp_path) == []


def test_texts_are_read_without_a_locale_that_small_systems_lack(tmp_path: Path) -> None:
    pipeline = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(["good film", "bad film"], [1, 0])
    assert far_pairs(pipeline, tmp_path) == []
    assert b"en_US" not in (tmp_path / "model.onnx").read_bytes()
    assert b"C.UTF-8" in (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"categorical_features": [1]}, "splits by categories"), ({"loss": "poisson"}, "ends in an exponential")],
)
def test_what_the_converter_would_leave_out_is_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = HistGradientBoostingRegressor(max_iter=2, **options).fit(np.rint(DATA), CLASSES)
    with pytest.raises(refused(), match=said):
        far_pairs(model, tmp_path)
