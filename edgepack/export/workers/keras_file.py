"""Converts Keras models: .keras, .h5, and the architectures of Keras Applications by name."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
from typing import Any

# In the order of how much of the graph's form each leaves to be cleaned up: see docs/sources.md.
_BACKENDS = (("tensorflow", "tensorflow-cpu"), ("torch", "torch"), ("jax", "jax"))
_SIZES = 4  # of free axes, by the usual ones: networks for pictures halve theirs up to five times


def convert(job: Any) -> None:
    """Convert ``job.source``, a file or ``keras:NAME``."""
    backend, package = _choose_backend(job)
    if backend == "torch":
        job.sibling("torch_graph").without_torchvision()
    import keras

    named = job.source.startswith("keras:")
    model = _application(job, keras) if named else _load(job, keras)
    job.describe("Keras", f"{model.name} ({backend})", "keras", *_installed(package))
    if not model.built or not model.inputs:
        raise job.refuse(
            "the model was never called, so the shapes of its inputs are not known", "call it once and save it again"
        )
    specs, names = _specs(job, keras, model)
    job.progress("converting")
    shared = job.sibling("tensorflow_graph")
    _call(shared, model, specs, 0, 2)
    if backend == "tensorflow":
        shared.keep_einsums()
    _export(job, _at_rest(keras, model, specs), specs)
    outputs = _output_names(job, model)
    for feeds, answers in job.sibling("trials").answered(lambda *how: _call(shared, model, specs, *how)):
        if len(answers) != len(outputs):
            raise job.refuse(
                f"the model has {len(answers)} outputs, its ONNX file {len(outputs)}", "return tensors only"
            )
        job.pair(dict(zip(names, feeds)), dict(zip(outputs, answers)))


def _choose_backend(job: Any) -> tuple[str, str]:
    """Use a backend that is there; the user's own choice where one was made."""
    wanted = os.environ.get("KERAS_BACKEND")
    found = [pair for pair in _BACKENDS if importlib.util.find_spec(pair[0]) is not None]
    chosen = next((pair for pair in found if pair[0] == wanted), found[0] if found else None)
    if chosen is None:
        raise job.refuse(
            "Keras has no backend in this Python", "pip install tensorflow-cpu, or torch", "ToolchainError"
        )
    os.environ["KERAS_BACKEND"] = chosen[0]
    return chosen


def _installed(*packages: str) -> tuple[str, ...]:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in (*packages, "tf2onnx", "onnxscript"):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return tuple(found)


def _load(job: Any, keras: Any) -> Any:
    safe = not job.options.get("trust_code")
    try:
        return keras.models.load_model(job.source, compile=False, safe_mode=safe, custom_objects=_custom(job, keras))
    except Exception as error:
        words = " ".join(line.strip() for line in str(error).splitlines()[:3])[:500]
        if (custom := _custom_class(error)) is not None:
            hint = f"give its code: --module layers.py:{custom}; a Python with what that imports: --python PATH"
            raise job.refuse(f"it has the custom layer {custom}, whose code is not in the file", hint) from error
        raise job.refuse(f"Keras {keras.__version__} cannot load it: {words}", _load_hint(words)) from error


def _custom_class(error: BaseException | None) -> str | None:
    """Return the class that Keras did not find, which the innermost error names."""
    while error is not None:
        found = re.search(r"(?:Could not locate class|Unknown \w+:?) '?(\w+)'?", str(error))
        if found:
            return found[1]
        error = error.__cause__ or error.__context__
    return None


def _load_hint(words: str) -> str:
    if "lambda" in words.lower() or "safe_mode" in words:
        return "it holds Python code: if you trust where it comes from, add --trust-code"
    return "load it with the version of Keras that wrote it, and save it as .keras"


def _custom(job: Any, keras: Any) -> dict[str, Any]:
    """Return the layers that the user's file defines, and Keras 2's depthwise convolution, with an argument more."""

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
        def __init__(self, *arguments: Any, groups: int = 1, **named: Any) -> None:  # noqa: ARG002
            super().__init__(*arguments, **named)

    found: dict[str, Any] = {"DepthwiseConv2D": DepthwiseConv2D} if job.source.endswith((".h5", ".hdf5")) else {}
    module = job.options.get("module")
    if not module:
        return found
    loaded = job.sibling("user_module").load(job, module)
    kinds = (keras.layers.Layer, keras.Model)
    mine = {
        n: v
        for n, v in vars(loaded).items()
        if inspect.isclass(v) and issubclass(v, kinds) and v.__module__ == loaded.__name__
    }
    return {**found, **mine}


def _application(job: Any, keras: Any) -> Any:
    """Return an architecture by name, with the user's weights, or the published ones where fetching is allowed."""
    name = job.source.partition(":")[2]
    known = {k: v for k, v in vars(keras.applications).items() if inspect.isfunction(v)}
    if name not in known:
        near = [k for k in known if k.lower() == name.lower()] or sorted(known)
        raise job.refuse(f"Keras Applications has no {name}", f"one of: {', '.join(near)}", "ConfigError")
    weights = job.options.get("weights")
    if not weights and not job.options.get("download"):
        hint = "give them: --weights FILE.h5; or let Keras fetch those of ImageNet: --download"
        raise job.refuse(f"{job.source} names an architecture without weights", hint, "ConfigError")
    model = known[name](weights=weights or "imagenet", **({"classes": _classes(weights)} if weights else {}))
    job.meta["preprocessing"] = _preprocessing(known[name], model)
    return model


def _classes(weights: str) -> int:
    """Return how many classes a file of weights is for: the length of its last bias."""
    import h5py

    lengths: list[int] = []
    with h5py.File(weights, "r") as file:
        file.visititems(lambda _name, item: lengths.append(item.shape[0]) if getattr(item, "ndim", 0) == 1 else None)
    return lengths[-1] if lengths else 1000


def _preprocessing(function: Any, model: Any) -> dict[str, Any]:
    """Return what the architecture's own preprocess_input does with a pixel, found by giving it black and white."""
    import numpy as np

    module = inspect.getmodule(function)
    _, height, width, channels = model.inputs[0].shape
    prepare = getattr(module, "preprocess_input", None)
    probe = np.zeros((1, 2, 1, channels), np.float32)
    probe[0, 1] = 255.0
    black, white = np.asarray(prepare(probe.copy()) if prepare else probe)[0, :, 0]
    probe[0, 1, 0, 0] = 0.0
    swapped = bool(np.argmax(np.abs(np.asarray(prepare(probe.copy()) if prepare else probe)[0, 1, 0] - white)) != 0)
    scale = 255.0 / (white - black)  # (pixel - mean) / std, in the order of the channels as the network has them
    return {
        "resize": [int(height), int(width)], "color": "BGR" if swapped else "RGB", "layout": "NHWC", "scale": 1.0,
        "mean": [float(v) for v in -black * scale], "std": [float(v) for v in scale],
    }  # fmt: skip


def _specs(job: Any, keras: Any, model: Any) -> tuple[list[Any], list[str]]:
    specs = []
    names = [
        (tensor.name or f"input_{index}").partition(":")[0].replace("/", "_")
        for index, tensor in enumerate(model.inputs)
    ]
    shapes = job.shapes_of(names)
    for index, tensor in enumerate(model.inputs):
        name = names[index]
        given = shapes.get(name) or (shapes.get("input") if len(names) == 1 else None)
        shape = [None if isinstance(d, str) else d for d in given] if given else list(tensor.shape)
        specs.append(keras.InputSpec(shape=(None, *shape[1:]), dtype=str(tensor.dtype), name=name))
    return specs, names


def _at_rest(keras: Any, model: Any, specs: list[Any]) -> Any:
    """Return the model told to infer, where one of its layers trains unless it is told, as those that augment pictures.

    Keras' export tells none, and behind such a layer batch norms train as well.
    """
    parameters = (inspect.signature(layer.call).parameters.get("training") for layer in model._flatten_layers())
    if not any(training is not None and training.default is True for training in parameters):
        return model
    inputs = [keras.Input(batch_shape=spec.shape, dtype=spec.dtype, name=spec.name) for spec in specs]
    return keras.Model(inputs, model(_packed(model, inputs), training=False), name=model.name)


def _export(job: Any, model: Any, specs: list[Any]) -> None:
    try:
        model.export(str(job.model), format="onnx", input_signature=[_packed(model, specs)], verbose=False)
    except Exception as error:
        unfixed = next((spec.name for spec in specs if None in spec.shape[1:]), None)
        hint = (
            f"give the size that you need: --shape {unfixed}=Nx...; a layer of it may take no free one"
            if unfixed
            else ""
        )
        raise job.sibling("tensorflow_graph").refused(job, error, hint) from error


def _call(
    shared: Any, model: Any, specs: list[Any], seed: int, batch: int, factor: int = 1
) -> tuple[list[Any], list[Any]]:
    """Return random inputs and what the model answers, each in the order of the model's own."""
    import keras

    feeds = [shared.feeds_for(list(spec.shape), spec.dtype, seed, batch, factor * _SIZES) for spec in specs]
    tensors = [keras.ops.convert_to_tensor(values) for values in feeds]
    answers = model(_packed(model, tensors), training=False)
    flat = keras.tree.flatten(answers)
    return feeds, [keras.ops.convert_to_numpy(value) for value in flat]


def _packed(model: Any, values: list[Any]) -> Any:
    """Return values for the inputs as the model takes them: one alone, a list, or by name."""
    import keras

    structure = getattr(model, "_inputs_struct", None)
    if structure is None:
        return values[0] if len(values) == 1 else values
    return keras.tree.pack_sequence_as(structure, values)


def _output_names(job: Any, model: Any) -> list[str]:
    """Give the outputs the names that they have in Keras, whatever the exporter of the backend made of them."""
    import onnx

    written = [value.name for value in onnx.load(str(job.model), load_external_data=False).graph.output]
    names = list(getattr(model, "output_names", []))
    known = dict(zip(written, names)) if len(names) == len(written) else {}
    return list(job.sibling("tensorflow_graph").clean_names(job, known)[1])
