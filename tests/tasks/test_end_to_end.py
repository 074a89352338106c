"""From what people have to what they want: data in its own form, a small network, a bundle, and its answers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from bare_device import BareDevice
from PIL import Image
from signal_models import classifier, embedder, linear, listener, reader
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sounds import encode_wav
from tokenizers_made import tokenizer_bytes, vocabulary

from edgepack.bundle.archive import open_bundle
from edgepack.data.audio.features import sound_input
from edgepack.data.audio.wav import Wav
from edgepack.data.recipes import load_recipe
from edgepack.data.sound_folder import sound_settings
from edgepack.errors import DataError
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings
from edgepack.runtime.limited import run_within
from edgepack.runtime.load import load
from edgepack.specs.build import BuildRow

pytestmark = pytest.mark.long

LOST, NEW = (
    ("lost my card", "where is my money", "the card is not in the"),
    ("hello new york", "a new world", "run in the new world"),
)


def built(tmp_path: Path, model: Path, precision: str = "int8", **settings) -> tuple[BuildRow, Path]:
    made = BuildSettings(
        model=str(model), targets=("host-onnxruntime",), precisions=(precision,), benchmark=False,
        out=str(tmp_path / "out"), **settings,
    )  # fmt: skip
    (row,) = build(made, Store(tmp_path / "store")).rows
    assert row.bundle is not None, row.reason
    return row, Path(row.bundle)


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """What runs a bundle where only numpy, Click and ONNX Runtime can be imported."""
    return BareDevice(
        tmp_path_factory.mktemp("device") / "site", "onnxruntime", "flatbuffers", "google", "coloredlogs",
        "humanfriendly", "packaging",
    )  # fmt: skip


def said(device: BareDevice, bundle: Path, thing: object) -> list[str]:
    """Return what ``edgepack run`` prints there."""
    done = device.edgepack("run", bundle, "--input", thing)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def sentences(count: int = 60) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(0)
    texts = [
        (str(random.choice(kind)), name) for _ in range(count // 2) for kind, name in ((LOST, "lost"), (NEW, "new"))
    ]
    return [f"{text} {random.choice(['a', 'the', 'is'])}" for text, _ in texts], [name for _, name in texts]


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_bytes())
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*sentences(), strict=True)])
    return tmp_path


def bags() -> np.ndarray:
    """A row a token: which of the words of both kinds it is."""
    words = sorted({word for text in (*LOST, *NEW) for word in text.split()})
    table = np.zeros((len(vocabulary()), len(words)))
    for i, word in enumerate(words):
        table[vocabulary()[word], i] = 1
    return table


def test_a_sentence_is_put_into_its_class(texts, tmp_path, device):
    table = bags()
    words = sorted({word for text in (*LOST, *NEW) for word in text.split()})
    weight = np.array([[sum(w in t.split() for t in LOST), sum(w in t.split() for t in NEW)] for w in words], float)
    model = classifier(tmp_path / "m.onnx", table, weight - weight.mean())
    row, bundle = built(
        tmp_path, model, data=str(texts / "a.csv"), recipe="text-classification", metric="f1", max_drop=0.02
    )
    assert row.accuracy.metric == "f1"
    assert row.accuracy.fp32 > 0.9
    (texts / "tokenizer.json").unlink()  # what is in the bundle is what a device has
    found = run_within(bundle, "Hello, the NEW world!", None)
    assert found.answer.names[0] == "new"
    assert found.summary()["answer"]["classes"][0]["name"] == "new"
    with load(bundle) as loaded:
        assert loaded.predict("I lost my card").names[0] == "lost"
        assert loaded.predict("Hello, the NEW world!").scores == pytest.approx(found.answer.scores)
    assert said(device, bundle, "Hello, the NEW world!") == list(found.answer.lines())
    (tmp_path / "text.txt").write_text("I lost my card\n")
    assert said(device, bundle, tmp_path / "text.txt")[0].endswith(" lost")
    with pytest.raises(DataError, match=r"there is no file nofile\.txt"):  # not a sentence of one odd word
        run_within(bundle, "nofile.txt", None)
    with pytest.raises(DataError, match="holds many texts"):
        run_within(bundle, str(texts / "a.csv"), None)
    manifest = open_bundle(bundle).manifest
    assert manifest.classes == ("lost", "new")
    assert "tokenizer" not in manifest.task.input
    assert "task/tokenizer.json" in {entry.path for entry in manifest.files}


def test_a_sentence_becomes_a_vector(texts, tmp_path):
    random = np.random.default_rng(0)
    model = embedder(tmp_path / "m.onnx", bags(), random.normal(size=(bags().shape[1], 8)))
    row, bundle = built(tmp_path, model, data=str(texts / "a.csv"), recipe="minilm-embedding")
    assert row.accuracy.metric == "recall@1"
    assert row.accuracy.fp32 > 0.9
    with load(bundle) as loaded:
        one, other, third = (loaded.predict(text).values for text in (LOST[0], f"{LOST[0]} a", NEW[0]))
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-6)
    assert one @ other > one @ third


def test_a_sound_is_put_into_its_class_by_the_features_of_the_recipe(tmp_path, device):
    random = np.random.default_rng(0)
    recipe = tmp_path / "tones.toml"
    recipe.write_text(
        'title = "tones"\n[task]\nkind = "audio-classification"\nclasses = ["low", "high"]\n[task.input]\n'
        'length = 4000\nfeatures = "log-mel"\ndefinition = "tensorflow"\nwindow_length = 400\nhop = 200\nmels = 16\n'
    )
    settings = sound_settings(load_recipe(str(recipe)).task, "x")
    (tmp_path / "tones" / "low").mkdir(parents=True)
    (tmp_path / "tones" / "high").mkdir()
    features, labels = [], []
    for i in range(40):
        rate = (8000, 16000, 22050)[i % 3]
        pitch = (300 if i % 2 else 2500) * random.uniform(0.8, 1.2)
        sound = 0.3 * np.sin(2 * np.pi * pitch * np.arange(rate // 4) / rate) + random.normal(0, 0.02, rate // 4)
        name = ("high", "low")[i % 2]
        (tmp_path / "tones" / name / f"{i}.wav").write_bytes(encode_wav(sound, rate))
        features.append(sound_input(Wav(sound[:, None].astype(np.float32), rate), settings, "x").ravel())
        labels.append(i % 2 == 0)
    fitted = LogisticRegression(max_iter=300).fit(features, labels)
    weight = np.concatenate([-fitted.coef_, fitted.coef_]).T
    model = linear(
        tmp_path / "m.onnx", weight, np.array([-fitted.intercept_[0], fitted.intercept_[0]]), ("N", 1, 19, 16)
    )
    row, bundle = built(
        tmp_path, model, data=str(tmp_path / "tones"), recipe=str(recipe), metric="auroc", max_drop=0.05
    )
    assert row.accuracy.fp32 == pytest.approx(1, abs=0.05)
    for name in ("low", "high"):
        found = run_within(bundle, next((tmp_path / "tones" / name).iterdir()), None)
        assert found.answer.names[0] == name
    assert said(device, bundle, next((tmp_path / "tones" / "high").iterdir())) == list(found.answer.lines())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_row_is_put_into_its_class(tmp_path, suffix, device):
    data = load_iris()
    names, kinds = ["sl", "sw", "pl", "pw"], list(data.target_names)
    rows = [(*map(float, row), kinds[label]) for row, label in zip(data.data, data.target, strict=True)]
    path = tmp_path / f"iris{suffix}"
    if suffix == ".csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in [(*names, "class"), *rows]))
    else:
        path.write_text("\n".join(json.dumps(dict(zip([*names, "class"], map(str, row), strict=True))) for row in rows))
    fitted = LogisticRegression(max_iter=500).fit(data.data, data.target)
    model = linear(tmp_path / "m.onnx", fitted.coef_.T, fitted.intercept_)
    row, bundle = built(tmp_path, model, data=str(path), recipe="tabular", metric="f1", max_drop=0.05)
    assert row.accuracy.fp32 > 0.9
    (tmp_path / "one.csv").write_text("sl,sw,pl,pw\n6.0,2.9,4.5,1.5\n")
    right = kinds[fitted.predict([[6.0, 2.9, 4.5, 1.5]])[0]]
    assert run_within(bundle, tmp_path / "one.csv", None).answer.names[0] == right
    assert said(device, bundle, tmp_path / "one.csv")[0].endswith(f" {right}")
    with load(bundle) as loaded:
        assert loaded.predict({"sl": 6.0, "sw": 2.9, "pl": 4.5, "pw": 1.5}).names[0] == right


def test_a_number_is_predicted_and_its_error_limited_in_its_own_unit(tmp_path):
    x, y = load_diabetes(return_X_y=True)
    solved = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*(f"x{i}" for i in range(10)), "y"], *np.column_stack([x, y]).tolist()])
    model = linear(tmp_path / "m.onnx", solved[:-1, None], solved[-1:])
    row, bundle = built(tmp_path, model, data=str(tmp_path / "a.csv"), recipe="tabular-regression", max_drop=2.0)
    assert row.accuracy.metric == "mae"
    assert 30 < row.accuracy.fp32 < 60
    assert row.accuracy.drop == pytest.approx(row.accuracy.value - row.accuracy.fp32)
    with load(bundle) as loaded:
        assert loaded.predict(x[0]).values[0] == pytest.approx(float(x[0] @ solved[:-1] + solved[-1]), abs=5)


def test_speech_is_found_in_a_sound_chunk_after_chunk(tmp_path, device):
    recipe = tmp_path / "loud.toml"
    recipe.write_text('title = "loud"\n[task]\nkind = "voice-activity"\n[task.input]\nnext_state = "next"\n')
    fixed = {"shapes": {"input": "Bx576"}, "constants": {"sr": "16000"}}
    _, bundle = built(tmp_path, listener(tmp_path / "m.onnx"), "fp32", recipe=str(recipe), **fixed)
    sound = np.concatenate([np.zeros(8000), np.tile([0.25, -0.25], 8000), np.zeros(8000)])  # exact in 16 bits
    (tmp_path / "a.wav").write_bytes(encode_wav(sound, 16000))
    found = run_within(bundle, tmp_path / "a.wav", None)
    (segment,) = found.answer.segments
    assert segment.start == pytest.approx(0.5, abs=0.1)
    assert segment.end == pytest.approx(1.5, abs=0.15)
    assert found.outputs["speech"].shape == (63,)
    assert said(device, bundle, tmp_path / "a.wav") == list(found.answer.lines())
    with load(bundle) as loaded:
        assert loaded.predict(sound).segments == found.answer.segments


def test_a_bundle_that_was_built_without_texts_says_what_it_lacks(tmp_path):
    model = classifier(tmp_path / "m.onnx", bags(), np.ones((bags().shape[1], 2)))
    _, bundle = built(tmp_path, model, "fp32", recipe="text-classification")
    with load(bundle) as loaded, pytest.raises(DataError, match=r"was built without tokenizer\.json") as error:
        loaded.predict("the card")
    assert "tokenizer.json beside the data" in error.value.hint


LINE = """
title = "letters that are greys"
[task]
kind = "text-recognition"
[preprocessing]
letterbox = true
resize = [8, 640]
stride = 8
anchor = "top-left"
pad = 0
scale = 0.00392156862745098
"""


def line(text: str) -> np.ndarray:
    """Four black columns and four of the letter's grey for each letter, uint8 [8, width, 3]."""
    columns = [grey for letter in text for grey in [0] * 4 + [{"a": 64, "b": 128, "c": 192}[letter]] * 4]
    return np.broadcast_to(np.array([*columns, 0, 0, 0, 0], np.uint8)[None, :, None], (8, 8 * len(text) + 4, 3)).copy()


def test_a_line_is_read_with_the_letters_that_the_model_notes(tmp_path):
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("abc"), random.integers(1, 9))) for _ in range(30)]
    (tmp_path / "lines").mkdir()
    for i, text in enumerate(texts):
        Image.fromarray(line(text)).save(tmp_path / "lines" / f"{i}.png")
    rows = "".join(f"{i}.png,{text}\n" for i, text in enumerate(texts))
    (tmp_path / "lines" / "labels.csv").write_text(f"file,label\n{rows}")
    (tmp_path / "line.toml").write_text(LINE)
    model = reader(tmp_path / "m.onnx", [0, 64 / 255, 128 / 255, 192 / 255], "a\nb\nc")
    row, bundle = built(
        tmp_path, model, data=str(tmp_path / "lines"), recipe=str(tmp_path / "line.toml"), max_drop=0.01
    )
    assert row.accuracy.metric == "cer"
    assert (row.accuracy.fp32, row.accuracy.value) == (0, 0)
    assert open_bundle(bundle).manifest.classes == ("a", "b", "c")
    with load(bundle) as loaded:
        assert loaded.predict(line("cabba")).text == "cabba"
    assert run_within(bundle, tmp_path / "lines" / "0.png", None).answer.text == texts[0]
