"""Rows for tables reach what a model has learnt, so that a wrong graph shows."""

from __future__ import annotations

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from worker_files import worker_file

RANDOM = np.random.default_rng(0)
FARES = RANDOM.gamma(2, 300, size=(200, 1))
WORDS = RANDOM.choice(["Cherbourg", "Queenstown"], size=(200, 1))


def rows(model: object, kinds: dict[str, tuple[str, int]], count: int = 64, *, missing: bool = False) -> np.ndarray:
    table_rows = worker_file("table_rows")
    names = tuple(f"{place}" for _, (_, many) in kinds.items() for place in range(many))
    return table_rows.rows_of(kinds, table_rows.learnt(model, names), 0, count, missing=missing)


def test_trees_are_asked_on_both_sides_of_their_thresholds_and_on_these() -> None:
    forest = RandomForestRegressor(3, max_leaf_nodes=12, random_state=0).fit(np.rint(FARES), FARES.ravel())
    values = rows(forest, {"input": ("float", 1)})["input"]
    leaves = forest.apply(values)
    assert [len(set(column)) for column in leaves.T] == [12, 12, 12]
    thresholds = np.concatenate([tree.tree_.threshold for tree in forest.estimators_])
    assert np.isin(values, thresholds).any(), "there < and <= differ"


def test_a_scaled_pipeline_is_asked_in_its_own_range() -> None:
    line = make_pipeline(StandardScaler(), LogisticRegression()).fit(FARES, FARES.ravel() > 600)
    values = rows(line, {"input": ("float", 1)})["input"]
    assert 0.05 < line.predict(values).mean() < 0.95


def test_words_are_those_that_the_model_knows() -> None:
    table = np.concatenate([FARES.astype(object), WORDS], axis=1)
    columns = ColumnTransformer([("word", OneHotEncoder(), [1]), ("fare", StandardScaler(), [0])]).fit(table)
    made = rows(columns, {"fare": ("float", 1), "word": ("text", 1)})
    assert set(made["word"].ravel()) == {"Cherbourg", "Queenstown"}
    assert abs(made["fare"].mean() - FARES.mean()) < FARES.std()


def test_missing_values_stand_among_the_numbers() -> None:
    forest = RandomForestRegressor(2, random_state=0).fit(FARES, FARES.ravel())
    assert 0.05 < np.isnan(rows(forest, {"input": ("float", 1)}, missing=True)["input"]).mean() < 0.5
