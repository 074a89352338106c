"""Converts TensorFlow Lite files with tf2onnx; TensorFlow Lite's own interpreter gives the answers."""

from __future__ import annotations

from typing import Any


def convert(job: Any) -> None:
    """Convert ``job.source``; an integer model comes out with Q/DQ nodes and integer inputs, as it is."""
    import tensorflow as tf

    shared = job.sibling("tensorflow_graph")
    interpreter = _open(job, tf)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    job.describe("TensorFlow Lite", "TensorFlow Lite model", "tensorflow-cpu", "tf2onnx")
    job.meta["quantized"] = _is_quantized(interpreter)
    job.progress("converting")
    shared.run_tf2onnx(job, "--tflite", job.source)
    names_in, names_out = _names(job, shared, interpreter, inputs, outputs)
    free = all(_signature(one)[:1] == [-1] for one in inputs)

    def ask(seed: int, batch: int, factor: int) -> tuple[dict[str, Any], dict[str, Any]]:
        feeds = {
            name: shared.feeds_for(_signature(one), one["dtype"], seed, batch if free else 1, factor)
            for name, one in zip(names_in, inputs)
        }
        for one, values in zip(inputs, feeds.values()):
            interpreter.resize_tensor_input(one["index"], values.shape)
        interpreter.allocate_tensors()
        for one, values in zip(inputs, feeds.values()):
            interpreter.set_tensor(one["index"], values)
        interpreter.invoke()
        return feeds, {name: interpreter.get_tensor(one["index"]) for name, one in zip(names_out, outputs)}

    for feeds, answers in job.sibling("trials").answered(ask):
        job.pair(feeds, answers)


def _open(job: Any, tf: Any) -> Any:
    try:
        interpreter = tf.lite.Interpreter(model_path=job.source, num_threads=1)
        signatures = list(interpreter.get_signature_list())
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        words = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        hint = "a Select TF or custom operator is in it: convert the model that it was made from"
        raise job.refuse(f"TensorFlow Lite cannot load it: {words}", hint) from error
    if len(signatures) > 1:
        hint = "convert the one that you need by itself: tf.lite.TFLiteConverter.from_concrete_functions"
        raise job.refuse(f"it has {len(signatures)} signatures: {', '.join(signatures)}", hint)
    return interpreter


def _is_quantized(interpreter: Any) -> bool:
    """Say whether activations are integers: most tensors that the operators write have a scale."""
    kinds = [one["dtype"].__name__ for one in interpreter.get_tensor_details() if one["quantization"][0] > 0]
    floats = [one for one in interpreter.get_tensor_details() if one["dtype"].__name__ == "float32"]
    return len(kinds) > len(floats)


def _signature(one: Any) -> list[int]:
    """Return an input's shape with -1 for what is free."""
    found = one.get("shape_signature")
    return [int(dim) for dim in (found if found is not None and len(found) else one["shape"])]


def _names(job: Any, shared: Any, interpreter: Any, inputs: Any, outputs: Any) -> tuple[list[str], list[str]]:
    """Return the ONNX model's names in the order of the interpreter's: its signature's, which the user knows."""
    import onnx

    graph = onnx.load(str(job.model), load_external_data=False).graph
    written = [value.name for value in (*graph.input, *graph.output)]
    tensors = {one["index"]: one["name"] for one in (*inputs, *outputs)}
    known: dict[str, str] = {}
    for key in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(key)
        for details in (runner.get_input_details(), runner.get_output_details()):
            known.update({tensors[d["index"]]: name for name, d in details.items() if d["index"] in tensors})
    first, last = shared.clean_names(job, known)
    renamed = dict(zip(written, (*first, *last)))
    try:
        return [renamed[one["name"]] for one in inputs], [renamed[one["name"]] for one in outputs]
    except KeyError:  # tf2onnx gave a tensor another name: then both are in the file's order
        return first, last
