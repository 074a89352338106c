"""Reads fastai Learners, which ``Learner.export`` pickles with all their classes."""

from __future__ import annotations

from pathlib import Path

from edgepack.export import Framework
from edgepack.export.executes import DAMAGED, pickle_names
from edgepack.export.kinds import kind_of
from edgepack.export.worker import Worker

_LEARNER = "fastai.learner.Learner"


def takes(source: str) -> bool:
    """Say whether it is a pickled Learner, by the names in it."""
    if kind_of(source) not in ("torch", "pickle"):
        return False
    try:
        return _LEARNER in pickle_names(Path(source))
    except DAMAGED:
        return False


def executes(source: str) -> tuple[str, ...]:
    """Return the names that the pickle imports."""
    return pickle_names(Path(source))


FRAMEWORK = Framework(
    title="a fastai Learner",
    form=takes,
    uses_samples=False,
    prepares=lambda _: True,
    worker=Worker("fastai_learner", "fastai", needs=("fastai", "torch", "onnxscript"), executes=executes),
)
