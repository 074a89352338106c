"""Converts scikit-learn pipelines, XGBoost models and LightGBM models with skl2onnx and onnxmltools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_OPSET = {"": 18, "ai.onnx.ml": 3}
_ROWS = 64
_VECTORIZERS = ("CountVectorizer", "TfidfVectorizer")
_LOCALE = "C.UTF-8"  # small systems have it, and not the en_US.UTF-8 that is ONNX Runtime's default


def convert(job: Any) -> None:
    """Convert ``job.source``, and keep what the model itself answers for random rows."""
    model = _load(job)
    job.sibling("sklearn_mends").mend(job, model)
    columns = _columns(job, model)
    proto = _to_onnx(job, model, columns)
    scores_alone = _leave_labels_out(job, model, proto)
    job.model.write_bytes(proto.SerializeToString())
    classes = getattr(model, "classes_", None)
    if classes is not None:
        job.meta["classes"] = [str(name) for name in classes]
    outputs = [value.name for value in proto.graph.output]
    for feeds in _feeds(job, model, columns):
        try:
            answers = _answers(model, columns, feeds)[1 if scores_alone else 0 :]
        except ValueError:
            if not _has_missing(feeds):
                raise
            continue  # it takes missing values where it has learnt them alone: an encoder of categories
        if len(answers) != len(outputs):
            raise job.refuse(
                f"{type(model).__name__} gives {len(answers)} outputs, its converter {len(outputs)}",
                "put a classifier, a regressor or a transformer at the end of the pipeline",
            )
        job.pair(
            feeds,
            {value.name: _as(answer, value.type.tensor_type) for value, answer in zip(proto.graph.output, answers)},
        )


def _feeds(job: Any, model: Any, columns: dict[str, tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Yield inputs to compare on: one row, two, and many; many with missing values where the model takes these."""
    table_rows = job.sibling("table_rows")
    one = next(iter(columns.values()))
    names = tuple(columns) if len(columns) > 1 else tuple(f"{place}" for place in range(one[1]))
    learnt = table_rows.learnt(model, names)
    for seed, rows in ((0, 1), (1, 2), (2, _ROWS)):
        yield table_rows.rows_of(columns, learnt, seed, rows, missing=False)
    if _takes_missing(model):
        yield table_rows.rows_of(columns, learnt, 3, _ROWS, missing=True)


def _has_missing(feeds: dict[str, Any]) -> bool:
    import numpy as np

    return any(bool(np.isnan(values).any()) for values in feeds.values() if values.dtype.kind == "f")


def _leave_labels_out(job: Any, model: Any, proto: Any) -> bool:
    """Keep the scores alone of a classifier, whose label is the class of the highest one; say whether there are any."""
    classifies = hasattr(model, "classes_") or type(model).__name__ == "Booster"
    if len(proto.graph.output) != 2 or not classifies:
        return False
    del proto.graph.output[0]
    needed = {value.name for value in proto.graph.output}
    nodes = list(proto.graph.node)
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
        else:
            nodes.remove(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    job.note("its label is left out: it is the class with the highest score")
    return True


def _load(job: Any) -> Any:
    path = Path(job.source)
    begin = path.read_bytes()[:64]
    if begin[:5] == b"tree\n":
        import lightgbm

        job.describe("LightGBM", "Booster", "lightgbm", "onnxmltools")
        return lightgbm.Booster(model_file=str(path))
    if path.suffix in (".json", ".ubj") or begin[:1] == b"{":
        import xgboost

        job.describe("XGBoost", "Booster", "xgboost-cpu", "onnxmltools")
        return _boosted(xgboost, path)
    import joblib

    model = joblib.load(path)  # the user trusts it
    while hasattr(model, "best_estimator_"):
        job.note(f"of a {type(model).__name__} the best estimator is taken, which it answers by")
        model = model.best_estimator_
    job.describe("scikit-learn", type(model).__name__, "scikit-learn", "skl2onnx")
    if not hasattr(model, "predict") and not hasattr(model, "transform"):
        raise job.refuse(f"it holds a {type(model).__name__}, which neither predicts nor transforms", "save the model")
    return model


def _boosted(xgboost: Any, path: Path) -> Any:
    """Return a model of XGBoost's own as the scikit-learn class of its objective, which has classes and answers."""
    import json

    booster = xgboost.Booster(model_file=str(path))
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    made = (
        xgboost.XGBClassifier()
        if objective.startswith(("binary:", "multi:"))
        else xgboost.XGBRanker()
        if objective.startswith("rank:")
        else xgboost.XGBRegressor()
    )
    made.load_model(path)
    return made


def _columns(job: Any, model: Any) -> dict[str, tuple[str, int]]:
    """Return the inputs by name: each a kind of column and how many; one matrix unless columns have types."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None and _selects_by_name(model):
        kinds = _kinds(model)
        return {str(name): (kinds.get(str(name), "float"), 1) for name in names}
    count = getattr(model, "n_features_in_", None)
    if count is None and hasattr(model, "num_feature"):
        count = model.num_feature()
    if count is None and getattr(model, "steps", None):
        first = model.steps[0][1]
        count = getattr(first, "n_features_in_", None)
        if count is None and hasattr(first, "vocabulary_"):
            return {"input": ("text", 1)}
    if count is None and hasattr(model, "vocabulary_"):
        return {"input": ("text", 1)}
    if count is None and job.shapes:
        count = next(iter(job.shapes.values()))[-1]
    if count is None:
        raise job.refuse("the number of its columns is not known", "give it: --shape input=Nx20", "ConfigError")
    return {"input": ("float", int(count))}


def _selects_by_name(model: Any) -> bool:
    steps = [model, *(step for _, step in getattr(model, "steps", []))]
    return any(hasattr(step, "transformers_") for step in steps)


def _kinds(model: Any) -> dict[str, str]:
    """Return which columns hold text, by the encoders that they go to."""
    kinds: dict[str, str] = {}
    for step in [model, *(step for _, step in getattr(model, "steps", []))]:
        for _, transformer, columns in getattr(step, "transformers_", []):
            inner = [transformer, *(s for _, s in getattr(transformer, "steps", []))]
            texts = [c for s in inner for c in getattr(s, "categories_", []) if c.dtype.kind in "OUS"]
            if texts or any(hasattr(s, "vocabulary_") for s in inner):
                kinds.update({str(name): "text" for name in ([columns] if isinstance(columns, str) else columns)})
    return kinds


def _to_onnx(job: Any, model: Any, columns: dict[str, tuple[str, int]]) -> Any:
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    types = [
        (name, (StringTensorType if kind == "text" else FloatTensorType)([None, count]))
        for name, (kind, count) in columns.items()
    ]
    module = type(model).__module__.partition(".")[0]
    try:
        if module == "lightgbm" and type(model).__name__ == "Booster":
            from onnxmltools.convert import convert_lightgbm
            from onnxmltools.convert.common.data_types import FloatTensorType as Theirs

            return convert_lightgbm(
                model, initial_types=[("input", Theirs([None, columns["input"][1]]))], zipmap=False, target_opset=15
            )
        _register()
        from skl2onnx import convert_sklearn, to_onnx  # noqa: F401  (to_onnx registers all converters)

        texts = [one for one in job.sibling("sklearn_mends").inside(model) if type(one).__name__ in _VECTORIZERS]
        locales: dict[int, Any] = {id(one): {"locale": _LOCALE} for one in texts}
        options = {**locales, **({id(model): {"zipmap": False}} if hasattr(model, "classes_") else {})}
        try:
            made = convert_sklearn(model, "model", types, options=options, target_opset=_OPSET)
        except NameError:  # its converter has no such option, and gives an array anyway
            made = convert_sklearn(model, "model", types, options={**locales, **_raw(model)}, target_opset=_OPSET)
        return _one_import_each(made)
    except Exception as error:
        raise job.refuse(
            f"its converter does not know it: {(str(error).splitlines() or [type(error).__name__])[0][:300]}",
            "replace the step that it names, or export the model from its own program",
        ) from error


def _one_import_each(proto: Any) -> Any:
    """The converter may import the standard operators twice, by both of their names."""
    versions: dict[str, int] = {}
    for opset in proto.opset_import:
        name = "" if opset.domain == "ai.onnx" else opset.domain
        versions[name] = max(versions.get(name, 0), opset.version)
    del proto.opset_import[:]
    for name, version in versions.items():
        proto.opset_import.add(domain=name, version=version)
    return proto


def _raw(model: Any) -> dict[int, Any]:
    """Return the option of a last step that has a decision function and no probabilities, such as LinearSVC.

    In a pipeline skl2onnx 1.20 asks it for a map of scores, which it has not, unless it is asked for raw ones.
    """
    last = model.steps[-1][1] if getattr(model, "steps", None) else model
    is_raw = hasattr(last, "decision_function") and not hasattr(last, "predict_proba")
    return {id(last): {"raw_scores": True}} if is_raw and last is not model else {}


def _register() -> None:
    """Let scikit-learn's converter know the boosted trees of the other two, as their documentation says."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    try:
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        update_registered_converter(
            xgboost.XGBClassifier,
            "XGBoostXGBClassifier",
            calculate_linear_classifier_output_shapes,
            convert_xgboost,
            options=options,
        )
        update_registered_converter(
            xgboost.XGBRegressor, "XGBoostXGBRegressor", calculate_linear_regressor_output_shapes, convert_xgboost
        )
    except ImportError:
        pass
    try:
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(
            lightgbm.LGBMClassifier,
            "LightGbmLGBMClassifier",
            calculate_linear_classifier_output_shapes,
            convert_lightgbm,
            options=options,
        )
        update_registered_converter(
            lightgbm.LGBMRegressor, "LightGbmLGBMRegressor", calculate_linear_regressor_output_shapes, convert_lightgbm
        )
    except ImportError:
        pass


def _answers(model: Any, columns: dict[str, tuple[str, int]], feeds: dict[str, Any]) -> list[Any]:
    """Return what the model itself answers: a classifier's labels and scores, else its predictions or features."""
    data = _table(model, columns, feeds)
    try:
        return _answered(model, data)
    except ValueError:
        if str(getattr(data, "dtype", "")) != "float32":
            raise
        return _answered(model, data.astype("float64"))  # KMeans, for one, takes the type alone that it was fitted on


def _kind(model: Any) -> str:
    """Return of which kind scikit-learn says a model is; empty for another package's own."""
    tags = _tags(model)
    return str((tags.estimator_type if tags else getattr(model, "_estimator_type", "")) or "")


def _takes_missing(model: Any) -> bool:
    """Say whether a model answers for rows with missing values; XGBoost's and LightGBM's own do."""
    tags = _tags(model)
    return bool(tags.input_tags.allow_nan) if tags else type(model).__name__ == "Booster"


def _tags(model: Any) -> Any:
    """Return what scikit-learn says of a model; None for another package's own, and before scikit-learn 1.6."""
    from sklearn import utils

    return utils.get_tags(model) if hasattr(model, "get_params") and hasattr(utils, "get_tags") else None


def _answered(model: Any, data: Any) -> list[Any]:
    kind = _kind(model)
    if kind == "outlier_detector" and hasattr(model, "decision_function"):
        return [model.predict(data), model.decision_function(data)]
    if kind == "clusterer" and hasattr(model, "transform"):
        return [model.predict(data), model.transform(data)]
    if hasattr(model, "predict_proba"):
        return [model.predict(data), model.predict_proba(data)]
    if hasattr(model, "decision_function") and hasattr(model, "classes_"):
        return [model.predict(data), model.decision_function(data)]
    if getattr(model, "voting", None) == "hard":
        return [model.predict(data), _votes(model, data)]
    if type(model).__name__ == "Booster":
        return _boosters(model, data)
    return [model.predict(data) if hasattr(model, "predict") else model.transform(data)]


def _votes(model: Any, data: Any) -> Any:
    """Return the share of votes that each class gets."""
    import numpy as np

    chosen = model.transform(data)  # by the number of the class: rows, estimators
    votes = chosen[:, :, None] == np.arange(len(model.classes_))
    return np.average(votes, axis=1, weights=model.weights)


def _boosters(model: Any, data: Any) -> list[Any]:
    """Return a booster's answers as its converter gives them: of a classifier the label and both scores."""
    import numpy as np

    scores = np.asarray(model.predict(data))
    kind = model.dump_model().get("objective", "")
    if kind.startswith("binary"):
        return [(scores > 0.5).astype(np.int64), np.stack([1 - scores, scores], axis=1)]
    return [scores.argmax(axis=1), scores] if kind.startswith("multiclass") else [scores]


def _table(model: Any, columns: dict[str, tuple[str, int]], feeds: dict[str, Any]) -> Any:
    if len(columns) > 1:
        import pandas

        return pandas.DataFrame({name: values[:, 0] for name, values in feeds.items()})
    (values,) = feeds.values()
    if next(iter(columns.values()))[0] == "text":
        return values[:, 0]
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return values
    import pandas

    return pandas.DataFrame(values, columns=names)


def _as(answer: Any, kind: Any) -> Any:
    """Return an answer in the type and rank that it has in the ONNX model, where a vector is a matrix of one column."""
    import numpy as np
    from onnx import helper

    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    wanted = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    array = np.asarray(answer)
    if array.ndim == 1 and len(kind.shape.dim) == 2:
        array = array[:, None]
    return array.astype(str) if wanted.kind in "OUS" else array.astype(wanted)
