"""Writes stripes.onnx, stripes.npz and pictures/: a model and data such as you may have already."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
from PIL import Image
from stripes import CLASSES, make_pictures, to_input


def features(x, kernels):
    """Return the mean of each rectified convolution: [count, filters]."""
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], (5, 5), axis=(1, 2))
    return np.maximum(np.einsum("nhwij,fij->nfhw", windows, kernels[:, 0], optimize=True), 0).mean(axis=(2, 3))


def write_model(path):
    """Write a network of random filters whose last layer is fitted by least squares."""
    pictures, labels = make_pictures(1000, seed=0)
    x = to_input(pictures)
    kernels = np.random.default_rng(0).normal(0, 0.2, (48, 1, 5, 5)).astype(np.float32)
    known = np.column_stack([features(x, kernels), np.ones(len(x))])
    fitted = np.linalg.lstsq(known, np.eye(len(CLASSES))[labels], rcond=None)[0].astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "kernels"], ["filtered"]),
        helper.make_node("Relu", ["filtered"], ["rectified"]),
        helper.make_node("GlobalAveragePool", ["rectified"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["scores"]),
    ]
    weights = {"kernels": kernels, "weights": fitted[:-1], "bias": fitted[-1]}
    graph = helper.make_graph(
        nodes,
        "stripes",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(CLASSES)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)


def write_pictures(folder, pictures, labels):
    """Write one subfolder a class, which is where edgepack takes labels from."""
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        place = folder / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number:03}.png")


if __name__ == "__main__":
    pictures, labels = make_pictures(400, seed=1)
    write_model("stripes.onnx")
    np.savez("stripes.npz", input=to_input(pictures), labels=labels)
    write_pictures(Path("pictures"), pictures, labels)
    print(f"wrote stripes.onnx, stripes.npz and pictures/ with {len(labels)} samples")
