"""Reads scikit-learn pipelines (pickle, joblib), XGBoost models and LightGBM models."""

from __future__ import annotations

from pathlib import Path

from edgepack.export import Framework
from edgepack.export.executes import pickle_names
from edgepack.export.kinds import kind_of
from edgepack.export.worker import Worker

_KINDS = ("pickle", "xgboost", "lightgbm")


def takes(source: str) -> bool:
    """Say whether a file is one of theirs."""
    return kind_of(source) in _KINDS


def executes(source: str) -> tuple[str, ...]:
    """Return the names that a pickle imports; the other two are data."""
    return pickle_names(Path(source)) if kind_of(source) not in ("xgboost", "lightgbm") else ()


FRAMEWORK = Framework(
    title=".joblib",
    suffixes=(".joblib", ".pkl", ".pickle"),
    form=takes,
    uses_samples=False,
    worker=Worker("sklearn_pipeline", "sklearn", executes=executes),
)
