"""Outputs are cut into what detectors' heads put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from quantize_models import node, random_feeds, save

from edgepack.data.samples import find_samples
from edgepack.quantize.output_parts import bounded_outputs, find_parts, parts_of
from edgepack.verify.means import sample_means
from edgepack.verify.parts import PartEnergies, balance, read_parts

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel


def head(out: Path) -> OnnxModel:
    """Return YOLOX's head: boxes, objectness and classes of two strides, put together by channel and then by place."""
    nodes: list[Any] = []
    constants: dict[str, Any] = {"flat": np.array([1, 7, -1]), "order": np.array([0, 2, 1])}
    for stride, tensor in ((1, "x"), (2, "pooled")):
        for part, channels in (("box", 4), ("object", 1), ("class", 2)):
            constants[f"w{part}{stride}"] = np.ones((channels, 3, 1, 1), np.float32)
            nodes.append(node("Conv", f"{tensor} w{part}{stride}", f"{part}{stride}"))
        nodes += [
            node("Sigmoid", f"object{stride}", f"objectness{stride}"),
            node("Sigmoid", f"class{stride}", f"scores{stride}"),
            node("Concat", f"box{stride} objectness{stride} scores{stride}", f"all{stride}", axis=1),
            node("Reshape", f"all{stride} flat", f"flat{stride}"),
        ]
    nodes.insert(0, node("AveragePool", "x", "pooled", kernel_shape=[2, 2], strides=[2, 2]))
    nodes += [node("Concat", "flat1 flat2", "both", axis=2), node("Transpose", "both", "y", perm=[0, 2, 1])]
    return save(nodes, constants, out, inputs={"x": (1, 3, 4, 4)})


def test_boxes_objectness_and_classes_of_each_stride(tmp_path: Path) -> None:
    model = head(tmp_path / "m.onnx")
    found = parts_of(model, random_feeds(model, 1)[0])["y"]
    assert found.labels.shape == (1, 16 + 4, 7)
    assert len(found.names) == 6
    assert len({int(v) for v in found.labels[0, 0, :4]}) == 1
    assert found.labels[0, 0, 0] != found.labels[0, 16, 0]  # another stride
    of_first = [found.labels[0, 0, place] for place in (0, 4, 5)]
    assert len(set(of_first)) == 3
    assert found.labels[0, 0, 5] == found.labels[0, 0, 6]
    assert (found.labels[:, :16] == found.labels[:, :1]).all()


def test_what_is_a_probability_by_construction(tmp_path: Path) -> None:
    nodes = [
        node("Sigmoid", "x", "s"), node("Reshape", "s flat", "moved"), node("Concat", "moved moved", "joined", axis=0),
        node("Reshape", "x flat", "plain"), node("Concat", "moved plain", "mixed", axis=0),
        node("Mul", "s two", "scaled"),
    ]  # fmt: skip
    constants = {"flat": np.array([-1]), "two": np.array(2, np.float32)}
    outputs = ("joined", "mixed", "scaled")
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 4)}, outputs=outputs)
    assert bounded_outputs(model) == ("joined",)


def test_parts_that_are_cut_out_and_changed(tmp_path: Path) -> None:
    model = save(
        [
            node("Split", "x", "xy wh score", axis=1),
            node("Mul", "xy two", "centre"),
            node("Exp", "wh", "size"),
            node("Sigmoid", "score", "confidence"),
            node("Concat", "centre size confidence", "y", axis=1),
        ],
        {"two": np.asarray(2, np.float32)},
        tmp_path / "m.onnx",
        inputs={"x": (1, 6, 3, 3)},
    )
    found = parts_of(model, random_feeds(model, 1)[0])["y"]
    assert found.names == ("centre", "size", "confidence")
    assert (found.labels == np.array([0, 0, 1, 1, 2, 2])[None, :, None, None]).all()


def test_an_output_of_one_layer_has_no_parts(tmp_path: Path) -> None:
    constants = {"w": np.ones((5, 3, 1, 1), np.float32)}
    model = save(
        [node("Conv", "x w", "c"), node("Relu", "c", "y")], constants, tmp_path / "m.onnx", inputs={"x": (1, 3, 2, 2)}
    )
    assert parts_of(model, random_feeds(model, 1)[0]) == {}


def test_a_list_is_not_taken_for_parts(tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(80)]
    nodes = [*(node("Relu", "x", name) for name in names), node("Concat", " ".join(names), "y", axis=1)]
    model = save(nodes, {}, tmp_path / "m.onnx", inputs={"x": (1, 2)})
    assert parts_of(model, random_feeds(model, 1)[0]) == {}


def test_the_stage_writes_what_is_read_again(tmp_path: Path) -> None:
    model = head(tmp_path / "m.onnx")
    feeds = random_feeds(model, 2)
    np.savez(tmp_path / "x.npz", x=np.concatenate([feed["x"] for feed in feeds]))
    samples = find_samples(str(tmp_path / "x.npz"), model.inputs, None)
    found = read_parts(find_parts(model, samples, tmp_path / "out"))
    assert found["y"].names == parts_of(model, feeds[0])["y"].names
    assert (found["y"].labels == parts_of(model, feeds[0])["y"].labels).all()


def test_a_tensor_that_is_put_in_twice_is_two_parts(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w1", "boxes"),
        node("Conv", "x w2", "scores"),
        node("Concat", "boxes scores boxes", "y", axis=1),
    ]
    constants = {"w1": np.ones((4, 3, 1, 1), np.float32), "w2": np.ones((2, 3, 1, 1), np.float32)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 3, 4, 4)})
    found = parts_of(model, random_feeds(model, 1)[0])
    assert found["y"].names == ("boxes", "scores", "boxes (2)")
    outputs = {"y": np.ones((1, 10, 4, 4))}
    energies = PartEnergies(["y"], found, sample_means(["y"], [outputs]))
    for _ in range(3):
        energies.add(outputs, {"y": np.zeros((1, 10, 4, 4))})
    assert balance(energies.energies(), 0).n == 3
