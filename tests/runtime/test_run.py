"""Running a bundle on the user's own input."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
from small_bundles import CLASSES, onnx_outputs, small_bundle, small_compiled, small_facts, small_golden

from edgepack.base.documents import to_json
from edgepack.bundle.archive import open_bundle
from edgepack.bundle.pack import pack
from edgepack.errors import DataError
from edgepack.runtime.load import load
from edgepack.runtime.run import Answer, read_feeds, run
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import RunOptions

PICTURE = Preprocessing(resize=(8, 8), scale=1 / 255)


@pytest.fixture
def image():
    return np.random.default_rng(4).standard_normal((1, 3, 8, 8), np.float32)


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "input.npz", **arrays)
    return tmp_path / "input.npz"


def test_an_npz_with_one_sample(bundle_path, image, tmp_path):
    answer = run(bundle_path, saved(tmp_path, image=image, labels=np.zeros(1)))
    wanted = onnx_outputs(small_compiled(tmp_path / "c").folder / "model.onnx", {"image": image})["scores"]
    np.testing.assert_allclose(answer.outputs["scores"], wanted, rtol=1e-5)
    assert answer.top5 is not None
    assert [name for name, _ in answer.top5] == [CLASSES[i] for i in np.argsort(-wanted[0])]
    assert [score for _, score in answer.top5] == sorted(answer.outputs["scores"][0].tolist(), reverse=True)


def test_several_samples_have_no_best_classes(bundle_path, image, tmp_path):
    answer = run(bundle_path, saved(tmp_path, image=np.concatenate([image, image])))
    assert answer.outputs["scores"].shape == (2, 5)
    assert answer.top5 is None


def test_more_samples_than_the_models_fixed_batch(tmp_path, image):
    """A model fixed to batches of 2 gets 6 samples."""
    import onnx

    compiled = small_compiled(tmp_path / "compiled")
    path = compiled.folder / "model.onnx"
    six = np.random.default_rng(5).standard_normal((6, 3, 8, 8), np.float32)
    wanted = onnx_outputs(path, {"image": six})["scores"]
    two = {"image": np.zeros((2, 3, 8, 8), np.float32)}
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(proto, path)
    inputs, outputs = (TensorSpec("image", "float32", (2, 3, 8, 8)),), (TensorSpec("scores", "float32", (2, 5)),)
    compiled = dataclasses.replace(compiled, inputs=inputs, outputs=outputs)
    from edgepack.verify.golden import Golden, write_golden
    from edgepack.verify.tolerance import tolerance

    vectors = Golden((two,), (onnx_outputs(path, two),), {"scores": tolerance("fp32")})
    bundle = pack(compiled, write_golden(vectors, tmp_path / "g.npz"), small_facts(), tmp_path)
    found = run(bundle, saved(tmp_path, image=six)).outputs["scores"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    with pytest.raises(DataError, match="image"):
        run(bundle, saved(tmp_path, image=image))


def test_a_picture(tmp_path):
    image = pytest.importorskip("PIL.Image")
    bundle = small_bundle(tmp_path, preprocessing=PICTURE)
    pixels = np.random.default_rng(6).integers(0, 256, (8, 8, 3), np.uint8)
    image.fromarray(pixels).save(tmp_path / "picture.png")
    found = run(bundle, tmp_path / "picture.png")
    feed = (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    wanted = onnx_outputs(tmp_path / "compiled" / "model.onnx", {"image": feed})["scores"]
    np.testing.assert_allclose(found.outputs["scores"], wanted, rtol=1e-4, atol=1e-5)
    assert found.top5 is not None


def test_a_picture_for_a_bundle_without_preprocessing(bundle_path, tmp_path):
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match="no preprocessing") as caught:
        run(bundle_path, tmp_path / "picture.jpg")
    assert "numpy.savez" in caught.value.hint


def test_a_picture_that_is_damaged(tmp_path):
    pytest.importorskip("PIL")
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    with pytest.raises(DataError, match=r"picture\.jpg"):
        run(small_bundle(tmp_path, preprocessing=PICTURE), tmp_path / "picture.jpg")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "no array 'image'"),
        ({"picture": np.zeros((1, 3, 8, 8), np.float32)}, "no array 'image'; it has picture"),
        ({"image": np.zeros((1, 3, 8, 8), np.float64)}, "float64"),
        ({"image": np.zeros((3, 8, 8), np.float32)}, "dimensions"),
        ({"image": np.zeros((1, 3, 9, 8), np.float32)}, "shape"),
        ({"image": np.zeros((0, 3, 8, 8), np.float32)}, "empty"),
        ({"image": np.zeros((1, 3, 8, 8), np.float32), "imagee": np.zeros(2)}, "not inputs of .*: 'imagee'"),
        ({"image": np.full((1, 3, 8, 8), np.nan, np.float32)}, "NaN"),
        ({"image": np.full((1, 3, 8, 8), np.inf, np.float32)}, "an infinite number"),
        ({"image": np.array([{}], object)}, "Python objects, not numbers"),
        ({"image": np.array("text")}, "not numbers"),
    ],
)
def test_arrays_that_do_not_fit(bundle_path, tmp_path, arrays, words):
    with pytest.raises(DataError, match=words) as caught:
        run(bundle_path, saved(tmp_path, **arrays))
    assert caught.value.hint


def test_labels_beside_the_inputs_are_no_fault(bundle_path, tmp_path):
    arrays = {"image": np.zeros((1, 3, 8, 8), np.float32), "labels": np.zeros(1, int)}
    assert run(bundle_path, saved(tmp_path, **arrays)).outputs


def test_files_that_are_no_input(bundle_path, tmp_path):
    manifest = open_bundle(bundle_path).manifest
    for name, data in (("a.npz", b"PK\3\4 cut off"), ("b.npz", b""), ("c.npz", b"text")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=r"not a complete \.npz"):
            read_feeds(tmp_path / name, manifest)
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(DataError, match="which input"):
        read_feeds(tmp_path / "d.npy", manifest)
    with pytest.raises(DataError, match="is a folder"):
        read_feeds(tmp_path, manifest)
    with pytest.raises(DataError, match="there is no file"):
        read_feeds(tmp_path / "absent.npz", manifest)
    with pytest.raises(DataError, match="two words") as caught:
        read_feeds(tmp_path / "two words", manifest)
    assert "not a sentence" in caught.value.hint
    with pytest.raises(DataError, match="cannot read"):
        read_feeds(tmp_path / "a\0b", manifest)


def test_the_summary_is_json_whatever_comes_out():
    values = {
        "a": np.array([1.0, np.nan, np.inf, -np.inf], np.float32),
        "b": np.arange(6, dtype=np.int64).reshape(2, 3),
    }
    large = {"c": np.zeros(20_000, np.float32), "d": np.float32(2.5).reshape(()), "e": np.array([[True]])}
    summary = json.loads(to_json(Answer({**values, **large}, (("cat", 0.5), ("dog", float("nan")))).summary()))
    assert summary["outputs"]["a"]["values"] == [1.0, "nan", "inf", "-inf"]
    assert summary["outputs"]["b"] == {"dtype": "int64", "shape": [2, 3], "values": [[0, 1, 2], [3, 4, 5]]}
    assert summary["outputs"]["c"]["values"] is None
    assert summary["outputs"]["d"]["values"] == 2.5
    assert summary["outputs"]["e"]["values"] == [[True]]
    assert summary["top5"] == [{"class": "cat", "score": 0.5}, {"class": "dog", "score": "nan"}]


def test_an_engine_that_stands_in_for_another_speaks(tmp_path):
    from jetson_bundles import feeds_for, jetson_bundle

    answer = run(
        jetson_bundle("dynamic-fp32", tmp_path, "nvidia-gpu"),
        saved(tmp_path, **feeds_for("dynamic-fp32")),
        RunOptions(device="CPU"),
    )
    assert answer.notes[0].startswith("not used: ")
    assert "run by onnxruntime instead" in answer.notes
    assert json.loads(to_json(answer.summary()))["notes"] == list(answer.notes)


def test_a_text_that_was_read_in_part_is_noted():
    from edgepack.runtime.run import _unread
    from edgepack.specs.task import Frame

    assert _unread(None) == _unread(Frame(text="all of it")) == ()
    (note,) = _unread(Frame(text="a sentence that goes on", read_to=10))
    assert "of its 23 characters the first 10 were read, up to 'a sentence'" in note


def test_golden_inputs_can_be_run(bundle_path, tmp_path):
    from edgepack.bundle.archive import read_member
    from edgepack.verify.golden import read_golden

    vectors = read_golden(read_member(open_bundle(bundle_path), "golden.npz"))
    answer = run(bundle_path, saved(tmp_path, **vectors.inputs[1]))
    np.testing.assert_allclose(answer.outputs["scores"], vectors.outputs[1]["scores"], rtol=1e-5)
    assert small_golden is not None


def test_a_pipe_does_not_block(bundle_path, tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(DataError, match="not a regular file"):
        run(bundle_path, tmp_path / "x.npz")


def test_a_small_file_that_expands_is_not_expanded(bundle_path, tmp_path):
    """300 MB of zeros in 300 kB."""
    np.savez_compressed(tmp_path / "x.npz", image=np.zeros((300 << 20,), np.uint8))
    with pytest.raises(DataError, match="is compressed and takes"):
        run(bundle_path, tmp_path / "x.npz")


def test_run_and_predict_give_the_same_answer_of_a_bundle_that_says_no_task(tmp_path):
    image = pytest.importorskip("PIL.Image")
    bundle = small_bundle(tmp_path, preprocessing=PICTURE)
    image.fromarray(np.random.default_rng(6).integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "picture.png")
    found = run(bundle, tmp_path / "picture.png")
    with load(bundle) as model:
        assert found.answer is not None
        assert list(found.answer.lines()) == list(model.predict(tmp_path / "picture.png").lines())
