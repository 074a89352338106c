"""Rows for a model of tables that reach what it has learnt: the ranges, thresholds and words that are stored in it.

Rows around zero would all fall into one leaf of trees over fares, and saturate a regression over scaled ages: then a
wrong graph gives the same answers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_WORDS = ("a", "b", "red", "good movie", "42", "unknown text")
_MARGIN = 0.1  # beyond the lowest and the highest threshold, as a part of what is between them
_MISSING = 0.2
_MOST_WORDS = 50
# Where estimators of scikit-learn keep rows that they have learnt from, and the middle of each column.
_POINTS = ("support_vectors_", "cluster_centers_", "_fit_X", "theta_", "means_", "centroids_", "quantiles_")
_CENTRES = ("mean_", "center_", "statistics_")
_TIES = 0.25  # of values that lie on a threshold, where < and <= differ


@dataclass
class Column:
    """What a model has learnt of one column: its range, thresholds, or all values that it may have."""

    low: float = -2.0
    high: float = 2.0
    thresholds: list[float] = field(default_factory=list)
    choices: tuple[Any, ...] = ()


def learnt(model: Any, names: tuple[str, ...]) -> list[Column]:
    """Return what a model has learnt of its columns, in the order of their ``names``."""
    columns = [Column() for _ in names]
    numbers = {name: place for place, name in enumerate(names)}
    for estimator, places in _first_readers(model, list(range(len(names))), numbers):
        for place, column in zip(places, _known(estimator, len(places))):
            if column is not None:
                columns[place] = column
    return columns


def rows_of(
    kinds: Mapping[str, tuple[str, int]], columns: list[Column], seed: int, rows: int, *, missing: bool
) -> dict[str, Any]:
    """Return random rows for the inputs, each a kind and how many columns; ``missing`` puts NaN among the numbers."""
    import numpy as np

    random = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    rest = iter(columns)
    for name, (kind, count) in kinds.items():
        values = [_values(random, kind, column, rows) for column in itertools.islice(rest, count)]
        made[name] = np.stack(values, axis=1)
        if missing and kind != "text":
            made[name][random.random(made[name].shape) < _MISSING] = np.nan
    return made


def _values(random: Any, kind: str, column: Column, rows: int) -> Any:
    import numpy as np

    if kind == "text":
        return random.choice(np.array([str(word) for word in column.choices or _WORDS]), rows)
    if column.choices:
        return random.choice(np.array(column.choices, np.float32), rows)
    values = random.uniform(column.low, column.high, rows).astype(np.float32)
    # one that float32 does not have falls to the other side by rounding alone
    ties = [value for value in column.thresholds if float(np.float32(value)) == value]
    return (
        np.where(random.random(rows) < _TIES, random.choice(ties, rows), values).astype(np.float32) if ties else values
    )


# --- what is learnt ---------------------------------------------------------------------------------------------------


def _first_readers(model: Any, places: list[int], numbers: dict[str, int]) -> Iterator[tuple[Any, list[int]]]:
    """Yield the estimators that read columns as they come, each with their places."""
    if getattr(model, "steps", None):
        first = next((step for _, step in model.steps if step not in (None, "passthrough")), None)
        yield from _first_readers(first, places, numbers)
    elif hasattr(model, "transformers_"):
        for _, transformer, chosen in model.transformers_:
            if not isinstance(transformer, str):
                yield from _first_readers(transformer, _places(chosen, numbers), numbers)
    elif hasattr(model, "transformer_list"):
        for _, transformer in model.transformer_list:
            yield from _first_readers(transformer, places, numbers)
    elif model is not None:
        yield model, places


def _places(chosen: Any, numbers: dict[str, int]) -> list[int]:
    import numpy as np

    if isinstance(chosen, slice):
        return list(range(len(numbers)))[chosen]
    values = np.atleast_1d(chosen)
    if values.dtype == bool:
        return [int(place) for place in np.flatnonzero(values)]
    return [numbers[value] if isinstance(value, str) else int(value) for value in values.tolist()]


def _known(estimator: Any, count: int) -> list[Column | None]:
    """Return what one estimator has learnt of each of its columns; None where it is not seen."""
    if (words := getattr(estimator, "categories_", None)) is not None:
        return [_of_words(one, getattr(estimator, "handle_unknown", "error")) for one in words]
    if (words := getattr(estimator, "vocabulary_", None)) is not None:
        return [Column(choices=(*list(words)[:_MOST_WORDS], *_WORDS))] * count
    ends = _ends(estimator)
    if ends is not None and all(len(end) == count for end in ends):
        return [Column(float(low), float(high)) for low, high in zip(*ends)]
    found: dict[int, list[float]] = {}
    for place, threshold in _thresholds(estimator):
        found.setdefault(place, []).append(threshold)
    return [_between(found[place]) if place in found else None for place in range(count)]


def _of_words(words: Any, unknown: str) -> Column | None:
    """Return the categories of an encoder; with a word that it does not know where it takes one."""
    if words.dtype.kind in "iufb":
        return Column(choices=tuple(float(word) for word in words if not math.isnan(word)))
    known = tuple(word for word in words if isinstance(word, str))
    return Column(choices=known if unknown == "error" else (*known, *_WORDS)) if known else None


def _ends(estimator: Any) -> tuple[Any, Any] | None:
    """Return the lowest and the highest value of each column between which an estimator tells, where it keeps some."""
    import numpy as np

    if hasattr(estimator, "data_min_"):
        return estimator.data_min_, estimator.data_max_
    for name in _POINTS:
        points = getattr(estimator, name, None)
        if isinstance(points, np.ndarray) and points.ndim == 2 and len(points):
            margin = _MARGIN * np.ptp(points, axis=0) + np.abs(points).max(axis=0) * _MARGIN
            return points.min(axis=0) - margin, points.max(axis=0) + margin
    for name in _CENTRES:
        centre = getattr(estimator, name, None)
        if isinstance(centre, np.ndarray) and centre.ndim == 1 and centre.dtype.kind == "f":
            scale = getattr(estimator, "scale_", None)
            spread = 2 * (np.maximum(1.0, np.abs(centre)) if not isinstance(scale, np.ndarray) else scale)
            return centre - spread, centre + spread
    return None


def _between(thresholds: list[float]) -> Column:
    low, high = min(thresholds), max(thresholds)
    margin = _MARGIN * (high - low) or max(1.0, abs(high))
    return Column(low - margin, high + margin, thresholds)


def _thresholds(estimator: Any) -> Iterator[tuple[int, float]]:
    """Yield the number of a column and a threshold for every split of the trees that an estimator is made of."""
    import numpy as np

    if hasattr(estimator, "tree_"):
        inner = estimator.tree_.children_left >= 0
        yield from zip(estimator.tree_.feature[inner].tolist(), estimator.tree_.threshold[inner].tolist())
    elif hasattr(estimator, "_predictors"):
        for tree in itertools.chain.from_iterable(estimator._predictors):
            nodes = tree.nodes[tree.nodes["is_leaf"] == 0]
            yield from zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist())
    elif (table := _dumped(estimator)) is not None:
        yield from table
    else:
        for one in np.ravel(np.array(getattr(estimator, "estimators_", []), dtype=object)).tolist():
            yield from _thresholds(one)


def _dumped(estimator: Any) -> list[tuple[int, float]] | None:
    """Return the splits of XGBoost's and LightGBM's trees; None for other estimators."""
    booster = (
        estimator.get_booster() if hasattr(estimator, "get_booster") else getattr(estimator, "booster_", estimator)
    )
    if not hasattr(booster, "trees_to_dataframe"):
        return None
    frame = booster.trees_to_dataframe()
    names, thresholds = ("Feature", "Split") if "Feature" in frame else ("split_feature", "threshold")
    frame = frame[frame[thresholds].notna() & (frame[names] != "Leaf")]
    known = booster.feature_names if hasattr(booster, "feature_names") else booster.feature_name()
    places = {name: place for place, name in enumerate(known or [])}
    return [
        (places[n] if n in places else int(n.lstrip("f")), float(t)) for n, t in zip(frame[names], frame[thresholds])
    ]
