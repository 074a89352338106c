"""Writes what skl2onnx 1.20.0 fails on, or gets wrong, so that it does not; refuses what cannot be written so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any


def mend(job: Any, model: Any) -> None:
    """Write what the converter fails on so that it does not; what the model answers stays."""
    _mend_trees()
    for one in inside(model):
        if type(one).__name__.startswith("Voting") and hasattr(one, "estimators_"):
            _mend_voting(one)
        if type(one).__name__.startswith("HistGradientBoosting"):
            _refuse_boosting(job, one)


def inside(model: Any) -> Iterator[Any]:
    """Yield an estimator and those that it is made of."""
    if isinstance(model, dict):
        model = list(model.values())
    if isinstance(model, (list, tuple)):
        for item in model:
            yield from inside(item)
    elif hasattr(model, "get_params") and not isinstance(model, type):
        yield model
        for value in vars(model).values():
            yield from inside(value)


def _mend_trees() -> None:
    """Say in every tree to which side a missing value goes, in integers.

    The converter sends all to the right in scikit-learn's own trees; of HistGradientBoosting's it gives truth values,
    which onnx refuses.
    """
    from skl2onnx.common import tree_ensemble
    from skl2onnx.operator_converters import decision_tree

    key = "nodes_missing_value_tracks_true"

    def with_sides(given: Any, sides: Callable[[Any], list[int]]) -> Any:
        def add(pairs: dict[str, Any], classifies: bool, tree: Any, *rest: Any, **named: Any) -> None:
            begin = len(pairs[key])
            given(pairs, classifies, tree, *rest, **named)
            pairs[key][begin:] = sides(tree)

        return add

    alone = decision_tree.populate_tree_attributes

    def populate(model: Any, *rest: Any) -> dict[str, Any]:
        return {**alone(model, *rest), key: _sides(model.tree_)}

    added, boosted = (
        tree_ensemble.add_tree_to_attribute_pairs,
        tree_ensemble.add_tree_to_attribute_pairs_hist_gradient_boosting,
    )
    for given, mended in (
        (alone, populate),
        (added, with_sides(added, _sides)),
        (boosted, with_sides(boosted, _boosted_sides)),
    ):
        _put_in_place_of(given, mended)


def _sides(tree: Any) -> list[int]:
    """Return 1 for every inner node of a tree of scikit-learn that sends missing values to the left."""
    left = getattr(tree, "missing_go_to_left", [0] * tree.node_count)  # since scikit-learn 1.3
    return [int(side) if child >= 0 else 0 for side, child in zip(left, tree.children_left)]


def _boosted_sides(tree: Any) -> list[int]:
    nodes = tree.nodes
    return [int(side and not leaf) for side, leaf in zip(nodes["missing_go_to_left"], nodes["is_leaf"])]


def _put_in_place_of(given: Any, mine: Any) -> None:
    """Put a function in the place of another in all modules of the converter that have imported it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("skl2onnx."):
            for key in [key for key, value in vars(module).items() if value is given]:
                setattr(module, key, mine)


def _mend_voting(voting: Any) -> None:
    """Leave out the estimators that do not vote, give an array of weights, and the form of ``transform`` that is known.

    None changes what is predicted: ``flatten_transform`` is of ``transform`` alone.
    """
    import numpy as np

    if voting.weights is not None:
        voting.weights = np.asarray(voting._weights_not_none, float)
    voting.estimators = [(name, one) for name, one in voting.estimators if not isinstance(one, str)]
    if hasattr(voting, "flatten_transform"):
        voting.flatten_transform = False


def _refuse_boosting(job: Any, boosted: Any) -> None:
    """The converter reads a split by categories as one by a threshold, and leaves out what is behind the trees."""
    name = type(boosted).__name__
    if boosted.is_categorical_ is not None:
        raise job.refuse(
            f"{name} splits by categories, which its converter does not know",
            "put an OneHotEncoder or OrdinalEncoder in front of it and train it without categorical_features",
        )
    if boosted.loss in ("poisson", "gamma"):
        raise job.refuse(
            f"{name} with the loss {boosted.loss} ends in an exponential, which its converter leaves out",
            "train it with squared_error on the logarithm, and take the exponential of what it answers",
        )
