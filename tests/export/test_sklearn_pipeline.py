"""A real conversion: scikit-learn pipelines by the real worker, in this Python, which has scikit-learn and skl2onnx."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC, OneClassSVM
from worker_files import far_pairs

from edgepack.errors import ConfigError, ModelError
from edgepack.export import export
from edgepack.export.worker import read_facts
from edgepack.specs.model import OnnxModel
from edgepack.specs.source import SourceOptions

pytestmark = pytest.mark.slow
DATA, CLASSES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[CLASSES]


def converted(model: object, folder: Path) -> OnnxModel:
    joblib.dump(model, folder / "pipe.joblib")
    options = SourceOptions(python=sys.executable, trust_code=True)
    return export(str(folder / "pipe.joblib"), None, {}, options, folder / "out")


def outputs_of(model: OnnxModel, values: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": values.astype(np.float32)})


def test_a_pipeline_answers_as_scikit_learn_does_and_keeps_its_classes(tmp_path: Path) -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(DATA, NAMES)
    model = converted(pipeline, tmp_path)
    facts = read_facts(model)
    assert facts is not None
    assert facts.classes == ("setosa", "versicolor", "virginica")
    assert facts.largest_difference < 1e-5
    (scores,) = outputs_of(model, DATA)  # the label, which may be a text, is the class of the highest score
    assert [facts.classes[i] for i in scores.argmax(axis=1)] == list(pipeline.predict(DATA.astype(np.float32)))
    np.testing.assert_allclose(scores, pipeline.predict_proba(DATA), atol=1e-5)


def test_trees_and_regressions(tmp_path: Path) -> None:
    forest = RandomForestClassifier(5, random_state=0).fit(DATA, CLASSES)
    (tmp_path / "forest").mkdir()
    (scores,) = outputs_of(converted(forest, tmp_path / "forest"), DATA)
    assert (scores.argmax(axis=1) == forest.predict(DATA.astype(np.float32))).all()
    ridge = Ridge().fit(DATA, CLASSES)
    (tmp_path / "ridge").mkdir()
    (found,) = outputs_of(converted(ridge, tmp_path / "ridge"), DATA)
    np.testing.assert_allclose(found[:, 0], ridge.predict(DATA), atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [KMeans(3, n_init=1, random_state=0), IsolationForest(n_estimators=5, random_state=0), OneClassSVM()],
    ids=lambda model: type(model).__name__,
)
def test_clusters_and_outliers_come_with_their_distances_and_scores(model: Any, tmp_path: Path) -> None:
    fitted = model.fit(DATA)
    labels, scores = outputs_of(converted(fitted, tmp_path), DATA)
    expected = fitted.transform(DATA) if isinstance(model, KMeans) else fitted.decision_function(DATA)
    assert (labels.ravel() == fitted.predict(DATA)).mean() > 0.98
    np.testing.assert_allclose(scores.reshape(expected.shape), expected, rtol=1e-3, atol=1e-3)


def test_a_pipeline_that_ends_without_probabilities_gives_its_decision_function(tmp_path: Path) -> None:
    fitted = make_pipeline(StandardScaler(), LinearSVC()).fit(DATA, CLASSES)
    (scores,) = outputs_of(converted(fitted, tmp_path), DATA)
    np.testing.assert_allclose(scores, fitted.decision_function(DATA), rtol=1e-4, atol=1e-4)


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds a dict, which neither predicts nor transforms"):
        converted({"a": 1}, tmp_path)
    with pytest.raises(ConfigError, match="number of its columns is not known"):
        converted(make_pipeline(ColumnTransformer([("c", OneHotEncoder(), [0])])), tmp_path)


def test_a_search_answers_by_its_best_estimator(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(x, x[:, 0] > 0)
    assert far_pairs(search, tmp_path) == []


def test_an_encoder_of_categories_is_not_asked_for_missing_ones(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 3, size=(60, 2)).astype(float)
    assert far_pairs(OneHotEncoder(sparse_output=False).fit(x), tmp_path) == []
