"""Converts TensorFlow SavedModels with tf2onnx; the signature's own function gives the answers."""

from __future__ import annotations

from typing import Any


def convert(job: Any) -> None:
    """Convert one signature of the folder ``job.source``."""
    import tensorflow as tf

    shared = job.sibling("tensorflow_graph")
    try:
        loaded = tf.saved_model.load(job.source)
    except Exception as error:
        words = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        hint = "custom operators need the package that has them: --python PATH"
        raise job.refuse(f"TensorFlow cannot load it: {words}", hint) from error
    name = _signature(job, sorted(loaded.signatures))
    function = loaded.signatures[name]
    job.describe("TensorFlow", f"SavedModel, signature {name}", "tensorflow-cpu", "tf2onnx")
    job.progress("converting")
    shared.run_tf2onnx(job, "--saved-model", job.source, "--signature_def", name, "--tag", "serve")
    _, arguments = function.structured_input_signature
    inputs = {key: arguments[key] for key in sorted(arguments)}
    names_in, names_out = shared.clean_names(job)

    def ask(*how: int) -> tuple[dict[str, Any], dict[str, Any]]:
        feeds = {key: shared.feeds_for(_dims(spec), spec.dtype.as_numpy_dtype, *how) for key, spec in inputs.items()}
        found = function(**{key: tf.constant(values) for key, values in feeds.items()})
        return feeds, {key: value.numpy() for key, value in found.items()}

    for feeds, answers in job.sibling("trials").answered(ask):
        job.pair(_matched(feeds, names_in), _matched(answers, names_out))


def _signature(job: Any, names: list[str]) -> str:
    """Return the signature that is meant: the one asked for, the only one, or the one that serves by default."""
    asked = job.options.get("signature")
    known = [name for name in names if not name.startswith("__")]
    if asked in known:
        return str(asked)
    if asked is None and set(known) == {"serve", "serving_default"}:  # Keras exports one function by both names
        return "serving_default"
    if asked is None and len(known) == 1:
        return known[0]
    if not known:
        hint = "save it with tf.saved_model.save(model, folder, signatures=...), or give the Keras file"
        raise job.refuse("the SavedModel has no signature", hint)
    what = f"has no signature {asked!r}" if asked else f"has {len(known)} signatures"
    hint = f"choose one: --signature {known[0]}; it has: {', '.join(known)}"
    raise job.refuse(f"the SavedModel {what}", hint, "ConfigError")


def _dims(spec: Any) -> list[Any]:
    return list(spec.shape) if spec.shape.rank is not None else []


def _matched(values: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return values by the names in the ONNX model, which are the signature's own where tf2onnx kept them."""
    if set(values) == set(names):
        return values
    if len(values) == len(names) == 1:
        return {names[0]: next(iter(values.values()))}
    return dict(zip(names, values.values()))
