"""Every task where nothing but numpy, Click and an engine can be imported, and Pillow for files: the same answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from bare_device import BareDevice
from PIL import Image
from shape_data import draw, write_yolo_detector
from signal_models import classifier, embedder, linear, listener, reader
from small_bundles import onnx_outputs, small_facts, small_onnx
from sounds import encode_wav, noise
from tokenizers_made import tokenizer_bytes, vocabulary

from edgepack.bundle.pack import pack
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model
from edgepack.runtime.load import load
from edgepack.specs.data import Preprocessing
from edgepack.specs.task import Task
from edgepack.tasks import TASKS, Making, prepare
from edgepack.verify.golden import Golden, write_golden
from edgepack.verify.tolerance import widest

pytestmark = pytest.mark.slow

TARGET = load_target("host-onnxruntime")
TEXT = "I lost my card in New York"
TOKENS = len(vocabulary())


@dataclass(frozen=True)
class Case:
    """A model, its task, what is asked (a text, an array or a file), and how golden inputs are made where not of it."""

    model: Path
    task: Task
    thing: Any
    made: Preprocessing | None = None
    feeds: dict[str, np.ndarray] | None = None


def _small(folder: Path) -> Case:
    task = Task("image-classification", classes=tuple("abcde"))
    return Case(small_onnx(folder / "m.onnx"), task, draw(3)[0], Preprocessing(resize=(8, 8)))


def _boxes(folder: Path, kind: str, **parameters: Any) -> Case:
    model = write_yolo_detector(folder / "m.onnx", points=bool(parameters))
    task = Task(kind, "yolo", {"score": 0.3}, parameters, classes=("thing", "other"))
    return Case(model, task, draw(3)[0], Preprocessing(resize=(64, 64), letterbox=True, scale=1 / 255))


def _mask(folder: Path) -> Case:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,3,32,32] image) => (float[1,2,16,16] scores) {
            scores = Conv<kernel_shape=[2,2], strides=[2,2]>(image, w, b)
        }"""
    )
    values = {"w": np.stack([np.full((3, 2, 2), -1 / 12), np.full((3, 2, 2), 1 / 12)]), "b": np.array([0.3, -0.3])}
    for name, value in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    onnx.save(model, folder / "m.onnx")
    task = Task("semantic-segmentation", classes=("ground", "shape"))
    return Case(folder / "m.onnx", task, draw(3)[0], Preprocessing(resize=(32, 32), letterbox=True, scale=1 / 255))


def _text(folder: Path, kind: str) -> Case:
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes())
    random = np.random.default_rng(0)
    table, weight = random.normal(size=(TOKENS, 6)), random.normal(size=(6, 3))
    make = classifier if kind == "text-classification" else embedder
    names = () if kind == "sentence-embedding" else ("O", "B-x", "I-x")
    task = Task(kind, classes=names, input={"tokenizer": "tokenizer.json"})
    return Case(make(folder / "m.onnx", table, weight), task, TEXT)


def _line(folder: Path) -> Case:
    model = reader(folder / "m.onnx", [0, 64 / 255, 128 / 255, 192 / 255], "a\nb\nc")
    made = Preprocessing(resize=(8, 64), letterbox=True, anchor="top-left", pad=0, scale=1 / 255)
    greys = [grey for letter in "cabba" for grey in [0] * 4 + [{"a": 64, "b": 128, "c": 192}[letter]] * 4]
    picture = np.broadcast_to(np.array([*greys, 0, 0, 0, 0], np.uint8)[None, :, None], (8, 44, 3)).copy()
    return Case(model, Task("text-recognition", classes=("a", "b", "c")), picture, made)


def _sound(folder: Path) -> Case:
    weight = np.random.default_rng(0).normal(size=(19 * 16, 2))
    model = linear(folder / "m.onnx", weight, np.zeros(2), ("N", 1, 19, 16))
    (folder / "a.wav").write_bytes(encode_wav(noise(5000), 22050))
    made = {
        "length": 4000, "features": "log-mel", "definition": "tensorflow", "window_length": 400, "hop": 200, "mels": 16,
    }  # fmt: skip
    return Case(model, Task("audio-classification", classes=("low", "high"), input=made), folder / "a.wav")


def _speech(folder: Path) -> Case:
    model = onnx.load(listener(folder / "m.onnx"))
    del model.graph.input[2]  # the rate, which is fixed
    onnx.save(model, folder / "m.onnx")
    sound = np.concatenate([np.zeros(8000), np.tile([0.25, -0.25], 8000), np.zeros(8000)])
    (folder / "a.wav").write_bytes(encode_wav(sound, 16000))
    feeds = {"input": np.zeros((1, 576), np.float32), "state": np.zeros((2, 1, 4), np.float32)}
    return Case(
        folder / "m.onnx", Task("voice-activity", input={"next_state": "next"}), folder / "a.wav", feeds=feeds
    )  # fmt: skip


def _row(folder: Path, kind: str, outputs: int) -> Case:
    weight = np.random.default_rng(0).normal(size=(4, outputs))
    names = ("x", "y", "z") if kind == "tabular-classification" else ()
    settings: dict[str, Any] = {"threshold": 0.1} if kind == "anomaly-score" else {}
    thing = np.array([6.0, 2.9, 4.5, 1.5], np.float32)
    model = linear(folder / "m.onnx", weight, np.zeros(outputs))
    return Case(model, Task(kind, settings=settings, classes=names), thing)


def _tensors(folder: Path) -> Case:
    thing = np.arange(3 * 64, dtype=np.float32).reshape(1, 3, 8, 8)
    return Case(small_onnx(folder / "m.onnx"), Task("tensors"), thing, feeds={"image": thing})


CASES: dict[str, Callable[[Path], Case]] = {
    "image-classification": _small,
    "object-detection": lambda folder: _boxes(folder, "object-detection"),
    "keypoints": lambda folder: _boxes(folder, "keypoints", points=1),
    "semantic-segmentation": _mask,
    "text-classification": lambda folder: _text(folder, "text-classification"),
    "sentence-embedding": lambda folder: _text(folder, "sentence-embedding"),
    "token-classification": lambda folder: _text(folder, "token-classification"),
    "text-recognition": _line,
    "audio-classification": _sound,
    "voice-activity": _speech,
    "tabular-classification": lambda folder: _row(folder, "tabular-classification", 3),
    "regression": lambda folder: _row(folder, "regression", 1),
    "anomaly-score": lambda folder: _row(folder, "anomaly-score", 1),
    "tensors": _tensors,
}
DEVICE = """
import json, sys
import numpy as np
from edgepack import load
bundle, *things = sys.argv[1:]
with load(bundle) as model:
    for thing in things:
        answer = model.predict(np.load(thing) if thing.endswith(".npy") else thing)
        print(json.dumps([answer.summary(), list(answer.lines())]))
taken = {name.partition(".")[0] for name in sys.modules}
assert not taken & {"onnx", "scipy", "torch", "tokenizers", "librosa", "soundfile", "cv2", "sklearn"}, taken
"""


def packed(case: Case, folder: Path) -> Path:
    """Return an fp32 bundle for ONNX Runtime."""
    model = load_model(case.model)
    compiled = get_backend("onnxruntime").compile_model(model, TARGET, "fp32", folder / "compiled")
    read = (folder / "tokenizer.json").read_bytes() if (folder / "tokenizer.json").exists() else b""
    making = Making(case.task, compiled.inputs, case.made, lambda _name: read)
    feeds = case.feeds or dict(prepare(case.thing, making).feeds)
    outputs = onnx_outputs(case.model, feeds)
    golden = write_golden(Golden((feeds,), (outputs,), {name: widest("fp32") for name in outputs}), folder / "g.npz")
    files = {"tokenizer.json": folder / "tokenizer.json"} if read else {}
    facts = small_facts(
        target=TARGET, preprocessing=case.made, classes=case.task.classes, task=case.task, task_files=files
    )
    return pack(compiled, golden, facts, folder)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> BareDevice:
    return BareDevice(tmp_path_factory.mktemp("device") / "site", "onnxruntime")


@pytest.fixture(scope="module")
def with_pillow(tmp_path_factory: pytest.TempPathFactory) -> BareDevice:
    return BareDevice(tmp_path_factory.mktemp("pillow") / "site", "onnxruntime", "PIL")


def test_every_task_is_tried() -> None:
    assert set(CASES) == set(TASKS.own)


@pytest.mark.parametrize("kind", CASES)
def test_a_device_with_numpy_alone_answers_the_same(kind: str, tmp_path: Path, device: BareDevice) -> None:
    case = CASES[kind](tmp_path)
    bundle = packed(case, tmp_path)
    thing = case.thing
    if isinstance(thing, np.ndarray):
        thing = tmp_path / "thing.npy"
        np.save(thing, case.thing)
    done = device.python("-c", DEVICE, bundle, thing)
    assert done.returncode == 0, done.stderr
    with load(bundle) as model:
        here = model.predict(case.thing)
    told, lines = json.loads(done.stdout)
    assert lines == list(here.lines())
    assert len(lines) > 0
    assert told == json.loads(json.dumps(here.summary()))


@pytest.mark.parametrize("kind", ["image-classification", "object-detection", "keypoints", "semantic-segmentation",
                                  "text-recognition"])  # fmt: skip
def test_picture_files_need_pillow_alone(kind: str, tmp_path: Path, with_pillow: BareDevice) -> None:
    case = CASES[kind](tmp_path)
    bundle = packed(case, tmp_path)
    Image.fromarray(case.thing).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", case.thing)
    done = with_pillow.python("-c", DEVICE, bundle, tmp_path / "a.png", tmp_path / "a.npy")
    assert done.returncode == 0, done.stderr
    of_file, of_array = done.stdout.splitlines()
    assert of_file == of_array
    said = with_pillow.edgepack("run", bundle, "--input", tmp_path / "a.png")
    assert (said.returncode, said.stdout.splitlines()) == (0, json.loads(of_file)[1])
