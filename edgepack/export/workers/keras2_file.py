"""Converts files of Keras 2, and those of its TensorFlow Model Optimization Toolkit: pruned, clustered, quantized.

A model that was trained for quantization goes through TensorFlow Lite, as the toolkit's "Quantization aware training
comprehensive guide" does it ("Create and deploy quantized model"): its ranges become scales, its layers integers.
"""

from __future__ import annotations

import os
from typing import Any

_QUANTIZED = ("QuantizeLayer", "QuantizeWrapper", "QuantizeWrapperV2")


def convert(job: Any) -> None:
    """Convert ``job.source``."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tf_keras

    model = _load(job, tf_keras)
    kinds = {type(layer).__name__ for layer in model.submodules}
    if kinds.intersection(_QUANTIZED):
        _quantized(job, tf, model)
    else:
        _stripped(job, tf, model, kinds)


def _load(job: Any, tf_keras: Any) -> Any:
    import contextlib

    import tensorflow_model_optimization as tfmot

    with contextlib.ExitStack() as scopes:
        scopes.enter_context(tfmot.sparsity.keras.prune_scope())
        scopes.enter_context(tfmot.clustering.keras.cluster_scope())
        scopes.enter_context(tfmot.quantization.keras.quantize_scope(_users_layers(job, tf_keras)))
        try:
            model = tf_keras.models.load_model(job.source, compile=False, safe_mode=not job.options.get("trust_code"))
        except Exception as error:
            words = " ".join(line.strip() for line in str(error).splitlines()[:3])[:500]
            hint = "save it as .h5, which the toolkit loads where it cannot load its .keras; --module for custom layers"
            raise job.refuse(f"Keras {tf_keras.__version__} with the toolkit cannot load it: {words}", hint) from error
    return model


def _users_layers(job: Any, tf_keras: Any) -> dict[str, Any]:
    if not job.options.get("module"):
        return {}
    loaded = job.sibling("user_module").load(job, job.options["module"])
    return {n: v for n, v in vars(loaded).items() if isinstance(v, type) and issubclass(v, tf_keras.layers.Layer)}


# --- quantization-aware training --------------------------------------------------------------------------------------


def _quantized(job: Any, tf: Any, model: Any) -> None:
    """Write the integer file of TensorFlow Lite, and convert that."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    job.progress("converting to TensorFlow Lite")
    made = job.folder / "model.tflite"
    try:
        made.write_bytes(converter.convert())
    except Exception as error:
        words = " ".join(line.strip() for line in str(error).splitlines()[:2])[:400]
        raise job.refuse(
            f"TensorFlow Lite cannot write it: {words}", "leave the layer that it names out of the quantization"
        ) from error
    source, job.source = job.source, str(made)
    try:
        job.sibling("tflite").convert(job)
    finally:
        job.source = source
    _describe(job, f"{model.name}, trained for quantization", toolkit=True)
    job.meta["quantized"] = True
    job.note(f"its ranges are those of its training; {_simulated(tf, model, made)}")


def _simulated(tf: Any, model: Any, made: Any) -> str:
    """Say by how much the integers of TensorFlow Lite differ from what Keras simulates."""
    import numpy as np

    interpreter = tf.lite.Interpreter(model_path=str(made), num_threads=1)
    interpreter.allocate_tensors()
    names = {
        one["name"].partition(":")[0].removeprefix("serving_default_"): one for one in interpreter.get_input_details()
    }
    random = np.random.default_rng(0)
    feeds = []
    for tensor in model.inputs:
        one = names.get(tensor.name.partition(":")[0])
        if one is None:
            return "what Keras simulates was not compared"
        feeds.append(random.normal(size=[1, *tensor.shape[1:]]).astype(one["dtype"]))
        interpreter.set_tensor(one["index"], feeds[-1])
    interpreter.invoke()
    found = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
    simulated = model(feeds if len(feeds) > 1 else feeds[0], training=False)
    answers = [np.asarray(v) for v in tf.nest.flatten(simulated)]
    if [v.shape for v in found] != [v.shape for v in answers]:
        return "what Keras simulates was not compared"
    far = max(float(np.abs(a - b).max() / (np.abs(b).max() or 1)) for a, b in zip(found, answers))
    return f"TensorFlow Lite's integers differ from what Keras simulates by {far:.1e} of the largest value on one input"


# --- float models -------------------------------------------------------------------------------------------


def _stripped(job: Any, tf: Any, model: Any, kinds: set[str]) -> None:
    """Write a float model, without the wrappers that trained it: its weights are what they left."""
    import tensorflow_model_optimization as tfmot

    what = []
    if "PruneLowMagnitude" in kinds:
        model = tfmot.sparsity.keras.strip_pruning(model)
        what.append("pruned")
        job.note(f"{_zeros(model):.0%} of its weights are zero")
    if "ClusterWeights" in kinds:
        clusters = [one.number_of_clusters for one in model.layers if type(one).__name__ == "ClusterWeights"]
        job.note(f"its layers were clustered to {max(clusters, default=0)} different weights at most")
        model = tfmot.clustering.keras.strip_clustering(model)
        what.append("clustered")
    _describe(job, ", ".join((model.name, " and ".join(what))) if what else model.name, toolkit=bool(what))
    names = [tensor.name.partition(":")[0] for tensor in model.inputs]
    signature = [tf.TensorSpec((None, *t.shape[1:]), t.dtype, name=n) for t, n in zip(model.inputs, names)]
    job.progress("converting")
    _write(job, model, signature)
    first, last = job.sibling("tensorflow_graph").clean_names(job, dict(zip(_written(job), model.output_names)))
    shared = job.sibling("tensorflow_graph")

    def ask(*how: int) -> tuple[list[Any], list[Any]]:
        feeds = [shared.feeds_for(list(t.shape), t.dtype.as_numpy_dtype, *how) for t in model.inputs]
        return feeds, tf.nest.flatten(model(feeds if len(feeds) > 1 else feeds[0], training=False))

    for feeds, answers in job.sibling("trials").answered(ask):
        job.pair(dict(zip(first, feeds)), {n: v.numpy() for n, v in zip(last, answers)})


def _describe(job: Any, title: str, *, toolkit: bool) -> None:
    packages = ("tensorflow-cpu", "tf-keras", "tf2onnx", *(("tensorflow-model-optimization",) if toolkit else ()))
    job.describe("TensorFlow Model Optimization Toolkit" if toolkit else "Keras 2", title, *packages)


def _write(job: Any, model: Any, signature: list[Any]) -> None:
    import tf2onnx

    shared = job.sibling("tensorflow_graph")
    shared.keep_einsums()
    try:
        tf2onnx.convert.from_keras(model, input_signature=signature, opset=shared.OPSET, output_path=str(job.model))
    except (Exception, SystemExit) as error:
        raise shared.refused(job, error) from error


def _written(job: Any) -> list[str]:
    import onnx

    return [value.name for value in onnx.load(str(job.model), load_external_data=False).graph.output]


def _zeros(model: Any) -> float:
    """Return the share of zeros in kernels."""
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    total = sum(w.size for w in kernels)
    return sum(int((w == 0).sum()) for w in kernels) / total if total else 0.0
